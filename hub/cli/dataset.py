"""`parcelhub dataset`: labelled images, checked here and pushed to the hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from hub.cli.common import connect, counting, err, json_option, out, print_json, settings_options, table, when
from hub.errors import InputError
from hub.settings import Settings

if TYPE_CHECKING:
    from finetune.datasets import Dataset
    from hub.client import HubClient, ProgressCallback
    from hub.schemas import Commit

folder_argument = click.argument("folder", type=click.Path(path_type=Path))


@click.group()
def dataset() -> None:
    """Datasets: check, push, list, show."""


@dataset.command("check")
@folder_argument
@json_option
@settings_options
def check(settings: Settings, folder: Path, as_json: bool) -> None:  # noqa: ARG001  # the same options everywhere
    """Read a dataset (COCO or YOLO segmentation) and say what is in it; nothing is sent.

    \b
    Example:
      parcelhub dataset check ./dock-7
    """
    found = read(folder)
    if as_json:
        print_json(_facts(found))
        return
    rows = table(f"{found.name}: {len(found.samples)} images", "class", "instances")
    for name, count in found.counts().items():
        rows.add_row(name, str(count))
    out.print(rows)
    _warn(found)


@dataset.command("push")
@folder_argument
@click.argument("name", metavar="TEAM/NAME")
@click.option("--message", "-m", default="", help="What is new in this revision.")
@click.option("--licence", default="unknown", show_default=True, help="Goes on the dataset card.")
@json_option
@settings_options
def push(settings: Settings, folder: Path, name: str, message: str, licence: str, as_json: bool) -> None:
    """Check a dataset and push it; only files that the hub lacks travel.

    \b
    Example:
      parcelhub dataset push ./dock-7 acme/dock-7 -m "the first 120 frames"
    """
    found = read(folder)
    _warn(found)
    with connect(settings) as client, counting(f"pushing {name}") as progress:
        commit = push_dataset(client, found, name, message, licence=licence, progress=progress)
    if as_json:
        print_json(commit)
    else:
        out.print(f"pushed [bold]{name}[/] at {commit.id[:12]}: {len(found.samples)} images")


@dataset.command("list")
@json_option
@settings_options
def list_(settings: Settings, as_json: bool) -> None:
    """List the datasets at the hub.

    \b
    Example:
      parcelhub dataset list
    """
    with connect(settings) as client:
        repos = client.repos("dataset")
    if as_json:
        print_json(repos)
        return
    rows = table("Datasets", "dataset", "made at")
    for repo in repos:
        rows.add_row(f"{repo.namespace}/{repo.name}", when(repo.created_at))
    out.print(rows)


@dataset.command("show")
@click.argument("name", metavar="TEAM/NAME[@REVISION]")
@json_option
@settings_options
def show(settings: Settings, name: str, as_json: bool) -> None:
    """Show a dataset at the hub: its revision, its files, its card.

    \b
    Example:
      parcelhub dataset show acme/dock-7
    """
    repo, _, revision = name.partition("@")
    with connect(settings) as client:
        tree = client.tree("dataset", repo, revision or "main")
        if as_json:
            print_json(tree)
            return
        size = sum(file.size for file in tree.files)
        out.print(f"[bold]{repo}[/] at {tree.commit[:12]}: {len(tree.files)} files, {size / 1e6:.1f} MB")
        if any(file.path == "README.md" for file in tree.files):
            from rich.markdown import Markdown

            with tempfile.TemporaryDirectory() as folder:
                card = Path(folder, "README.md")
                client.download("dataset", repo, tree.commit, "README.md", card)
                text = card.read_text(encoding="utf-8", errors="replace")
            out.print(Markdown(text.split("---\n", 2)[-1] if text.startswith("---\n") else text))


def read(folder: Path) -> Dataset:
    """The dataset in a folder; raises DatasetError naming the file and line to repair."""
    if not folder.is_dir():
        raise InputError(f"{folder}: {'not a folder' if folder.exists() else 'does not exist'}")
    from finetune.datasets import read_dataset

    return read_dataset(folder)


def push_dataset(
    client: HubClient,
    found: Dataset,
    name: str,
    message: str,
    *,
    licence: str = "unknown",
    progress: ProgressCallback,
) -> Commit:
    """Write the dataset in the form that the hub stores, and make the repository's `main` hold it."""
    from finetune.datasets import write_dataset

    with tempfile.TemporaryDirectory(prefix="parcelhub-push-") as folder:
        target = Path(folder) / name.replace("/", "-")
        write_dataset(found, target, licence=licence)
        said = message or f"{len(found.samples)} images"
        return client.push_folder("dataset", name, target, said, progress)


def _facts(found: Dataset) -> dict[str, object]:
    labelled = sum(bool(sample.labels) for sample in found.samples)
    return {
        "name": found.name,
        "images": len(found.samples),
        "images_labelled": labelled,
        "instances": found.counts(),
        "warnings": list(found.warnings),
    }


def _warn(found: Dataset) -> None:
    for warning in found.warnings:
        err.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)

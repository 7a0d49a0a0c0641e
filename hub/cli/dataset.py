"""`parcelhub dataset`: labelled images, checked here and pushed to the hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click
from rich.markup import escape

from hub.cli.common import connect, counting, err, json_option, out, print_json, settings_options, table, when
from hub.errors import EXIT_USAGE, InputError
from hub.settings import Settings

if TYPE_CHECKING:
    from finetune.datasets import Dataset
    from finetune.quality import QualityReport
    from hub.client import HubClient, ProgressCallback
    from hub.schemas import Commit

# Written out: the help of a command must not wait for the import of the floor below. A test holds the two together.
FORMAT_NAMES = (
    *("coco", "coco-uncompressed", "coco-polygons", "yolo", "labelme", "labelme-masks", "voc-masks", "id-masks"),
    *("cvat", "cvat-polygons", "labelstudio", "labelstudio-polygons"),
)
folder_argument = click.argument("folder", type=click.Path(path_type=Path))


@click.group()
def dataset() -> None:
    """Datasets: check, convert, push, list, show."""


@dataset.command("check")
@folder_argument
@click.option("--quality", is_flag=True, help="Look over images, masks and classes too; errors end with code 2.")
@json_option
@settings_options
def check(settings: Settings, folder: Path, quality: bool, as_json: bool) -> int:  # noqa: ARG001  # the same everywhere
    """Read a dataset and say its format and what is in it; nothing is sent. docs/datasets.md lists the formats.

    \b
    Example:
      parcelhub dataset check ./dock-7
      parcelhub dataset check ./dock-7 --quality
    """
    found = read(folder)
    report = _quality(found) if quality else None
    code = EXIT_USAGE if report is not None and not report.usable else 0
    if as_json:
        print_json(_facts(found) | ({"quality": report} if report is not None else {}))
        return code
    rows = table(f"{found.name}: {len(found.samples)} images, format {found.format}", "class", "instances")
    for name, count in found.counts().items():
        rows.add_row(name, str(count))
    out.print(rows)
    if report is None:
        _warn(found)
        return code
    findings = table(f"{len(report.findings)} findings", "severity", "count", "what", "where")
    for finding in report.findings:
        where = "\n".join(escape(place) for place in finding.files)
        findings.add_row(finding.severity, str(finding.count), escape(finding.message), where)
    out.print(findings)
    return code


@dataset.command("convert")
@click.argument("source", metavar="SRC", type=click.Path(path_type=Path))
@click.argument("target", metavar="DST", type=click.Path(path_type=Path))
@click.option("--to", "name", required=True, metavar="FORMAT", help=f"One of {', '.join(FORMAT_NAMES)}.")
@json_option
@settings_options
def convert(settings: Settings, source: Path, target: Path, name: str, as_json: bool) -> None:  # noqa: ARG001
    """Write a dataset in another format; SRC's is found out. What the format cannot hold is counted and said.

    \b
    Example:
      parcelhub dataset convert ./dock-7 ./dock-7-cvat --to cvat
    """
    from finetune.datasets import FORMATS, export_dataset

    if name not in FORMATS:
        raise InputError(f"there is no format {name!r}; there are {', '.join(FORMATS)}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target}: exists already and is not an empty folder")
    with counting(f"reading {source.name}") as progress:
        found = read(source, progress)
    with counting(f"writing {target.name}") as progress:
        lost = export_dataset(found, target, name, progress=progress)
    if as_json:
        print_json(_facts(found) | {"target": str(target), "written": name, "lost": list(lost)})
        return
    _warn(found)
    for sentence in lost:
        err.print(f"lost: {sentence}", style="yellow", markup=False, highlight=False)
    count = sum(len(sample.masks) for sample in found.samples)
    said = f"{found.format} -> {name}: {len(found.samples)} images, {count} instances"
    out.print(f"{said}, written to {target}", markup=False, highlight=False)


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


def read(folder: Path, progress: ProgressCallback | None = None) -> Dataset:
    """The dataset in a folder; raises DatasetError naming the file and line to repair."""
    if not folder.is_dir():
        raise InputError(f"{folder}: {'not a folder' if folder.exists() else 'does not exist'}")
    from finetune.datasets import read_dataset

    return read_dataset(folder, progress=progress)


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


def _quality(found: Dataset) -> QualityReport:
    from finetune.quality import check_quality

    with counting(f"looking at {found.name}") as progress:
        return check_quality(found, progress=progress)


def _facts(found: Dataset) -> dict[str, object]:
    labelled = sum(bool(sample.labels) for sample in found.samples)
    return {
        "name": found.name,
        "format": found.format,
        "images": len(found.samples),
        "images_labelled": labelled,
        "instances": found.counts(),
        "warnings": list(found.warnings),
    }


def _warn(found: Dataset) -> None:
    for warning in found.warnings:
        err.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)

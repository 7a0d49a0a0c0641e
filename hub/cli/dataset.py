"""`parcelhub dataset`: labelled images, checked here and pushed to the hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click
from rich.markup import escape

from hub.cli.common import (
    connect,
    counting,
    err,
    json_option,
    out,
    print_json,
    settings_options,
    table,
    unpacked,
    weighing,
    when,
)
from hub.cli.contributions import show_contribution
from hub.error_table import EXIT_USAGE
from hub.errors import InputError
from hub.models.class_maps import ClassRow, in_words, labels_of, suggested
from registry.repos.cards import licence_of_folder

if TYPE_CHECKING:
    from finetune.datasets import Dataset
    from finetune.datasets.quality import QualityReport
    from hub.client.client import HubClient, ProgressCallback
    from hub.schemas.core import Commit
    from hub.settings import Settings

# Written out: the help of a command must not wait for the import of the floor below. A test holds the two together.
folder_argument = click.argument("folder", type=click.Path(path_type=Path))


@click.group()
def dataset() -> None:
    """Datasets: check, convert, push, pull, list, show, offer, delete."""


@dataset.command("check")
@folder_argument
@click.option("--quality", is_flag=True, help="Look over images, masks and classes too; errors end with code 2.")
@json_option
@settings_options
def check(settings: Settings, folder: Path, quality: bool, as_json: bool) -> int:
    """Read a dataset (a folder or a .zip) and say its format and what is in it; nothing is sent.

    docs/datasets.md lists the formats.
    Where the distribution's base is at hand, also what its labels would learn each class; `finetune submit --map`
    changes that.

    \b
    Example:
      parcelhub dataset check ./dock-7
      parcelhub dataset check ./dock-7 --quality
    """
    with unpacked(folder) as source:
        found = read(source)
        report = _quality(found) if quality else None
    code = EXIT_USAGE if report is not None and not report.usable else 0
    learnt, problem = _learnt(settings, found)
    if as_json:
        facts = _facts(found) | ({"learnt_as": {row.name: row.label for row in learnt}} if learnt else {})
        print_json(facts | ({"quality": report} if report is not None else {}))
        return code
    out.print(f"{found.name}: {len(found.samples)} images, format {found.format}", markup=False, highlight=False)
    rows = table("", "class", "instances", *(["learnt as"] if learnt else []))
    words = {row.name: in_words(row) for row in learnt}
    for name, count in found.counts().items():
        rows.add_row(escape(name), str(count), *([escape(words[name])] if learnt else []))
    out.print(rows)
    if problem:
        err.print(f"warning: {problem}", style="yellow", markup=False, highlight=False)
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
@click.option(
    "--to", "name", required=True, metavar="FORMAT", help="Such as coco, yolo or cvat; any other word lists them all."
)
@click.option("--leave-out-damaged", is_flag=True, help="Leave out and count images that cannot be decoded.")
@json_option
@settings_options
def convert(
    settings: Settings,  # noqa: ARG001
    source: Path,
    target: Path,
    name: str,
    leave_out_damaged: bool,
    as_json: bool,
) -> None:
    """Write a dataset (a folder or a .zip) in another format; SRC's is found out. What the format cannot hold is
    counted and said.

    \b
    Example:
      parcelhub dataset convert ./dock-7 ./dock-7-cvat --to cvat
      parcelhub dataset convert ./export.zip ./dock-7 --to coco
    """
    from finetune.datasets import FORMATS, export_dataset

    if name not in FORMATS:
        raise InputError(f"there is no format {name!r}; there are {', '.join(FORMATS)}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target}: exists already and is not an empty folder")
    with unpacked(source) as folder:
        with counting(f"reading {source.name}") as progress:
            found = read(folder, progress, leave_out_damaged=leave_out_damaged)
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
@click.option("--licence", help="Goes on the dataset card [default: what the folder's own card says].")
@click.option(
    "--private/--public",
    default=True,
    show_default=True,
    help="Whether a new dataset is for its team's eyes alone. One that exists stays as it is.",
)
@json_option
@settings_options
def push(
    settings: Settings, folder: Path, name: str, message: str, licence: str | None, private: bool, as_json: bool
) -> None:
    """Check a dataset (a folder or a .zip) and push it; only files that the hub lacks travel.

    A push that was interrupted goes on where it was when it is started again. Nobody sees half a dataset.

    \b
    Example:
      parcelhub dataset push ./dock-7 acme/dock-7 -m "the first 120 frames"
      parcelhub dataset push ./samples acme/samples --public --licence cc-by-4.0
    """
    with unpacked(folder) as source:
        found = read(source)
        _warn(found)
        with connect(settings) as client, weighing(f"pushing {name}") as progress:
            said = licence or licence_of_folder(source)
            commit = push_dataset(client, found, name, message, licence=said, progress=progress, private=private)
    if as_json:
        print_json(commit)
    else:
        out.print(f"pushed [bold]{name}[/] at {commit.id[:12]}: {len(found.samples)} images")


@dataset.command("pull")
@click.argument("name", metavar="TEAM/NAME[@REVISION]")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
@settings_options
def pull(settings: Settings, name: str, folder: Path, as_json: bool) -> None:
    """Fetch a dataset into a folder; files that are there already stay, each is checked by its sha256.

    \b
    Example:
      parcelhub dataset pull acme/dock-7 ./dock-7
      parcelhub dataset pull acme/dock-7@v2 ./dock-7-v2
    """
    from hub.client.transfer import pull_folder

    repo, _, revision = name.partition("@")
    with connect(settings) as client, weighing(f"pulling {repo}") as progress:
        tree = pull_folder(client, repo, revision or "main", folder, progress=progress)
    if as_json:
        print_json({"commit": tree.commit, "files": len(tree.files), "folder": str(folder)})
    else:
        out.print(f"pulled [bold]{repo}[/] at {tree.commit[:12]}: {len(tree.files)} files in {folder}")


@dataset.command("list")
@click.option("--team", help="Of one team alone.")
@click.option("--contains", help="Part of the name.")
@click.option("--offered", is_flag=True, help="Only those that are offered to the base.")
@json_option
@settings_options
def list_(settings: Settings, team: str | None, contains: str | None, offered: bool, as_json: bool) -> None:
    """List the datasets at the hub that you may see.

    \b
    Example:
      parcelhub dataset list --team acme
    """
    wanted = {"team": team, "q": contains, "offered": "true" if offered else None}
    with connect(settings) as client:
        found = client.datasets(limit=None, **{key: value for key, value in wanted.items() if value is not None})
    if as_json:
        print_json(found)
        return
    rows = table("Datasets", "dataset", "seen by", "offered", "commit", "changed at")
    for one in found:
        seen, offer = "its team" if one.private else "everybody", one.offered_by or "-"
        rows.add_row(one.name, seen, offer, (one.commit or "-")[:12], when(one.modified_at))
    out.print(rows)


@dataset.command("show")
@click.argument("name", metavar="TEAM/NAME[@REVISION]")
@json_option
@settings_options
def show(settings: Settings, name: str, as_json: bool) -> None:
    """Show a dataset at the hub: its revision, images and classes, its card.

    \b
    Example:
      parcelhub dataset show acme/dock-7
    """
    repo, _, revision = name.partition("@")
    with connect(settings) as client:
        found = client.dataset_summary(repo, revision or "main")
        if as_json:
            print_json(found)
            return
        size = f"{found.files} files, {found.bytes / 1e6:.1f} MB"
        out.print(f"[bold]{repo}[/] at {found.commit[:12]}: {found.images} images, {found.instances} instances, {size}")
        if found.note:
            err.print(f"note: {found.note}", style="yellow", markup=False, highlight=False)
        rows = table("Classes", "class", "instances")
        for label, count in found.classes.items():
            rows.add_row(escape(label), str(count))
        out.print(rows)
        _show_card(client, repo, found.commit)


@dataset.command("offer")
@click.argument("name", metavar="TEAM/NAME")
@click.option("--withdraw", is_flag=True, help="Take the offer back.")
@click.option("--revision", default="main", show_default=True, help="What is offered: its images, no later ones.")
@click.option("--note", default="", help="Anything those who train the base should know.")
@json_option
@settings_options
def offer(settings: Settings, name: str, withdraw: bool, revision: str, note: str, as_json: bool) -> None:
    """Let the base learn from a dataset, private or not.

    Its pictures train a base that everybody gets; its name and its pictures are shown to nobody else. Before the next
    base is trained, --withdraw takes them out. What became of it: `parcelhub dataset contribution TEAM/NAME`.

    \b
    Example:
      parcelhub dataset offer acme/dock-7 --note "night shift, many black bags"
    """
    with connect(settings) as client:
        one = client.offer_dataset(name, offered=not withdraw, note=note, revision=revision)
    if as_json:
        print_json(one)
    else:
        out.print(f"[bold]{one.name}[/] is {'offered to the base' if one.offered else 'not offered'}")


@dataset.command("contribution")
@click.argument("name", metavar="TEAM/NAME")
@json_option
@settings_options
def contribution(settings: Settings, name: str, as_json: bool) -> None:
    """What became of a dataset's offers, and what bases that learnt from it did for whom.

    \b
    Example:
      parcelhub dataset contribution acme/dock-7
    """
    with connect(settings) as client:
        found = client.contributions(name)
    if as_json:
        print_json(found)
        return
    if not found:
        out.print(f"[bold]{escape(name)}[/] was never offered")
    for one in found:
        show_contribution(one)


@dataset.command("delete")
@click.argument("name", metavar="TEAM/NAME")
@click.option("--yes", is_flag=True, help="Do not ask.")
@settings_options
def delete(settings: Settings, name: str, yes: bool) -> None:
    """Take a dataset away from the hub, with its history.

    \b
    Example:
      parcelhub dataset delete acme/trial
    """
    if not yes:
        click.confirm(f"delete {name} with all its revisions?", abort=True, err=True)
    with connect(settings) as client:
        client.delete_dataset(name)
    out.print(f"deleted [bold]{name}[/]")


def _show_card(client: HubClient, repo: str, commit: str) -> None:
    from rich.markdown import Markdown

    from hub.errors import HubAnswerError

    with tempfile.TemporaryDirectory() as folder:
        card = Path(folder, "README.md")
        try:
            client.download("dataset", repo, commit, "README.md", card)
        except HubAnswerError as error:
            if error.status != 404:
                raise
            return
        text = card.read_text(encoding="utf-8", errors="replace")
    out.print(Markdown(text.split("---\n", 2)[-1] if text.startswith("---\n") else text))


def read(folder: Path, progress: ProgressCallback | None = None, *, leave_out_damaged: bool = False) -> Dataset:
    """The dataset in a folder; raises InputError without one, DatasetError with what to repair."""
    if not folder.is_dir():
        raise InputError(f"{folder}: {'not a folder' if folder.exists() else 'does not exist'}")
    from finetune.datasets import read_dataset

    return read_dataset(folder, leave_out_damaged=leave_out_damaged, progress=progress)


def push_dataset(
    client: HubClient,
    found: Dataset,
    name: str,
    message: str,
    *,
    licence: str = "unknown",
    progress: ProgressCallback,
    private: bool = True,
) -> Commit:
    """Write the dataset in the form that the hub stores, and make the repository's `main` hold it."""
    from finetune.datasets import write_dataset
    from hub.client.transfer import push_folder

    with tempfile.TemporaryDirectory(prefix="parcelhub-push-") as folder:
        target = Path(folder) / name.replace("/", "-")
        write_dataset(found, target, licence=licence)
        said = message or f"{len(found.samples)} images"
        return push_folder(client, name, target, said, private=private, progress=progress)


def _quality(found: Dataset) -> QualityReport:
    from finetune.datasets.quality import check_quality

    with counting(f"looking at {found.name}") as progress:
        return check_quality(found, progress=progress)


def _learnt(settings: Settings, found: Dataset) -> tuple[list[ClassRow], str]:
    """What the shipped base's labels would learn; nothing where there is no such base here."""
    try:
        labels = labels_of((settings.base_source / "config.json").read_bytes())
    except OSError:
        return [], ""
    return suggested(found.counts(), labels) if labels else ([], "")


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

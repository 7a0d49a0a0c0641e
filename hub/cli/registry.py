"""`parcelhub registry`, `backup` and `restore`: the operator's care for what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import rich_click as click
from rich.markup import escape

from hub.cli.common import err, json_option, out, print_json, settings_options, table
from hub.cli.keys import keys
from hub.error_table import EXIT_FAILURE
from hub.errors import HubUnavailableError, SettingsError

if TYPE_CHECKING:
    from hub.client.maintenance import MaintenanceClient
    from hub.maintenance.maintenance import Maintenance, ReportView
    from hub.settings import Settings
    from registry.maintenance.fsck_report import Progress

T = TypeVar("T")


@click.group()
def registry() -> None:
    """What the hub stores: examine it, remove what nobody needs; the keys that it signs with."""


registry.add_command(keys)


@registry.command("fsck")
@click.option("--quick", is_flag=True, help="Only look whether everything is there with the right size.")
@json_option
@settings_options
def fsck(settings: Settings, quick: bool, as_json: bool) -> int:
    """Find and name any damage: lost or changed bytes, rows that point nowhere. Changes nothing; code 1 on damage.

    Works on a running hub, and on the data folder of one that is stopped.

    \b
    Example:
      parcelhub registry fsck --data ./parcelhub-data
      parcelhub registry fsck --quick --json
    """
    from hub.maintenance.maintenance import ReportView
    from registry.errors import CatalogLockedError
    from registry.maintenance.fsck import examine_folder

    if not settings.hub_url and not settings.data.is_dir():
        raise SettingsError(f"there is no data folder {settings.data}")
    with _bar() as tell:
        try:
            if settings.hub_url:
                found = _remote(settings, lambda client: client.fsck(quick=quick, progress=tell))
            else:
                blobs = settings.blobs or None
                found = ReportView.of(examine_folder(settings.data, blobs_url=blobs, quick=quick, progress=tell))
        except CatalogLockedError as locked:
            found = _remote(settings, lambda client: client.fsck(quick=quick, progress=tell), locked)
    if as_json:
        print_json(found)
    else:
        _show(found)
    return EXIT_FAILURE if found.damaged else 0


@registry.command("reindex")
@settings_options
def reindex(settings: Settings) -> None:
    """Make the catalog's indexes anew from its rows, where `fsck` says that one lost rows. The hub must be stopped.

    \b
    Example:
      parcelhub registry reindex --data ./parcelhub-data
    """
    from registry import Catalog
    from registry.folder import CATALOG_FILE

    path = settings.data / CATALOG_FILE
    if not path.is_file():
        raise SettingsError(f"there is no catalog in {settings.data}")
    with Catalog.open(path) as catalog:
        out.print(f"made anew: {', '.join(catalog.rebuild_indexes())}")


@registry.command("reserve")
@click.option("--give-back", is_flag=True, help="Remove it, so that the disk has that much room.")
@settings_options
def reserve(settings: Settings, give_back: bool) -> None:
    """Show the room that is kept for the day when the disk is full, or give it back. Works on a running hub, too.

    `registry gc` gives it back by itself where it needs it; it is made again when there is
    room for three times as much.

    \b
    Example:
      parcelhub registry reserve --give-back --data ./parcelhub-data
    """
    from registry.blobs.disk import Room

    if not settings.data.is_dir():
        raise SettingsError(f"there is no data folder {settings.data}")
    room = Room(settings.data, settings.reserve_bytes)
    if give_back:
        out.print(f"given back: {_size(room.give_back())}")
    out.print(f"reserve: {_size(room.held)} of {_size(room.size)}; free on the disk: {_size(room.free())}")


@registry.command("gc")
@click.option("--dry-run", is_flag=True, help="Remove nothing, say what would go.")
@json_option
@settings_options
def collect(settings: Settings, dry_run: bool, as_json: bool) -> None:
    """Remove blobs that nothing names and commits that nothing leads to, after PARCELHUB_BLOB_GRACE_DAYS.

    A running hub does so once a day by itself.

    \b
    Example:
      parcelhub registry gc --dry-run
    """
    with _bar() as tell:
        done = _either(
            settings,
            lambda care: care.collect(dry_run=dry_run, progress=tell),
            lambda client: client.collect(dry_run=dry_run, progress=tell),
        )
    if as_json:
        print_json(done)
        return
    verb = "would go" if dry_run else "removed"
    out.print(f"{verb}: {done.blobs} blobs, {_size(done.bytes)} (of {done.looked_at} that are old enough)")
    out.print(f"{verb}: {done.commits} commits and {done.trees} trees that no ref leads to")
    if not dry_run:
        out.print(f"{verb}: {done.xet_files} Xet files, {done.xet_xorbs} xorbs, {_size(done.xet_bytes)}")


@click.command()
@click.option("--out", "target", required=True, help="A folder, or s3://…, gs://…, az://….")
@click.option("--reread", is_flag=True, help="Also read back what earlier backups copied, and heal it.")
@json_option
@settings_options
def backup(settings: Settings, target: str, reread: bool, as_json: bool) -> int:
    """Back up a hub, running or stopped: the catalog of one moment, and every blob that is not in the backup yet.

    A path is on the hub's machine. Code 1 if something was damaged in the hub and so could not be copied.

    \b
    Example:
      parcelhub backup --out /mnt/backups/hub
      parcelhub backup --out s3://backups/hub
    """
    place = target if "://" in target else str(Path(target).expanduser().absolute())
    with _bar() as tell:
        done = _either(
            settings,
            lambda care: care.backup(place, reread=reread, progress=tell),
            lambda client: client.backup(place, reread=reread, progress=tell),
        )
    if as_json:
        print_json(done)
    else:
        out.print(f"[bold green]{done.name}[/]: {done.blobs} blobs, {_size(done.bytes)}; copied {done.copied_blobs}, ")
        out.print(
            f"{_size(done.copied_bytes)}, and a catalog of {_size(done.catalog_bytes)}, in {done.seconds:.1f} s; "
            f"commits waited {done.waited_seconds:.2f} s"
        )
        for name in done.damaged:
            err.print(f"[bold red]damaged in the hub, not in the backup:[/] {name}")
    return EXIT_FAILURE if done.damaged else 0


@click.command()
@click.option("--from", "source", required=True, help="Where the backups are: a folder, or s3://…, gs://…, az://….")
@click.option("--name", help="Which one; without: the newest. `--list` shows them.")
@click.option("--list", "listing", is_flag=True, help="Show the backups, restore nothing.")
@json_option
@settings_options
def restore(settings: Settings, source: str, name: str | None, listing: bool, as_json: bool) -> int:
    """Restore a backup into an empty data folder, and examine it; then start the hub on it.

    \b
    Example:
      parcelhub restore --from /mnt/backups/hub --data ./parcelhub-data
    """
    from hub.maintenance.maintenance import ReportView
    from registry.backup.backup import restore as bring_back
    from registry.backup.vault import Vault

    if listing:
        names = Vault(source).names()
        if as_json:
            print_json(names)
        else:
            out.print("\n".join(names) or "no backups")
        return 0
    with _bar() as tell:
        done = bring_back(source, settings.data, name=name, blobs_url=settings.blobs or None, progress=tell)
    found = ReportView.of(done.report)
    if as_json:
        view = {"name": done.name, "blobs": done.blobs, "bytes": done.bytes, "seconds": done.seconds, "fsck": found}
        print_json(view)
    else:
        out.print(f"[bold green]{done.name}[/]: {done.blobs} blobs, {_size(done.bytes)}, in {done.seconds:.1f} s")
        _show(found)
    return EXIT_FAILURE if found.damaged else 0


def _either(settings: Settings, local: Callable[[Maintenance], T], remote: Callable[[MaintenanceClient], T]) -> T:
    """Over the data folder if no hub has it open, else through the hub."""
    from hub.maintenance.maintenance import Maintenance
    from registry.errors import CatalogLockedError
    from registry.folder import CATALOG_FILE
    from registry.registry import Registry

    if settings.hub_url:
        return _remote(settings, remote)
    if not (settings.data / CATALOG_FILE).is_file():
        raise SettingsError(f"{settings.data} is no data folder of a hub: it has no {CATALOG_FILE}")
    try:
        with Registry.open(settings.data, blobs_url=settings.blobs or None, reserve=settings.reserve_bytes) as opened:
            return local(Maintenance.of(opened, settings))
    except CatalogLockedError as locked:
        return _remote(settings, remote, locked)


def _remote(settings: Settings, ask: Callable[[MaintenanceClient], T], locked: Exception | None = None) -> T:
    """Through the hub; `locked` is the error to show if somebody has the catalog open, and no hub answers."""
    from hub.client.maintenance import MaintenanceClient

    try:
        with MaintenanceClient.of(settings) as client:
            return ask(client)
    except HubUnavailableError as error:
        raise locked or error from error


def _show(found: ReportView) -> None:
    seen = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in sorted(found.checked.items()) if count)
    if found.findings:
        rows = table("Findings", "", "kind", "name", "what is wrong")
        for one in found.findings:
            colour = "red" if one["severity"] == "damage" else "dim"
            severity = f"[{colour}]{one['severity']}[/]"
            rows.add_row(severity, *(escape(one[key]) for key in ("kind", "name", "detail")))
        out.print(rows)
        for kind, count in found.counts.items():
            shown = sum(one["kind"] == kind for one in found.findings)
            if shown < count:
                out.print(f"… and {count - shown} more of {kind}")
    word = "[bold red]damaged[/]" if found.damaged else "[bold green]sound[/]"
    out.print(f"{word}; looked at {seen}" + (" (sizes only)" if found.quick else ""))


def _size(count: int) -> str:
    from rich.filesize import decimal

    return decimal(count)


@contextmanager
def _bar() -> Iterator[Progress]:
    """A progress bar on stderr for work of several parts."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<16}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total or None)

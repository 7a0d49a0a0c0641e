"""`parcelhub registry keys`: the keys that a hub signs with and believes. Works on the data folder, hub up or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

from hub.cli.common import json_option, out, print_json, settings_options, table

if TYPE_CHECKING:
    from hub.settings import Settings
    from registry.provenance import KeyRing


@click.group()
def keys() -> None:
    """The hub's signing keys: show, rotate."""


@keys.command("show")
@json_option
@settings_options
def show(settings: Settings, as_json: bool) -> None:
    """Show the public keys that the hub believes, and which of them signs.

    \b
    Example:
      parcelhub registry keys show --data ./parcelhub-data
    """
    from registry.provenance.keys import described

    found = _ring(settings).all()
    if as_json:
        print_json(described(found))
        return
    rows = table("Keys", "id", "since", "")
    for key in found:
        rows.add_row(key.id, key.since.strftime("%Y-%m-%d %H:%M"), "signs" if key.signs else "still believed")
    out.print(rows)


@keys.command("rotate")
@json_option
@settings_options
def rotate(settings: Settings, as_json: bool) -> None:
    """Sign with a new key from now on. What older keys signed is still believed.

    To stop believing a key, remove its file from `keys/trusted` in the data folder.

    \b
    Example:
      parcelhub registry keys rotate --data ./parcelhub-data
    """
    from registry.provenance.keys import described

    made = _ring(settings).rotate()
    if as_json:
        print_json(described((made,))[0])
        return
    out.print(f"signing with key {made.id} from now on")


def _ring(settings: Settings) -> KeyRing:
    from hub.errors import InputError
    from registry.folder import CATALOG_FILE, KEYS_FOLDER
    from registry.provenance.keys import KeyRing

    if not (settings.data / CATALOG_FILE).exists():
        raise InputError(f"{settings.data} is no hub's data folder; name it with --data")
    return KeyRing.open(settings.data / KEYS_FOLDER)

"""Sites and their tokens. A site's token is good for the uplink about its cells, and for nothing else."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from hub.accounts.cell_tokens import CellTokens, HolderKind
from hub.accounts.tokens import ID_LENGTH, SITE_SCOPE, Identity, Tokens
from hub.errors import ForbiddenError, UnknownSiteError
from hub.migrations.tables import timestamp
from hub.schemas.sites import Site
from registry.catalog.catalog import Catalog
from registry.durable import write_file
from serving.observed.carrier import HUB_MARK

KIND: Final = HolderKind("site", SITE_SCOPE)
HEARD_EVERY_S: Final = 10.0


class Sites:
    """The tokens of sites. Thread-safe."""

    def __init__(self, catalog: Catalog, tokens: Tokens, telemetry: Path) -> None:
        self._catalog = catalog
        self._tokens = tokens
        self._made = CellTokens(catalog, tokens, KIND)
        self._heard: dict[str, float] = {}
        self.mark = _mark(telemetry)
        """By which a site finds out that it shares the hub's disk."""

    def add(self, name: str, cells: Sequence[str]) -> str:
        """Make a site's token, which is returned this once.

        Raises UnknownCellError, and InputError for a name that is taken.
        """
        return self._made.add(name, cells)

    def ensure_local(self, file: Path) -> None:
        """Make the site of this machine and leave its token for `parcelhub serve`."""
        self._made.ensure_local(file)

    def all(self) -> list[Site]:
        """All sites by name, this machine's own among them."""
        with self._catalog.read() as db:
            heard = dict(db.execute("SELECT site, heard_at FROM site_heard").fetchall())
            waits = dict(
                db.execute("SELECT site, count(*) FROM site_wishes WHERE taken_at IS NULL GROUP BY site").fetchall()
            )
            return [
                Site(
                    id=one.sha256[:ID_LENGTH],
                    name=one.name,
                    cells=sorted(one.cells),
                    created_at=timestamp(one.made),
                    heard_at=timestamp(heard[one.name]) if one.name in heard else None,
                    waiting=waits.get(one.name, 0),
                )
                for one in KIND.rows(db)
            ]

    def remove(self, id_: str) -> None:
        """End a site's token, at once; what the hub wished of it goes. Raises UnknownSiteError."""
        with self._catalog.read() as db:
            names = [one.name for one in KIND.rows(db) if one.sha256[:ID_LENGTH] == id_]
        if not names:
            raise UnknownSiteError(f"there is no site {id_[:40]!r}")
        self._tokens.revoke(id_)
        with self._catalog.write() as db:
            for table in ("site_wishes", "site_statistics", "site_heard"):
                db.execute(f"DELETE FROM {table} WHERE site = ?", names)  # noqa: S608  # one of three names

    def heard(self, site: str) -> None:
        """Note that a site was here."""
        now = time.time()
        if now - self._heard.get(site, 0.0) < HEARD_EVERY_S:
            return
        self._heard[site] = now
        with self._catalog.write() as db:
            db.execute("INSERT INTO site_heard VALUES (?, ?) ON CONFLICT DO UPDATE SET heard_at = ?", [site, now, now])


def name_of(who: Identity) -> str:
    """The site whose token this is. Raises ForbiddenError for all other tokens."""
    if who.site_cells is None or not who.name.startswith(KIND.prefix):
        raise ForbiddenError(f"the token {who.name!r} is no site's")
    return who.name.removeprefix(KIND.prefix)


def speaks_for(who: Identity, cell: str | None) -> bool:
    """Whether a site may say something about a cell; what is of no cell every site may say."""
    cells: Collection[str] = who.site_cells or frozenset()
    return cell is None or "*" in cells or cell in cells


def _mark(telemetry: Path) -> str:
    path = telemetry / HUB_MARK
    with contextlib.suppress(OSError, ValueError):
        found = path.read_text(encoding="ascii").strip()
        if len(found) == 32:
            return found
    made = secrets.token_hex(16)
    write_file(path, made.encode("ascii"))
    return made

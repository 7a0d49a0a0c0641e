"""What the pages work with, wired once per hub process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from hub.accounts.tokens import Identity
from hub.kinds.dataset_check import Checks
from hub.schemas import core as s
from hub.services import Services
from hub.web.guards import Attempts, WebRequest
from hub.web.handing import Handings
from hub.web.mask_svg import MarkIndex
from hub.web.pictures import Pictures
from hub.web.reports import Reports
from hub.web.sessions import OnceShown, Sessions

FOLDER = "web"


@dataclass(frozen=True, slots=True)
class Web:
    """The pages' own parts over the hub's services."""

    services: Services
    sessions: Sessions
    attempts: Attempts
    pictures: Pictures
    marks: MarkIndex
    reports: Reports
    quality: Checks
    once: OnceShown
    handings: Handings

    @classmethod
    def over(cls, services: Services) -> Web:
        """What is kept in `<data>/web` can be made again: it may be deleted while the hub is down."""
        folder = services.settings.data / FOLDER
        blobs = services.store.blobs
        return cls(
            services=services,
            sessions=Sessions(services.registry.catalog, services.tokens),
            attempts=Attempts(),
            pictures=Pictures(folder / "pictures", blobs),
            marks=MarkIndex(folder / "marks", blobs),
            reports=Reports(services.store),
            quality=Checks(services),
            once=OnceShown(),
            handings=Handings(services),
        )

    def close(self) -> None:
        """Nothing runs in the background."""

    def jobs(self, who: Identity, *, limit: int, after: str = "", cell: str | None = None) -> list[s.Job]:
        """The jobs that `who` may see, newest first."""
        teams = None if sees_everything(who) else who.namespaces
        return self.services.jobs.page(limit=limit, after=after, cell=cell, teams=teams, created_by=who.owner)


def sees_everything(who: Identity) -> bool:
    """The operator."""
    return who.sees_all


Parts: TypeAlias = NamedDependency[Web]
Text: TypeAlias = FromPath[str]
Number: TypeAlias = FromPath[int]


def web_of(state: State) -> Web:
    """Provides `web`."""
    web: Web = state.web
    return web


def to(address: str) -> Redirect:
    """After a form was taken: see another page."""
    return Redirect(address, status_code=HTTP_303_SEE_OTHER)


def last(request: WebRequest, name: str, default: str = "") -> str:
    """A parameter of the address."""
    return str(request.query_params.get(name, default))[:300]


def whole(text: str, *, low: int, high: int, default: int) -> int:
    """A number from a form or an address, kept between two others."""
    try:
        return min(high, max(low, int(text)))
    except ValueError:
        return default

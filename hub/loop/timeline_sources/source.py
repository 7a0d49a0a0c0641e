"""What a source of the timeline is asked and gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from hub.migrations.tables import timestamp
from hub.schemas.refresh import Step
from registry.catalog.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Asked:
    """A page of a cell's timeline. Times are epoch seconds.

    Attributes:
        since: when the cell was made; what was before is not its own.
        before: (time, rest of the id) of the last step of the page before.
        limit: so many steps are enough.
        labels: the cell's label datasets that the caller may see.
    """

    cell: str
    since: float
    before: tuple[float, str]
    limit: int
    labels: Sequence[str] = ()

    def page(self, steps: Iterable[Step]) -> list[Step]:
        """Those of the steps that belong on the page, the newest first."""
        mine = [one for one in steps if key_of(one) < self.before]
        return sorted(mine, key=key_of, reverse=True)[: self.limit]

    @property
    def until(self) -> float:
        """No step of the page is later than this; one of the same millisecond may be on it."""
        return self.before[0] + 0.001

    @property
    def most(self) -> int:
        """So many rows, the newest before `until`, hold the page: a few of one millisecond may be on the last one."""
        return self.limit + 20


Source: TypeAlias = Callable[[Catalog, Asked], list[Step]]


def step_id(at: float, kind: str, name: str) -> str:
    """Names a step, and sorts it: the time to the millisecond first."""
    return f"{round(at * 1000)}-{kind}-{name}"


def key_of(step: Step) -> tuple[float, str]:
    """The place of a step in the list."""
    at, _, rest = step.id.partition("-")
    return int(at) / 1000, rest


def when(at: float) -> str:
    """A time as the API writes it."""
    return timestamp(at)

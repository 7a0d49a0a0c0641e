"""What the first worker of a training on Ray tells, and the caller reads. It lives in an actor of its own and holds
plain values only, so that its process has nothing heavy to import."""

from __future__ import annotations

from typing import Any


class Board:
    """Ticks as dicts, the finished judgements as (name, evaluation in JSON), and why no restart can help."""

    def __init__(self) -> None:
        self._ticks: list[dict[str, Any]] = []
        self._verdict: tuple[str, str] | None = None
        self._result: list[tuple[str, bytes]] | None = None

    def tell(self, tick: dict[str, Any]) -> None:
        """One more tick."""
        self._ticks.append(tick)

    def told(self, seen: int) -> list[dict[str, Any]]:
        """The ticks after the first `seen`."""
        return self._ticks[seen:]

    def give_up(self, kind: str, message: str) -> None:
        """The training itself failed, with an error of class `kind`; the first such word counts."""
        self._verdict = self._verdict or (kind, message)

    def verdict(self) -> tuple[str, str] | None:
        """What `give_up` was told, None while nothing is lost."""
        return self._verdict

    def finish(self, result: list[tuple[str, bytes]]) -> None:
        """The end of the work."""
        self._result = result

    def result(self) -> list[tuple[str, bytes]] | None:
        """What `finish` was told."""
        return self._result

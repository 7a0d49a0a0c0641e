"""What reading a dataset finds: problems (it cannot be used like this) and warnings (it can, but have a look)."""

from __future__ import annotations

from pathlib import Path

from finetune.errors import DatasetError

SHOWN = 20


class Findings:
    """Collects problems and warnings, so that a team can repair its folder in one go.

    Paths are relative to the dataset's folder: the text reads the same on a laptop and in the hub.
    """

    def __init__(self) -> None:
        self._problems: list[DatasetError] = []
        self._count = 0
        self._warnings: dict[str, tuple[int, str]] = {}

    def problem(self, message: str, path: str, *, line: int | None = None, field: str | None = None) -> None:
        """Note that `path` (its `line` or `field`) cannot be used as it is."""
        self._count += 1
        if len(self._problems) < SHOWN:
            self._problems.append(DatasetError(message, path=Path(path), line=line, field=field))

    def warn(self, message: str, where: str) -> None:
        """Note something that is survivable. Equal messages are counted and reported once, with the first `where`."""
        count, first = self._warnings.get(message, (0, where))
        self._warnings[message] = (count + 1, first)

    def warn_times(self, message: str, count: int, where: str) -> None:
        """Note something that happened `count` times, first at `where`."""
        before, first = self._warnings.get(message, (0, where))
        self._warnings[message] = (before + count, first)

    def warnings(self) -> tuple[str, ...]:
        """One sentence per kind of warning, with its count and the first place."""
        return tuple(f"{count} x {message} (first: {first})" for message, (count, first) in self._warnings.items())

    def raise_problems(self) -> None:
        """Raise one DatasetError if there is any problem: the first is its headline, up to `SHOWN` are listed."""
        if not self._problems:
            return
        first, *others = self._problems
        text = first.reason
        if others:
            text += f"\n{self._count - 1} more:\n" + "\n".join(f"  {problem}" for problem in others)
        if self._count > SHOWN:
            text += f"\n  (and {self._count - SHOWN} that are not listed)"
        raise DatasetError(text, path=first.path, line=first.line, field=first.field)

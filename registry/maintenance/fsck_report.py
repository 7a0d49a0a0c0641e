"""What an examination of a registry says: findings, each with a kind, the name of what is hurt, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Severity = Literal["damage", "note"]
Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with (what is being looked at, how many are done, how many there are; 0: not known)."""

MAX_OF_A_KIND = 1000
"""Findings of one kind that a report holds; it counts the others."""


def silent(what: str, done: int, total: int) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is not as it should be.

    `damage` means that something acknowledged is lost or wrong; a `note` is no loss: a repo that was deleted on
    purpose is still named somewhere, for instance.
    """

    severity: Severity
    kind: str
    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}: {self.detail}"


@dataclass(slots=True)
class Report:
    """What was examined, and what was found. `checked` counts things by their kind."""

    quick: bool
    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    checked: dict[str, int] = field(default_factory=dict)

    @property
    def damaged(self) -> bool:
        """Whether anything acknowledged is lost or wrong."""
        return any(finding.severity == "damage" for finding in self.findings)

    def add(self, kind: str, name: str, detail: str, *, severity: Severity = "damage") -> None:
        """Add a finding."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= MAX_OF_A_KIND:
            self.findings.append(Finding(severity, kind, name, detail))

    def saw(self, kind: str, count: int) -> None:
        """Count what was looked at."""
        self.checked[kind] = self.checked.get(kind, 0) + count

"""Structs of the API about failed picks and pictures that are forgotten."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from serving.observed.failure_kinds import Verdict


class Evidence(Struct, frozen=True):
    """One piece of evidence: a sentence, and the numbers in it by name."""

    text: str
    numbers: dict[str, float] = {}


class CorrectionIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person says was the cause."""

    verdict: Verdict
    note: Annotated[str, Meta(max_length=500)] = ""


class Correction(Struct, frozen=True, kw_only=True):
    """What a person said, who it was and when."""

    verdict: Verdict
    by: str
    at: str
    note: str


class Failure(Struct, frozen=True, kw_only=True):
    """A pick that failed, and why."""

    id: str
    request_id: str
    cell: str
    line: str | None
    robot: str | None
    variant: str | None
    outcome: str
    picked_at: str
    label: str | None
    """Class of the picked item where the robot named it."""
    instance: int | None
    point: tuple[float, float] | None
    gripper: str | None
    capture: str | None
    """The frame that is kept of it, if one is."""
    verdict: Verdict
    """What a person said, or else what the rules say."""
    what: str
    """The verdict in plain words."""
    judged: Verdict
    """What the rules say."""
    evidence: list[Evidence]
    looks: int
    """Other answers about the same view that were compared."""
    corrections: list[Correction]
    """What persons said, the newest first."""


class ForgetIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which picture, and on whose request."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None
    capture: Annotated[str, Meta(pattern="^[0-9]{13}-[0-9a-f]{12}$")] | None = None
    """A capture instead of a digest."""
    reason: Annotated[str, Meta(max_length=500)] = ""


class Forgotten(Struct, frozen=True, kw_only=True):
    """What became of a picture that was to be forgotten. It names places, and never shows the picture."""

    sha256: str
    captures: list[str]
    """Captures that held it, removed."""
    datasets: list[str]
    """Datasets whose history was written anew without it."""
    kept: dict[str, str]
    """Repositories that still hold it, each with the reason and what to do."""
    decks: list[str]
    """Digests of the decks that used it."""
    models: list[str]
    """Variants and bases that saw it in training or judging. They are not changed."""
    blob: str
    """`removed`, `absent`, or why the bytes are still stored."""
    at: str
    by: str

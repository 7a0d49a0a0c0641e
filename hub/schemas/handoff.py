"""Structs of the API about hand-offs: pictures of a queue that are labelled in another tool."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from hub.schemas.labels import MAX_REGIONS, RegionIn

ToolName = Literal["label-studio", "cvat", "fiftyone"]
HandOffState = Literal[
    "sending", "out", "unfinished", "predicted", "labelled", "skipped", "removed", "conflict", "late", "forgotten"
]
Place = Annotated[str, Meta(min_length=1, max_length=400)]
"""Where pictures are: the tool's address and the project there. It names no secret."""
Remote = Annotated[str, Meta(min_length=1, max_length=200)]
Claimer = Annotated[str, Meta(min_length=1, max_length=100)]


class HandOffIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which pictures go to which place."""

    tool: ToolName
    place: Place
    claimer: Claimer
    """Which program sends them: another one is not given the same pictures for two minutes."""
    limit: Annotated[int, Meta(ge=0, le=1000)] = 100
    """New ones, at most; those that did not get through last time come besides."""
    captures: Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=5000)] | None = None
    """Pictures of these captures alone."""


class HandOff(Struct, frozen=True, kw_only=True):
    """A picture that is, or was, at another tool."""

    task: str
    cell: str
    tool: ToolName
    place: str
    remote: str | None
    """What the tool calls it; None while nobody said that it got there."""
    state: HandOffState
    """`sending`: it may not have got there. `out`: not begun, `unfinished`: begun. `predicted`: there is nothing but
    the answer of a model. `labelled`, `skipped`, `removed`: taken back so. `conflict`: it was labelled here meanwhile.
    `late`: it was changed there after its labels were in a dataset. `forgotten`: the hub deleted the picture, and it
    is to be deleted there."""
    mark: str
    """Which state of the answer there was seen last."""
    note: str
    person: str
    """Who sent it."""
    at: str


class Sent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A picture got there."""

    place: Place
    remote: Remote


class Returned(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the tool says of a picture."""

    place: Place
    what: Literal["labelled", "skipped", "removed", "unfinished", "predicted", "out", "forgotten"]
    """`labelled` without a region: the picture is empty. `forgotten`: it was deleted there, as was asked."""
    mark: Annotated[str, Meta(max_length=200)] = ""
    """Which answer this is: the same one sent again is taken once."""
    person: Annotated[str, Meta(max_length=200)] = ""
    """Who labelled it there."""
    seconds: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    regions: Annotated[list[RegionIn], Meta(max_length=MAX_REGIONS)] = []

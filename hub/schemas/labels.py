"""Structs of the API about labelling: pictures that wait for a person, and what people make of them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

TaskState = Literal["open", "taken", "labelled", "second_look", "skipped", "removed"]
Rule = Literal["gain", "doubt", "novelty", "diversity", "random"]

MAX_REGIONS = 500
MAX_POLYGONS = 200
"""Parts of one region."""
MAX_RINGS = 200
MAX_RING_POINTS = 5_000
MAX_COUNTS = 400_000
"""Bytes of one mask's runs; a package on 50 megapixels has some 50,000."""
MAX_POINTS = 100_000
"""Of all regions of one picture."""

Point = tuple[float, float]
"""x, y in pixels of the picture; pixel edges are whole numbers."""
Ring = Annotated[list[Point], Meta(min_length=3, max_length=MAX_RING_POINTS)]
Polygon = Annotated[list[Ring], Meta(min_length=1, max_length=MAX_RINGS)]
"""The outer ring, then the holes in it. Rings are not closed; each is filled by the even-odd rule."""
Id = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class Mask(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mask as COCO compressed RLE: `size` is [height, width]."""

    size: tuple[int, int]
    counts: Annotated[str, Meta(max_length=MAX_COUNTS)]


class Region(Struct, frozen=True, kw_only=True):
    """One instance that is proposed, or was labelled."""

    id: str
    label: str
    score: float | None
    """Of whoever proposed it; None where a person drew it."""
    low: bool
    """The model was not sure."""
    disputed: bool
    """Two answers do not agree about this place, or the class is none of the cell's."""
    offered: bool
    """Not sure enough to be on the picture, or a second answer about one place: the page offers it where one clicks."""
    mask: Mask
    """Exact."""
    polygons: list[list[list[Point]]]
    """For drawing: the outlines, within a pixel or two. Each polygon is an outer ring and its holes."""


class RegionIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One instance as a person leaves it: one of `keep`, `polygons` and `mask` says where it is."""

    label: Annotated[str, Meta(min_length=1, max_length=200)]
    keep: Annotated[str, Meta(max_length=40)] | None = None
    """The id of a region that was shown and whose outline was not touched: its mask stays exactly as it was."""
    polygons: Annotated[list[Polygon], Meta(min_length=1, max_length=MAX_POLYGONS)] | None = None
    mask: Mask | None = None


class Task(Struct, frozen=True, kw_only=True):
    """One picture in the queue of a cell."""

    id: str
    cell: str
    source: str
    """`capture <id>` or `dataset <team/name> <path>`."""
    width: int
    height: int
    state: TaskState
    version: int
    """Grows with each change; who changes the task says which one they saw."""
    rank: float
    look_alike: str
    """Pictures that look nearly the same have the same one; "" where there is no other."""
    proposed_by: str
    looks: int
    """How many people have accepted it."""
    held_by: str | None
    lease_until: str | None
    labelled_by: list[str]
    dataset: str | None
    """Where its labels are committed; None while they are not."""
    created_at: str


class TaskWork(Struct, frozen=True, kw_only=True):
    """A task with what is on the picture."""

    task: Task
    regions: list[Region]
    classes: list[str]
    """That a region may have."""
    counts: dict[str, int]
    """Tasks of the cell by state."""


class Accept(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The labels of a picture, by the person who holds it."""

    action: Id
    """Made by the client, once for each answer: the same answer sent twice is taken once."""
    version: Annotated[int, Meta(ge=0)]
    regions: Annotated[list[RegionIn], Meta(max_length=MAX_REGIONS)]
    seconds: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    clicks: Annotated[int, Meta(ge=0, le=100_000)] = 0
    keys: Annotated[int, Meta(ge=0, le=100_000)] = 0


class Move(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person does with a task besides labelling it.

    `skip` takes it out of the queue, `remove` says that the picture is not to be learnt from, `release` gives it back,
    `renew` keeps it for longer, `take` takes this very one, `reopen` has it labelled anew.
    """

    what: Literal["skip", "remove", "release", "renew", "take", "reopen"]
    version: Annotated[int, Meta(ge=0)]


class ProposalIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model says of a picture that nobody has looked at yet."""

    proposed_by: Annotated[str, Meta(min_length=1, max_length=300)]
    labels: Annotated[list[Annotated[str, Meta(min_length=1, max_length=200)]], Meta(max_length=MAX_REGIONS)]
    scores: Annotated[list[Annotated[float, Meta(ge=0, le=1)]], Meta(max_length=MAX_REGIONS)]
    masks: Annotated[list[Mask], Meta(max_length=MAX_REGIONS)]


class FillIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which pictures become tasks: captures of the cell, or those of a dataset that have no labels."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    dataset: Annotated[str, Meta(max_length=200)] | None = None
    empty_too: bool = False
    """Of a dataset: pictures that are said to be empty, too."""
    gains: dict[str, float] = {}
    """Expected gain by capture id, where somebody knows it; it goes before every other rule."""


class LabelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a cell's pictures are labelled. What is left out stays as it is."""

    dataset: Annotated[str, Meta(max_length=200)] | None = None
    """`team/name` where labels go; "" for the cell's own (`<team>/<cell>-labels`)."""
    second_look: bool | None = None
    """Whether another person looks at each picture."""
    rule: Rule | None = None
    """What is asked first."""


class LabelCell(Struct, frozen=True, kw_only=True):
    """A cell's queue."""

    cell: str
    dataset: str
    """Where labels go; "" for a cell that has no team and names none."""
    second_look: bool
    rule: Rule
    counts: dict[str, int]
    waiting: int
    """Labelled, and in no dataset yet."""
    classes: list[str]
    elsewhere: int = 0
    """At other labelling tools (`parcelhub label push`); they are among those that are taken."""


class Batch(Struct, frozen=True, kw_only=True):
    """Labels that became one commit."""

    id: str
    cell: str
    dataset: str
    pictures: int
    instances: int
    person: str
    at: str
    undone_at: str | None


class LabelStats(Struct, frozen=True, kw_only=True):
    """What labelling a cell cost, and what became of what was proposed."""

    cell: str
    pictures: int
    """That somebody accepted."""
    accepted_as_proposed: int
    """Without any change."""
    seconds: float
    clicks: int
    keys: int
    regions_kept: int
    regions_changed: int
    """New outlines or other classes, and regions that were drawn."""
    regions_deleted: int
    people: dict[str, int]
    """Pictures by person."""


class PropagateIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which group of pictures that look alike."""

    look_alike: Annotated[str, Meta(min_length=1, max_length=40)]


class Propagated(Struct, frozen=True, kw_only=True):
    """What verified pictures said of others that look alike."""

    verified: int
    proposed: int
    """Pictures that have a new proposal; each still waits for a person."""
    confidence: dict[str, float]
    """Mean confidence by task, 0 to 1."""

"""The words for why a pick failed, and what is known of one failed pick. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, get_args

Verdict = Literal[
    "merged",
    "split",
    "missed",
    "wrong_class",
    "loose_edge",
    "false_package",
    "camera_fault",
    "not_vision",
    "cannot_tell",
]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
WHAT: Final[Mapping[Verdict, str]] = {
    "merged": "merged with a neighbour",
    "split": "split",
    "missed": "missed",
    "wrong_class": "wrong class",
    "loose_edge": "loose edge",
    "false_package": "no package there",
    "camera_fault": "camera fault",
    "not_vision": "not vision's fault",
    "cannot_tell": "cannot tell",
}
MEANS: Final[Mapping[Verdict, str]] = {
    "merged": "One mask covers two packages.",
    "split": "The mask covers a part of a package; another mask has the rest.",
    "missed": "A package that was in the picture has no mask.",
    "wrong_class": "The mask is right, its class is not.",
    "loose_edge": "The mask does not follow the edge of its package.",
    "false_package": "The mask lies on something that is no package.",
    "camera_fault": "The camera was at fault when the frame was taken.",
    "not_vision": "Mask and class hold; the pick failed for another reason.",
    "cannot_tell": "Too little is known of this pick.",
}


class FailedPick(NamedTuple):
    """A pick that was no success, joined with the request that it followed. Times are epoch seconds.

    `said_label` is the class of the picked item where the robot named it. `instance` counts from 0 in the answer's
    order, `point` is (x, y) in pixels of the frame; None where the robot did not say.
    """

    request_id: str
    outcome: str
    picked_at: float
    received_at: float
    asked_at: float
    cell: str | None
    line: str | None
    robot: str | None
    variant: str | None
    base: str | None
    said_label: str | None
    instance: int | None
    gripper: str | None
    point: tuple[float, float] | None

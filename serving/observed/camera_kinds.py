"""Kinds of camera faults, what a camera's state is, and how people are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Kind = Literal[
    "dark",
    "over_exposed",
    "light_part",
    "out_of_focus",
    "blocked",
    "moved",
    "frozen",
    "colour_cast",
    "damaged",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Word = Literal["ok", "fault", "cannot_tell"]

OK: Final = "ok"


@dataclass(frozen=True, slots=True)
class Advice:
    """What a person reads of a kind: what it is, and what to do about it."""

    what: str
    remedy: str


ADVICE: Final[dict[Kind, Advice]] = {
    "dark": Advice(
        "The picture is dark.",
        "Check that the cell's lamps are on and the lens cap is off. Then check exposure time and aperture.",
    ),
    "over_exposed": Advice(
        "The picture is over-exposed.",
        "Look for sunlight or a new lamp on the cell. Then check exposure time, gain and aperture.",
    ),
    "light_part": Advice(
        "The light failed in part of the picture.",
        "Replace the lamp on that side, or remove what casts the shadow.",
    ),
    "out_of_focus": Advice(
        "The picture is out of focus.",
        "Check the lens's focus ring and its locking screw. Then check for condensation on the lens.",
    ),
    "blocked": Advice(
        "The lens is dirty, or something is in front of it.",
        "Clean the lens with a lens cloth and remove what hangs in front of the camera.",
    ),
    "moved": Advice(
        "The camera was moved or turned.",
        "Put the camera back and tighten its mount. Calibrate the robot to the camera before it picks again.",
    ),
    "frozen": Advice(
        "The picture is frozen: the camera sends the same picture again and again.",
        "Restart the camera, and check its cable and driver.",
    ),
    "colour_cast": Advice(
        "The picture's colours have a cast.",
        "Check the lamps for one of another colour. Then set the camera's white balance again and lock it.",
    ),
    "damaged": Advice(
        "Frames arrive torn or noisy.",
        "Check the camera's cable and plugs, the network's load, and the sensor's gain.",
    ),
}


@dataclass(frozen=True, slots=True)
class CameraState:
    """What is known of a camera after a frame.

    Attributes:
        word: `ok`, `fault`, or `cannot_tell`.
        kind: the fault; None for the others.
        since: epoch seconds of the first frame that showed the fault; None for the others.
        reason: why it cannot be told, or what was measured of the fault; one sentence, "" where all is well.
        blind: kinds that cannot be told for this camera at present.
        suspect: what this one frame looks like by itself; None where it looks well. No decision.
        frames: how many frames were looked at.
    """

    word: Word
    kind: Kind | None = None
    since: float | None = None
    reason: str = ""
    blind: tuple[Kind, ...] = ()
    suspect: Kind | None = None
    frames: int = 0

    @property
    def camera(self) -> str:
        """What an answer carries: `ok`, the kind of the fault, or `cannot_tell`."""
        return self.kind if self.kind is not None else self.word


UNKNOWN: Final = CameraState("cannot_tell", reason="no frame of this camera has been looked at yet")

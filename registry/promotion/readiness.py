"""May a variant be used? The declared rules behind the verdict that reports, pages, commands and the gate share.

The verdict is one of three words: *ready* (the fleet may have it), *test station* (try it there first) and *not yet*.
`judge` is a pure function of what a report measured, so that the same figures give the same verdict everywhere. Rules
are asked in the order of `judge`; a figure that nobody measured is held neither for nor against a variant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from registry.stage_types import Stage

Level = Literal["ready", "test station", "not yet"]

READY_FOUND: Final = 0.8
"""The share of the packages that a variant must find for the fleet, and the share of its answers that must be right."""
READY_AP50: Final = 0.6
"""The lower end of the interval of AP50 for the fleet: what is left of it on other images of the same kind."""
STATION_FOUND: Final = 0.5
"""The same two shares for the test station; below, robots miss or misjudge every other package."""
STATION_AP50: Final = 0.4
SURE_IMAGES: Final = 10
SURE_PACKAGES: Final = 30
"""Fewer images or packages judge a variant too coarsely for the fleet."""
EMPTY_WRONG: Final = 0.2
"""The share of pictures without a package in which a variant for the fleet may see one."""
LEARNT_STEPS: Final = 50
"""A training of fewer steps has hardly begun: what it lacks is time."""
FEW_TRAINED: Final = 20
NAMES_LOST: Final = 0.2
"""Of AP50, lost to wrong names: then it is the names that are missing, not the finding."""
USUAL_MINUTES: Final = 10
MOST_MINUTES: Final = 240
RANK: Final[Mapping[Level, int]] = {"not yet": 0, "test station": 1, "ready": 2}
"""The verdict as the number that policies compare (`readiness`)."""
STAGE: Final[Mapping[Level, Stage]] = {"not yet": "candidate", "test station": "station", "ready": "fleet"}
"""The stage that follows from the verdict."""
STATION_STEP: Final = "Promote it to the test station and watch its picks there."


@dataclass(frozen=True, slots=True)
class Measured:
    """What a report measured of a variant on the holdout. None: not measured.

    Attributes:
        ap50, ap50_low: mask AP50 in [0, 1], and the lower end of its 95 % interval.
        agnostic_ap50: AP50 where names do not count.
        base_ap50: AP50 of the shared base on the same images.
        gain_low, gain_high: the 95 % interval of AP50 against the base.
        found, missed, extra: packages that were found and missed, and answers that are none, all at the score and IoU
            of an answer that a robot acts on.
        base_found: packages that the base found.
        empty, empty_wrong: images without a package, and those of them in which the variant sees one.
        images, packages: the size of the holdout.
        trained, steps, seconds: images, steps and seconds of the training.
        trial_picks: picks of a trial at the test station that the variant passed.
    """

    ap50: float | None = None
    ap50_low: float | None = None
    agnostic_ap50: float | None = None
    base_ap50: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    found: int | None = None
    missed: int | None = None
    extra: int | None = None
    base_found: int | None = None
    empty: int | None = None
    empty_wrong: int | None = None
    images: int | None = None
    packages: int | None = None
    trained: int | None = None
    steps: int | None = None
    seconds: float | None = None
    trial_picks: int | None = None

    @property
    def recall(self) -> float | None:
        """The share of the packages that was found; None where that was not counted."""
        return _share(self.found, self.missed)

    @property
    def precision(self) -> float | None:
        """The share of the answers that is right; None where nothing was answered or counted."""
        return _share(self.found, self.extra)

    @classmethod
    def of(cls, metrics: Mapping[str, Any], *, trial_picks: int | None = None) -> Measured | None:
        """From the metrics of a fine-tune, by their names there; None where nobody measured the variant. Values that
        are no finite numbers are as if not there.
        """
        names = dict(zip(_FIELDS, _METRICS, strict=True))
        values: dict[str, Any] = {field: _number(metrics.get(name)) for field, name in names.items()}
        if values["ap50"] is None and values["found"] is None:
            return None
        for field in _COUNTS:
            if values[field] is not None:
                values[field] = int(values[field])
        return cls(**values, trial_picks=trial_picks)


_FIELDS: Final = (
    *("ap50", "ap50_low", "agnostic_ap50", "base_ap50", "gain_low", "gain_high", "found", "missed", "extra"),
    *("base_found", "empty", "empty_wrong", "images", "packages", "trained", "steps", "seconds"),
)
_METRICS: Final = (
    *("variant_ap50", "variant_ap50_low", "variant_agnostic_ap50", "base_ap50", "gain_ap50_low", "gain_ap50_high"),
    *("found", "missed", "extra", "base_found", "empty_images", "empty_wrong", "images_holdout", "holdout_packages"),
    *("images_train", "steps", "train_seconds"),
)
_COUNTS: Final = (
    *("found", "missed", "extra", "base_found", "empty", "empty_wrong", "images", "packages", "trained", "steps"),
)


@dataclass(frozen=True, slots=True)
class Readiness:
    """The verdict: the word, why in a sentence, and the one thing to do next."""

    verdict: Level
    reason: str
    next_step: str

    @property
    def rank(self) -> int:
        """0 (*not yet*), 1 (*test station*) or 2 (*ready*)."""
        return RANK[self.verdict]

    @property
    def stage(self) -> Stage:
        """The stage that it proposes: `fleet`, `station`, or `candidate` for one that stays where it is."""
        return STAGE[self.verdict]


def judge(one: Measured) -> Readiness:
    """The verdict on a variant."""
    if one.images == 0 or one.packages == 0:
        return Readiness(
            "not yet",
            "Nothing can be said of it: the images that were kept aside to judge it show no labelled package.",
            "Label images that show packages, and fine-tune again.",
        )
    if one.gain_high is not None and one.gain_high < 0:
        return Readiness(
            "not yet",
            f"It is worse than the shared base here: {_figures(one)}.",
            _more_time(one) or "Keep the shared base for this cell.",
        )
    if cause := _useless(one):
        return Readiness("not yet", f"{_capital(_figures(one))}: {cause}.", _repair(one))
    if doubt := _doubt(one):
        if one.trial_picks:
            return Readiness(
                "ready",
                f"It passed its trial at the test station with {one.trial_picks:,} picks; {_figures(one)}.",
                "Promote it to the fleet.",
            )
        return Readiness("test station", f"{_capital(_figures(one))}, but {doubt}.", STATION_STEP)
    as_good = ", and so does the shared base" if one.gain_low is not None and one.gain_low <= 0 else ""
    return Readiness("ready", f"{_capital(_figures(one))}{as_good}.", "Promote it to the fleet.")


def judge_metrics(metrics: Mapping[str, Any], *, trial_picks: int | None = None) -> Readiness | None:
    """The verdict by the metrics of a fine-tune; None where nobody measured the variant."""
    measured = Measured.of(metrics, trial_picks=trial_picks)
    return None if measured is None else judge(measured)


def _useless(one: Measured) -> str:
    """Why no robot should act on it, "" if one may."""
    if one.recall is not None and one.recall < STATION_FOUND:
        return "it overlooks more than it finds" if one.found else "it finds nothing"
    if one.precision is not None and one.precision < STATION_FOUND:
        return "most of what it points at is no package, or another one than it says"
    if one.ap50 is not None and one.ap50 < STATION_AP50:
        return "its outlines or names are wrong too often for a robot to act on them"
    return ""


def _doubt(one: Measured) -> str:
    """Why it should be tried before the whole fleet has it, "" if there is no reason."""
    if one.recall is not None and one.recall < READY_FOUND:
        return "it overlooks too many for the whole fleet"
    if one.precision is not None and one.precision < READY_FOUND:
        return "too many of its answers are wrong for the whole fleet"
    if one.ap50 is not None and one.recall is None and one.ap50 < READY_AP50:
        return "its outlines or names are not yet good enough for the whole fleet"
    if one.empty and one.empty_wrong is not None and one.empty_wrong / one.empty > EMPTY_WRONG:
        return f"it sees packages in {one.empty_wrong} of {one.empty} pictures that show none"
    if one.images is not None and one.images < SURE_IMAGES:
        return f"only {_count(one.images, 'image')} judged it, too few to be sure"
    if one.packages is not None and one.packages < SURE_PACKAGES:
        return f"only {_count(one.packages, 'package')} judged it, too few to be sure"
    if one.ap50_low is not None and one.ap50_low < READY_AP50:
        return "on other images of the same kind it may do clearly worse"
    return ""


def _repair(one: Measured) -> str:
    """The one thing that helps a useless variant most."""
    if told := _more_time(one):
        return told
    if one.trained is not None and one.trained < FEW_TRAINED:
        more = FEW_TRAINED - one.trained
        return f"Label at least {more} more images of this cell, and fine-tune again: it has learnt from {one.trained}."
    if one.ap50 is not None and one.agnostic_ap50 is not None and one.agnostic_ap50 - one.ap50 > NAMES_LOST:
        return "Label more examples of the classes that it mixes up, and fine-tune again."
    if one.recall is not None and one.recall >= STATION_FOUND and (one.precision or 0.0) < STATION_FOUND:
        return "Label the packages that were forgotten, add pictures of what is none, and fine-tune again."
    return "Label more images, of the packages that it overlooks first, and fine-tune again."


def _more_time(one: Measured) -> str:
    """What to do where the training was too short to say anything of the images, "" where it was long enough."""
    if one.steps is None or one.steps >= LEARNT_STEPS:
        return ""
    done = f"it was trained for {_count(one.steps, 'step')} only, its images are not to blame"
    if not one.steps or not one.seconds:
        return f"Fine-tune again with {USUAL_MINUTES} minutes or more: {done}."
    minutes = math.ceil(4 * LEARNT_STEPS * one.seconds / one.steps / 60)
    if minutes > MOST_MINUTES:
        took = max(1, round(one.seconds / 60))
        return f"Fine-tune again on a faster or a free machine: {done}, in {_count(took, 'minute')}."
    return f"Fine-tune again with {max(USUAL_MINUTES, minutes)} minutes or more: {done}."


def _figures(one: Measured) -> str:
    """`it finds 93 % of the packages (28 of 30), and 97 % of its answers are right`."""
    if one.recall is None or one.found is None or one.missed is None:
        base = "" if one.base_ap50 is None else f" (the shared base: {one.base_ap50:.2f})"
        return f"its AP50 is {one.ap50 or 0.0:.2f}{base}"
    said = f"it finds {one.recall:.0%} of the packages ({one.found} of {one.found + one.missed})"
    # Of a variant that finds next to nothing, the few answers are no praise.
    if one.precision is not None and one.recall >= STATION_FOUND:
        said += f", and {one.precision:.0%} of its answers are right"
    if one.base_found is not None and one.gain_low is not None and one.gain_low > 0:
        said += f" (the shared base finds {one.base_found})"
    return said


def _share(part: int | None, rest: int | None) -> float | None:
    return None if part is None or rest is None or part + rest == 0 else part / (part + rest)


def _number(value: object) -> float | int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]

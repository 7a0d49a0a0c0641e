"""Why a pick failed, by rules that can be read, each with its evidence in words and numbers.

`judge` goes through the rules in their order and stops at the first that holds:

1. the camera was at fault when the frame was taken;
2. what the robot said cannot be (an instance that the answer does not have, a point outside of the frame);
3. the point lies on no mask (missed), or far from the mask that the robot was given (not vision's fault);
4. votes of the other looks at the same view (`serving.observed.second_looks`: mirrored, moved, the base, other frames):
   the mask falls into several packages, is a part of one, its edge moves, its class changes, nothing is there;
5. all looks agree with the mask: not vision's fault;
6. too few looks: cannot tell.

What the pick did (`multi_pick`, `wrong_item`) moves the limits of the verdict that it speaks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from serving.instances import Instances
from serving.observed.failure_kinds import Verdict
from serving.observed.failure_measures import Masks, Measures, distance_to, measure
from serving.observed.second_looks import Look


@dataclass(frozen=True, slots=True)
class CameraFault:
    """What the camera showed when the frame was taken."""

    kind: str
    what: str
    """In plain words."""


@dataclass(frozen=True, slots=True)
class Pick:
    """What the robot said of a pick that failed; None where it did not say."""

    outcome: str
    instance: int | None = None
    point: tuple[float, float] | None = None
    said_label: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of evidence: a sentence, and the numbers in it by name."""

    text: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and what speaks for it, the strongest first."""

    verdict: Verdict
    evidence: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """From which share of the looks on a verdict holds, and what counts as a change. Chosen on seed 0 of the
    fleet (`benchmarks.fleet.picks`)."""

    merged: float = 0.33
    split: float = 0.33
    missed: float = 0.2
    empty: float = 0.6
    wrong_class: float = 0.5
    eager: float = 0.15
    """The limit instead where the outcome speaks for the verdict."""
    moved: float = 0.33
    astray: float = 0.06
    """Of the longer edge of the frame: a point farther than this from its mask is none of vision's."""


LIMITS = Limits()


def judge(
    answer: Instances,
    pick: Pick,
    looks: Sequence[Look],
    *,
    camera: CameraFault | None = None,
    limits: Limits = LIMITS,
) -> Judgement:
    """Why this pick failed. `answer` is what the robot had, `looks` are other answers about the same view."""
    if camera is not None:
        return _only("camera_fault", f"When the frame was taken, the camera was at fault: {camera.what}")
    if (lie := _impossible(answer, pick)) is not None:
        return _only("cannot_tell", lie)
    masks = Masks.of(answer)
    number, how = _which(masks, pick)
    if number is None:
        return _without_instance(answer, pick, masks, looks, limits)
    if pick.point is not None and (far := distance_to(masks, number, pick.point)) > limits.astray * masks.edge:
        return _only(
            "not_vision",
            f"The gripper went {far:.0f} pixels outside of the mask that it was given",
            {"pixels_outside": round(far, 1)},
        )
    measures = measure(masks, number, answer.labels[number], looks)
    first = (Finding(how),) if how else ()
    found = _by_votes(pick, answer.labels[number], measures, limits)
    return Judgement(found.verdict, found.evidence + first)


def _impossible(answer: Instances, pick: Pick) -> str | None:
    if pick.instance is not None and not 0 <= pick.instance < len(answer):
        return f"The robot says that it picked instance {pick.instance}; the answer had {len(answer)}"
    if pick.point is not None:
        x, y = pick.point
        if not (0 <= x <= answer.width and 0 <= y <= answer.height):
            return f"The robot says that it picked at ({x:g}, {y:g}), outside of the frame"
    return None


def _which(masks: Masks, pick: Pick) -> tuple[int | None, str]:
    """The picked instance, and how it is known where the robot did not say it."""
    if pick.instance is not None:
        return pick.instance, ""
    if pick.point is not None:
        held = [k for k in range(len(masks)) if distance_to(masks, k, pick.point) == 0]
        if held:
            best = min(held, key=lambda k: masks.areas[k])  # the smallest: a nested mask is the nearer claim
            return best, f"The robot named no instance; its point lies on instance {best}"
        return None, ""
    if len(masks) == 1:
        return 0, "The robot named no instance; the answer had only one"
    return None, ""


def _without_instance(answer: Instances, pick: Pick, masks: Masks, looks: Sequence[Look], limits: Limits) -> Judgement:
    if pick.point is None:
        if len(answer):
            return _only("cannot_tell", f"The robot does not say which of the {len(answer)} instances it picked")
        seen = [look for look in looks if (look.instances.scores >= 0.5).any()]
        numbers = {"looks": float(len(looks)), "looks_with_packages": float(len(seen))}
        if looks and len(seen) >= 0.5 * len(looks):
            return _only("missed", f"The answer was empty; {len(seen)} of {len(looks)} looks find packages", numbers)
        return _only("cannot_tell", "The answer was empty, and the robot does not say where it picked", numbers)
    seen = [look for look in looks if masks.holds(look.instances, pick.point)]
    numbers = {"looks": float(len(looks)), "looks_with_package": float(len(seen))}
    if looks and len(seen) >= limits.missed * len(looks):
        return _only(
            "missed",
            f"No mask holds the picked point; {len(seen)} of {len(looks)} looks find a package there",
            numbers,
        )
    if pick.said_label is not None:
        return _only("missed", f"No mask holds the picked point, and the robot had a {pick.said_label} there", numbers)
    if looks and not seen and pick.outcome == "miss":
        return _only(
            "not_vision",
            f"No mask holds the picked point, and none of {len(looks)} looks finds a package there",
            numbers,
        )
    return _only("cannot_tell", "No mask holds the picked point, and no look says what is there", numbers)


def _by_votes(pick: Pick, label: str, m: Measures, limits: Limits) -> Judgement:
    multi, wrong = pick.outcome == "multi_pick", pick.outcome == "wrong_item"
    n = m.looks
    merged = Finding(
        f"In {m.merged:.0%} of {n} other looks at this view the picked mask falls into several packages",
        {"looks": float(n), "share": round(m.merged, 3)},
    )
    if pick.said_label is not None and pick.said_label != label:
        return Judgement(
            "wrong_class",
            (Finding(f"The robot found a {pick.said_label} in its gripper; the answer said {label}"), *_class(m)),
        )
    if n and m.merged >= (limits.eager if multi else limits.merged) and m.merged >= m.split:
        return Judgement("merged", (merged,))
    if m.nested:
        return Judgement(
            "merged",
            (
                Finding(
                    f"{_count(m.nested, 'other mask')} of the same answer inside the picked one",
                    {"inside": float(m.nested)},
                ),
            ),
        )
    if n and m.split >= limits.split:
        text = f"In {m.split:.0%} of {n} other looks one package holds the picked mask and another one"
        return Judgement("split", (Finding(text, {"looks": float(n), "share": round(m.split, 3)}), *_joined(m)))
    if n and m.empty >= limits.empty:
        text = f"In {m.empty:.0%} of {n} other looks there is no package where the picked mask lies"
        return Judgement("false_package", (Finding(text, {"looks": float(n), "share": round(m.empty, 3)}),))
    # What the pick brought says more of the cause than an edge or a class that is in doubt as well.
    if multi:
        return Judgement("merged", (Finding("The pick took several packages by one mask"), *((merged,) if n else ())))
    if wrong:
        return Judgement("wrong_class", (Finding("The pick took a wrong item by a mask that holds"), *_class(m)))
    if n and m.other_class >= limits.wrong_class:
        return Judgement("wrong_class", _class(m))
    if n and m.moved >= limits.moved:
        text = f"In {m.moved:.0%} of {n} other looks the mask's edge lies elsewhere (median overlap {m.iou:.2f})"
        numbers = {"looks": float(n), "share": round(m.moved, 3), "iou": round(m.iou, 3)}
        return Judgement("loose_edge", (Finding(text, numbers),))
    if n < 2:
        return _only(
            "cannot_tell", f"{_count(n, 'other look')} at this view; it takes two to tell", {"looks": float(n)}
        )
    text = f"The mask overlaps with those of {n} other looks by {m.iou:.2f} (median), and its class holds"
    return Judgement("not_vision", (Finding(text, {"looks": float(n), "iou": round(m.iou, 3)}),))


def _count(number: int, what: str) -> str:
    return f"{number or 'No'} {what}{'' if number == 1 else 's'}"


def _class(m: Measures) -> tuple[Finding, ...]:
    if not m.looks or not m.other_class:
        return ()
    text = f"{m.other_class:.0%} of {m.looks} other looks say {m.other_label}"
    return (Finding(text, {"looks": float(m.looks), "share": round(m.other_class, 3)}),)


def _joined(m: Measures) -> tuple[Finding, ...]:
    if m.joined < 0.05:
        return ()
    text = f"A neighbour's mask runs along {m.joined:.0%} of its edge"
    return (Finding(text, {"shared_edge": round(m.joined, 3)}),)


def _only(verdict: Verdict, text: str, numbers: Mapping[str, float] | None = None) -> Judgement:
    return Judgement(verdict, (Finding(text, numbers or {}),))

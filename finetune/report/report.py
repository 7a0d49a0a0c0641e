"""The report of a fine-tune: what came of it, for a person who is no expert, with the numbers for one who is.

`report.json` holds the facts, `report.html` is the page made of them (`finetune.report.page`), `predictions.json` the
answers on the holdout, from which pages compare variants image by image.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from finetune.datasets import Sample
from finetune.datasets.quality import QualityReport
from finetune.evaluation.calibration import calibrate
from finetune.evaluation.evaluate import (
    FOUND_SCORE,
    Evaluation,
    bootstrap,
    image_score,
    interval,
    nameless,
    rounded,
    score,
)
from finetune.evaluation.ground_truth import Truths
from finetune.evaluation.label_next import advise
from finetune.evaluation.learning_curve import LearningCurve, curve_facts
from finetune.scenes.generator import VERSION as SCENES_VERSION
from registry.promotion.history import judge_history
from registry.promotion.readiness import LEARNT_STEPS, judge_metrics
from serving.instances import Instances

FORMAT = 1
RESAMPLES = 200
WORST = 10
MAX_SHOWN = 300
"""Images whose predictions are kept; larger holdouts keep the worst."""
SHOWN_SCORE = 0.3
_NAMING = 0.1  # of AP50 lost to wrong names: worth a sentence
_PACKAGES = ("parcelhub", "torch", "transformers", "peft", "faster-coco-eval", "numpy")


@dataclass(frozen=True, slots=True)
class Judged:
    """The annotations of labelled images and what the base and the variant answered, all in the team's classes.

    `own` puts a class of the samples onto the one of `classes` that it is judged as; empty: each is itself. `base_said`
    and `variant_said` are the answers under whatever label, for the class-agnostic figures.
    """

    samples: tuple[Sample, ...]
    truths: tuple[Instances, ...]
    base: tuple[Instances, ...]
    variant: tuple[Instances, ...]
    classes: tuple[str, ...]
    own: Mapping[str, str] = field(default_factory=dict)
    base_said: tuple[Instances, ...] = ()
    variant_said: tuple[Instances, ...] = ()

    @property
    def names(self) -> list[str]:
        """One name for each sample, in their order; the bootstrap draws by them."""
        return [sample.name for sample in self.samples]


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What the variant lost (or won) on pictures that it was not trained for: AP50 of both, with the difference.

    `gain` is (difference, low, high), the interval over images.
    """

    what: str
    images: int
    base_ap50: float
    variant_ap50: float
    gain: tuple[float, float, float]


def evaluations(judged: Judged) -> tuple[Evaluation, Evaluation]:
    """Base and variant measured on the same images, with intervals."""
    one, two = (
        score(
            judged.truths,
            answers,
            judged.classes,
            judged.names,
            resamples=RESAMPLES,
            agnostic=nameless(judged.samples, said) if said else None,
        )
        for answers, said in ((judged.base, judged.base_said), (judged.variant, judged.variant_said))
    )
    return one, two


def gain_of(
    truths: Sequence[Instances], first: Sequence[Instances], second: Sequence[Instances], classes: Sequence[str]
) -> dict[str, tuple[float, float, float]]:
    """Of `ap`, `ap50`, `ap75`: (mean difference second - first, low, high), images drawn in pairs."""
    drawn = [bootstrap(truths, answers, classes, resamples=RESAMPLES) for answers in (first, second)]
    difference = drawn[1] - drawn[0]
    return {
        name: (float(np.mean(difference[:, k])), *interval(difference[:, k]))
        for k, name in enumerate(("ap", "ap50", "ap75"))
    }


def forgetting(
    what: str,
    truths: Sequence[Instances],
    first: Sequence[Instances],
    second: Sequence[Instances],
    classes: Sequence[str],
) -> Forgetting:
    """Compare base and variant (or an earlier variant and this one) on other pictures than the holdout."""
    names = [str(k) for k in range(len(truths))]
    before, after = (score(truths, answers, classes, names).ap50 for answers in (first, second))
    _, low, high = gain_of(truths, first, second, classes)["ap50"]
    return Forgetting(what, len(truths), before, after, (after - before, low, high))


def report_facts(
    judged: Judged,
    base: Evaluation,
    variant: Evaluation,
    *,
    cell: str,
    recipe: Mapping[str, Any],
    merges: Mapping[str, Sequence[str]] | None = None,
    forgot: Sequence[Forgetting],
    forgot_note: str,
    curve: LearningCurve | None,
    curve_note: str,
    quality: QualityReport | None,
    losses: Sequence[tuple[int, float]],
    seconds: Mapping[str, float],
    warnings: Sequence[str] = (),
    unlabelled: Sequence[tuple[str, int]] = (),
    history: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All facts as JSON values, numbers rounded to six digits.

    `recipe` is what it takes to make the variant again; `merges` are answered classes with all that they stand for,
    where that is more than one; `seconds` are by stage; `unlabelled` are (unlabelled image, confident answers).
    """
    gain = gain_of(judged.truths, judged.base, judged.variant, judged.classes)
    measured = _measured(judged, base, variant, gain["ap50"], recipe)
    readiness = judge_metrics(measured)
    assert readiness is not None  # noqa: S101  # it was measured, just now
    calibration = calibrate(judged.truths, judged.variant)
    counts = {name: sum(t.labels.count(name) for t in judged.truths) for name in judged.classes}
    keys = [name for name in judged.classes if name in variant.per_class]
    sizes = [name for name in ("small", "medium", "large") if name in variant.per_size]
    advice = advise(judged.names, lambda k: judged.samples[k].read_image(), judged.truths, judged.variant)
    base_scores = {one.image: one for one in base.per_image}
    labels = Truths.of(judged.samples, judged.own or {name: name for name in judged.classes})
    facts: dict[str, Any] = {
        "format": FORMAT,
        "cell": cell,
        "images": {"train": recipe.get("images_train"), "holdout": variant.images, "instances": variant.instances},
        "boxes": {"judged": variant.instances if labels.by_box else 0, "set_aside": labels.set_aside},
        "merged": [{"name": name, "classes": list(several)} for name, several in sorted((merges or {}).items())],
        "verdict": readiness.verdict,
        "reason": readiness.reason,
        "next_step": readiness.next_step,
        "stage": readiness.stage,
        "measured": measured,
        "against_base": against_base(gain["ap50"]),
        "base": _numbers(base),
        "variant": _numbers(variant),
        "gain": gain,
        "per_class": [
            {"name": k, "instances": counts[k], "base": base.per_class.get(k, 0.0), "variant": variant.per_class[k]}
            for k in keys
        ],
        "per_size": [{"name": k, "base": base.per_size.get(k, 0.0), "variant": variant.per_size[k]} for k in sizes],
        "thresholds": [asdict(one) for one in calibration.thresholds],
        "calibration_error": calibration.error,
        "reliability": [asdict(one) for one in calibration.bins],
        "worst": [{**asdict(one), "base_found": base_scores[one.image].found} for one in variant.per_image[:WORST]],
        "forgetting": [asdict(one) for one in forgot],
        "forgetting_note": forgot_note,
        "learning_curve": None if curve is None else curve_facts(curve),
        "learning_curve_note": curve_note,
        "label_next": [asdict(one) for one in advice],
        "unlabelled": [{"image": name, "claims": count} for name, count in unlabelled],
        "losses": thinned(losses),
        "quality": None
        if quality is None
        else {
            "images": quality.images,
            "instances": quality.instances,
            "findings": [asdict(f) for f in quality.findings],
        },
        "warnings": list(warnings),
        "recipe": dict(recipe),
        "versions": versions(),
        "seconds": dict(seconds),
    } | ({} if history is None else {"history": dict(history)})
    facts["sentences"] = sentences(facts)
    return rounded(facts)


def _measured(
    judged: Judged,
    base: Evaluation,
    variant: Evaluation,
    gain: tuple[float, float, float],
    recipe: Mapping[str, Any],
) -> dict[str, Any]:
    """What `registry.promotion.readiness` judges by, under the names that a fine-tune's metrics have."""
    empty = [k for k, truth in enumerate(judged.truths) if not len(truth)]
    return {
        "variant_ap50": variant.ap50,
        "variant_ap50_low": variant.intervals.get("ap50", (variant.ap50, variant.ap50))[0],
        "variant_agnostic_ap50": variant.agnostic_ap50,
        "base_ap50": base.ap50,
        "gain_ap50_low": gain[1],
        "gain_ap50_high": gain[2],
        "found": sum(one.found for one in variant.per_image),
        "missed": sum(one.missed for one in variant.per_image),
        "extra": sum(one.extra for one in variant.per_image),
        "base_found": sum(one.found for one in base.per_image),
        "empty_images": len(empty),
        "empty_wrong": sum(1 for k in empty if len(judged.variant[k].filter(FOUND_SCORE))),
        "images_holdout": variant.images,
        "holdout_packages": variant.instances,
        **{name: recipe[name] for name in ("images_train", "steps", "train_seconds") if name in recipe},
    }


def against_base(gain: tuple[float, float, float]) -> str:
    """`better` or `worse` where the interval of the gain in AP50 leaves no doubt, `unclear` between."""
    _, low, high = gain
    return "better" if low > 0 else "worse" if high < 0 else "unclear"


def sentences(facts: Mapping[str, Any]) -> list[str]:
    """What there is to say beside the verdict, in plain words, the most important first."""
    base, variant, (_, low, high) = facts["base"], facts["variant"], facts["gain"]["ap50"]
    numbers = f"(AP50 {base['ap50']:.2f} → {variant['ap50']:.2f})"
    said = {
        "better": f"It does more than the shared base {numbers}, and still too little."
        if facts["verdict"] == "not yet"
        else f"It is better than the shared base {numbers}.",
        "worse": f"It is worse than the shared base on your holdout {numbers}. Do not promote it.",
        "unclear": f"On this holdout the variant and the shared base cannot be told apart {numbers}.",
    }
    holdout = facts["images"]["holdout"]
    found, named = variant["agnostic_ap50"], variant["ap50"]
    lines = [
        f"{said[facts['against_base']]} Measured on {holdout} of your images that it was not trained on; the true "
        f"difference lies between {low:+.2f} and {high:+.2f} with 95 % certainty."
    ]
    # After a training that had hardly begun, what is missing says nothing of the images.
    short = facts["recipe"].get("steps", LEARNT_STEPS) < LEARNT_STEPS
    kept, began = facts["recipe"].get("kept_share", 1.0), facts["recipe"].get("start")
    if history := facts.get("history"):
        lines.append(history_sentence(history))
    if began and kept < 1:
        lines.append(
            f"It keeps {kept:.0%} of what it learnt since {began}: more of it did worse on these images."
            if kept
            else f"It keeps nothing of what it learnt since {began}, and answers as that one does."
        )
    elif kept == 0:
        lines.append(
            "The variant keeps nothing of what it learnt: all of it did worse on these images than the shared base "
            "itself, which knows such packages well already. It answers as the base does when that is told your "
            "classes." + ("" if short else " More, or more varied, images let it keep something.")
        )
    elif kept < 1:
        lines.append(
            f"The variant keeps {kept:.0%} of what it learnt: more of it did worse on these images, as happens "
            "where the base knows such packages well already."
            + ("" if short else " More, or more varied, images let it keep more.")
        )
    for one in facts.get("merged", ()):
        lines.append(f"{_listed(one['classes'])} are one class here, answered and judged as “{one['name']}”.")
    boxes = facts.get("boxes", {"judged": 0, "set_aside": 0})
    if boxes["judged"]:
        lines.append("All labels of the holdout are boxes: the figures say how well boxes agree, not outlines.")
    elif boxes["set_aside"]:
        what = "label of the holdout is a box" if boxes["set_aside"] == 1 else "labels of the holdout are boxes"
        lines.append(
            f"{boxes['set_aside']} {what} without an outline: such labels are neither asked for nor held against an "
            "answer."
        )
    if found - named > _NAMING and not short:
        lines.append(
            f"It finds more packages than it names right: AP50 is {found:.2f} where the class does not count. More "
            "examples of the classes that it mixes up help most."
        )
    if holdout < 10:
        lines.append(f"{holdout} holdout images are few: a lucky picture more or less moves these figures.")
    cut = next((one for one in facts["thresholds"] if one["wanted"] >= 0.9), None)
    if cut:
        lines.append(
            f"If the robot acts on answers with a score of at least {cut['score']:.2f}, {cut['precision']:.0%} of its "
            f"picks aim at a real package, and {cut['recall']:.0%} of the packages are found."
        )
    else:
        lines.append("No score threshold makes nine of ten answers right yet.")
    for one in facts["forgetting"]:
        change, below, above = one["gain"]
        kept = "keeps what it knew" if below <= 0 <= above else "lost some of what it knew" if change < 0 else "gained"
        lines.append(f"On {one['what']} it {kept}: AP50 {one['base_ap50']:.2f} → {one['variant_ap50']:.2f}.")
    if facts["learning_curve"] and not short:
        lines.append(facts["learning_curve"]["sentence"])
    if facts["label_next"] and not short:
        first = facts["label_next"][0]["sentence"]
        lines.append(f"To label next: {first[0].lower()}{first[1:]}")
    return lines


def history_sentence(history: Mapping[str, Any]) -> str:
    """What became of the cell's history, for a person."""
    verdict = judge_history(history)
    told = f"{verdict.told[0].upper()}{verdict.told[1:]}."
    if history.get("lost_count"):
        told += f" {history['lost_count']} packages that were right before are not now, {history['won_count']} are new."
    return told


def _listed(names: Sequence[str]) -> str:
    """As a person lists names: “a”, “b” and “c”."""
    quoted = [f"“{name}”" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]


def predictions(judged: Judged, worst_first: Sequence[str]) -> dict[str, Any]:
    """Answers on the holdout of base and variant, from `SHOWN_SCORE` on, as compressed RLE; at most `MAX_SHOWN`
    images."""
    rank = {name: k for k, name in enumerate(worst_first)}
    order = sorted(range(len(judged.samples)), key=lambda k: rank.get(judged.names[k], len(rank)))
    return {
        "format": FORMAT,
        "classes": list(judged.classes),
        "images": [
            {
                "name": judged.names[k],
                "width": judged.samples[k].width,
                "height": judged.samples[k].height,
                "truth": _marks(judged.truths[k], scores=False),
                "base": _marks(judged.base[k].filter(SHOWN_SCORE)),
                "variant": _marks(judged.variant[k].filter(SHOWN_SCORE)),
                **_counts(judged, k),
            }
            for k in order[:MAX_SHOWN]
        ],
    }


def _counts(judged: Judged, k: int) -> dict[str, Any]:
    result = image_score(judged.names[k], judged.truths[k], judged.variant[k])
    return {"found": result.found, "missed": result.missed, "extra": result.extra}


def _marks(instances: Instances, *, scores: bool = True) -> list[dict[str, Any]]:
    marks: list[dict[str, Any]] = []
    for label, value, counts in zip(instances.labels, instances.scores.tolist(), instances.masks, strict=True):
        mark: dict[str, Any] = {"label": label, "counts": counts.decode("ascii")}
        marks.append(mark | ({"score": round(value, 3)} if scores else {}))
    return marks


def _numbers(one: Evaluation) -> dict[str, Any]:
    named = {"ap": one.ap, "ap50": one.ap50, "ap75": one.ap75, "ar100": one.ar100}
    agnostic = {f"agnostic_{name}": getattr(one, f"agnostic_{name}") for name in ("ap", "ap50", "ap75")}
    return {**named, **agnostic, "intervals": dict(one.intervals)}


def thinned(losses: Sequence[tuple[int, float]], most: int = 200) -> list[tuple[int, float]]:
    """At most `most` points of a curve, each the mean of its neighbours."""
    if len(losses) <= most:
        return [(step, value) for step, value in losses]
    parts = np.array_split(np.asarray(losses, np.float64), most)
    return [(int(part[-1, 0]), float(part[:, 1].mean())) for part in parts]


def versions() -> dict[str, str]:
    """What was installed: the packages that decide about numbers, Python, and the scenes' generator."""
    found = {"python": platform.python_version(), "scenes": SCENES_VERSION}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def to_json(facts: Mapping[str, Any]) -> str:
    """Indented JSON with sorted keys; never NaN."""
    return json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

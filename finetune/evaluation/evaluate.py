"""Mask AP of a predictor on labelled images, as COCO defines it, with what a report needs beside the one number.

The matching and accumulation are faster_coco_eval's (C++), on RLE masks: no mask is ever decoded here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from faster_coco_eval import COCO, COCOeval_faster

from finetune.datasets import Sample
from finetune.errors import DatasetError
from finetune.evaluation.ground_truth import FOUND_IOU, Truths, match, relabelled
from serving.inference.preprocess import Image
from serving.instances import Instances

Predict = Callable[[Sequence[Image]], list[Instances]]

MAX_DETECTIONS = 100
# What counts as found, for the score of a single image: a robot acts on confident instances that are roughly right.
# It is where every model does best: scores are answered that way (`serving.inference.score_calibration`).
FOUND_SCORE = 0.5
ANY = "package"  # what every class is called where names do not count
_CONFIDENCE = 0.95
__all__ = ["FOUND_IOU", "match"]  # of `finetune.evaluation.ground_truth`: they belong to the words of an evaluation


@dataclass(frozen=True, slots=True)
class ImageScore:
    """How one image went, at a score of at least `FOUND_SCORE` (unless another was asked for) and IoU of at least
    `FOUND_IOU`, classes included.

    `f1` is 2 * found / (2 * found + missed + extra), and 1.0 where there is nothing to find and nothing was claimed.
    """

    image: str
    f1: float
    found: int
    missed: int
    extra: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Mask AP and its parts, all in [0, 1].

    Attributes:
        ap, ap50, ap75: COCO mask AP over IoU .50:.95, at .50, at .75; the mean over the classes with an instance.
        ar100: mean recall over IoU .50:.95 with at most 100 detections per image.
        per_class: AP of each class that has an instance in the images.
        per_size: AP of small (< 32 x 32 pixels), medium and large (> 96 x 96) instances, where there are any.
        per_image: one score per image, the worst first.
        images, instances: how many were evaluated.
        intervals: 95 % bootstrap intervals over images of `ap`, `ap50`, `ap75` and of the class-agnostic three; empty
            unless asked for.
        agnostic_ap, agnostic_ap50, agnostic_ap75: the same with all labels taken as one: finding without naming.
    """

    ap: float
    ap50: float
    ap75: float
    ar100: float
    per_class: Mapping[str, float]
    per_size: Mapping[str, float]
    per_image: tuple[ImageScore, ...]
    images: int
    instances: int
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    agnostic_ap: float = 0.0
    agnostic_ap50: float = 0.0
    agnostic_ap75: float = 0.0

    def to_json(self) -> bytes:
        """JSON with sorted keys; numbers rounded to six digits, so that equal results give equal bytes."""
        text = json.dumps(rounded(asdict(self)), sort_keys=True, ensure_ascii=False, allow_nan=False)
        return text.encode()

    @classmethod
    def from_json(cls, data: bytes) -> Evaluation:
        """What `to_json` wrote."""
        found = json.loads(data)
        found["per_image"] = tuple(ImageScore(**one) for one in found["per_image"])
        found["intervals"] = {name: (low, high) for name, (low, high) in found["intervals"].items()}
        return cls(**found)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a base is worth on one judging set, zero-shot."""

    name: str
    evaluation: Evaluation


def evaluate(
    predict: Predict,
    samples: Sequence[Sample],
    classes: Sequence[str],
    *,
    label_map: Mapping[str, str],
    names: Mapping[str, str] | None = None,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
    resamples: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Run `predict` over `samples` and measure it.

    Args:
        predict: images uint8 [H, W, 3] RGB to one `Instances` each, at the images' own sizes.
        samples: with at least one instance among them.
        classes: the classes that count; annotations of others are left out.
        label_map: a label that `predict` answers, to one of `classes`; other answers are left out.
        names: a class of the samples, to the one of `classes` that it is judged as; each as itself unless told
            otherwise. Labels that are boxes are judged as `finetune.evaluation.ground_truth` says.
        progress: called with (images done, images in all) after each batch.
        resamples: bootstrap resamples for the intervals (200 are enough for a report); 0 for none.
        seed: of the bootstrap.

    Raises DatasetError if no sample has an instance of `classes`, or an image cannot be read.
    """
    said: list[Instances] = []
    truths, answers = collect(
        predict, samples, classes, label_map=label_map, names=names, batch_size=batch_size, progress=progress, said=said
    )
    images = [sample.name for sample in samples]
    agnostic = nameless(samples, said)
    return score(truths, answers, classes, images, resamples=resamples, seed=seed, agnostic=agnostic)


def collect(
    predict: Predict,
    samples: Sequence[Sample],
    classes: Sequence[str],
    *,
    label_map: Mapping[str, str],
    names: Mapping[str, str] | None = None,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
    said: list[Instances] | None = None,
) -> tuple[list[Instances], list[Instances]]:
    """The annotations and the answers of each sample, both in `classes`; arguments as of `evaluate`. `said` takes the
    answers as they were given, under whatever label. Raises DatasetError, ValueError, as `evaluate`.
    """
    truths = Truths.of(samples, {name: name for name in classes} if names is None else names)
    if not any(map(len, truths.judged)):
        raise DatasetError(f"none of the {len(samples)} images has an instance of {', '.join(classes)} to measure on")
    answers: list[Instances] = []
    for start in range(0, len(samples), batch_size):
        batch = samples[start : start + batch_size]
        found = predict([sample.read_image() for sample in batch])
        for sample, answer in zip(batch, found, strict=True):
            if (answer.height, answer.width) != (sample.height, sample.width):
                raise ValueError(f"the answer for {sample.name} is {answer.width}x{answer.height} pixels")
            if said is not None:
                said.append(answer)
            answers.append(truths.fit(len(answers), relabelled(answer, label_map)))
        if progress is not None:
            progress(len(answers), len(samples))
    return list(truths.judged), answers


def nameless(samples: Sequence[Sample], said: Sequence[Instances]) -> tuple[list[Instances], list[Instances]]:
    """The annotations and the answers `said`, every label of both taken as one."""
    truths = Truths.of(samples, {label: ANY for sample in samples for label in sample.labels})
    return list(truths.judged), [truths.fit(k, one) for k, one in enumerate(any_class(said))]


def score(
    truths: Sequence[Instances],
    answers: Sequence[Instances],
    classes: Sequence[str],
    names: Sequence[str],
    *,
    resamples: int = 0,
    seed: int = 0,
    agnostic: tuple[Sequence[Instances], Sequence[Instances]] | None = None,
    found_score: float = FOUND_SCORE,
) -> Evaluation:
    """Measure `answers` against `truths`, image by image; labels of both are among `classes`.

    Answers of at least `found_score` count in the scores of single images.

    `agnostic` are annotations and answers without their names (`nameless`); by default those that are given.
    """
    coco = _run(truths, answers, classes)
    one = agnostic or (any_class(truths), any_class(answers))
    merged = coco if agnostic is None and len(classes) == 1 else _run(*one, [ANY])
    any_ap, any_ap50, any_ap75 = _averages(merged)
    intervals: dict[str, tuple[float, float]] = {}
    precision, recall = coco.eval["precision"], coco.eval["recall"]
    sizes = {name: _mean(precision[:, :, :, k, -1]) for k, name in enumerate(coco.params.areaRngLbl) if name != "all"}
    per_class = {name: _mean(precision[:, :, k, 0, -1]) for k, name in enumerate(classes)}
    ap, ap50, ap75 = _averages(coco)
    if resamples:
        intervals = _intervals(coco, len(truths), len(classes), resamples, seed)
        again = intervals if merged is coco else _intervals(merged, len(truths), 1, resamples, seed)
        intervals |= {f"agnostic_{name}": span for name, span in again.items()}
    images = [
        image_score(name, truth, answer, found_score)
        for name, truth, answer in zip(names, truths, answers, strict=True)
    ]
    return Evaluation(
        ap=ap,
        ap50=ap50,
        ap75=ap75,
        ar100=_mean(recall[:, :, 0, -1]) or 0.0,
        per_class={name: value for name, value in per_class.items() if value is not None},
        per_size={name: value for name, value in sizes.items() if value is not None},
        per_image=tuple(sorted(images, key=lambda image: (image.f1, -image.missed - image.extra, image.image))),
        images=len(truths),
        instances=sum(len(truth) for truth in truths),
        intervals=intervals,
        agnostic_ap=any_ap,
        agnostic_ap50=any_ap50,
        agnostic_ap75=any_ap75,
    )


# --- COCO's numbers ---------------------------------------------------------------------------------------------------


def boundary_ap(truths: Sequence[Instances], answers: Sequence[Instances], classes: Sequence[str]) -> float:
    """AP of boundary IoU (Cheng et al., "Boundary IoU", arXiv 2103.16562): it asks for outlines, where mask AP of a
    large package forgives a ragged one. Masks are decoded here, unlike in `score`."""
    return _averages(_run(truths, answers, classes, kind="boundary"))[0]


def any_class(instances: Sequence[Instances], name: str = ANY) -> list[Instances]:
    """The same instances, all of one class: to measure finding apart from naming."""
    return [Instances(i.height, i.width, i.boxes, i.scores, (name,) * len(i), i.masks) for i in instances]


def _run(truths: Sequence[Instances], answers: Sequence[Instances], classes: Sequence[str], kind: str = "segm") -> Any:  # noqa: ANN401
    """An evaluated COCOeval: precision [IoU, recall, class, size, detections] in `eval`, -1 where undefined."""
    truth, answer = COCO(), COCO()
    truth.dataset = _document(truths, classes)
    answer.dataset = _document(answers, classes)
    truth.createIndex()
    answer.createIndex()
    # separate_eval keeps the matches of each image, from which the bootstrap accumulates again.
    coco = COCOeval_faster(truth, answer, iouType=kind, separate_eval=True)
    coco.params.maxDets = [MAX_DETECTIONS]
    coco.evaluate()
    coco.accumulate()
    return coco


def _document(per_image: Sequence[Instances], classes: Sequence[str]) -> dict[str, Any]:
    numbers = {name: number for number, name in enumerate(classes, 1)}
    annotations = [
        {
            "id": 0,
            "image_id": image,
            "category_id": numbers[label],
            "segmentation": rle,
            "area": area,
            "score": value,
            "iscrowd": 0,
        }
        for image, instances in enumerate(per_image, 1)
        for label, rle, area, value in zip(
            instances.labels, instances.rles(), instances.areas().tolist(), instances.scores.tolist(), strict=True
        )
    ]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    images = [{"id": k, "height": i.height, "width": i.width} for k, i in enumerate(per_image, 1)]
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    """Mean of the defined values (COCO marks classes and sizes without any instance by -1), None without one."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


def _averages(coco: Any) -> tuple[float, float, float]:  # noqa: ANN401
    """(AP, AP50, AP75) of the accumulated matches; 0.0 where no instance was there to find."""
    precision = coco.eval["precision"][:, :, :, 0, -1]
    return _mean(precision) or 0.0, _mean(precision[0]) or 0.0, _mean(precision[5]) or 0.0


def bootstrap(
    truths: Sequence[Instances],
    answers: Sequence[Instances],
    classes: Sequence[str],
    *,
    resamples: int,
    seed: int = 0,
) -> npt.NDArray[np.float64]:
    """float64 [resamples, 3]: (AP, AP50, AP75) of images drawn again with replacement.

    Equal numbers of images and equal seeds draw the same images: rows of two predictors, or of two trainings, are
    pairs, and their differences have the interval of the difference.
    """
    return _drawn(_run(truths, answers, classes), len(truths), len(classes), resamples, seed)


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % percentile interval of bootstrapped values [K]."""
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _intervals(coco: Any, images: int, classes: int, resamples: int, seed: int) -> dict[str, tuple[float, float]]:  # noqa: ANN401
    drawn = _drawn(coco, images, classes, resamples, seed)
    return {name: interval(drawn[:, k]) for k, name in enumerate(("ap", "ap50", "ap75"))}


def _drawn(coco: Any, images: int, classes: int, resamples: int, seed: int) -> npt.NDArray[np.float64]:  # noqa: ANN401
    """Percentile bootstrap over images, without matching anything twice.

    The matches of an image do not depend on the others: drawing images again means drawing their matches again.
    """
    matches = np.empty(len(coco._evalImgs_cpp), object)
    matches[:] = coco._evalImgs_cpp  # class-major, then size, then image
    matches = matches.reshape(classes, -1, images)[:, 0]
    coco._paramsEval.areaRng = coco._paramsEval.areaRng[:1]
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, 3))
    for row in drawn:
        coco._evalImgs_cpp = matches[:, rng.integers(0, images, images)].ravel().tolist()
        coco.accumulate()
        row[:] = _averages(coco)
    return drawn


# --- one image --------------------------------------------------------------------------------------------------------


def image_score(name: str, truth: Instances, answer: Instances, found_score: float = FOUND_SCORE) -> ImageScore:
    """How `answer` did on one image, at the thresholds that `ImageScore` names."""
    sure = answer.filter(found_score)
    found = sum(1 for _ in match(truth, sure))
    missed, extra = len(truth) - found, len(sure) - found
    wrong = missed + extra
    return ImageScore(name, 1.0 if found + wrong == 0 else 2 * found / (2 * found + wrong), found, missed, extra)


def rounded(value: Any) -> Any:  # noqa: ANN401
    """JSON values with every float rounded to six digits."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value

"""Clicks to draw all polygons, and clicks to correct what a model proposes: `python -m benchmarks.fleet.label_clicks`.

On photographs (a dataset folder) and on scenes of cells that no base was trained on; the rules are in
`benchmarks.fleet.annotator`. A class is mended only where the model knows the dataset's classes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.fleet.annotator import Cost, label
from finetune.datasets import read_dataset
from finetune.scenes.generator import SceneGenerator
from finetune.scenes.look import HELD_OUT
from hub.loop.labelling.regions import LEAST_SCORE, SHOWN_SCORE, Kept, proposed
from hub.settings import SHIPPED
from serving.inference.preprocess import Image
from serving.inference.segmenter import Segmenter
from serving.instances import Instances

SIZE = 384


def photographs(folder: Path, count: int) -> Iterator[tuple[Image, Instances]]:
    """The first pictures of a dataset, with their labels."""
    for sample in read_dataset(folder).samples[:count]:
        yield sample.read_image(), sample.truth()


def scenes(count: int, seed: int) -> Iterator[tuple[Image, Instances]]:
    """Scenes of the cells that no base was trained on, in turn."""
    drawers = [SceneGenerator(look, size=SIZE, seed=seed) for look in HELD_OUT.values()]
    for k in range(count):
        scene = drawers[k % len(drawers)].scene(k)
        yield scene.image, Instances.from_masks(scene.masks(), scene.labels)


def measure(segmenter: Segmenter, pictures: Iterator[tuple[Image, Instances]]) -> dict[str, dict[str, float]]:
    """Clicks and keys of both ways, the share of clicks that is saved, with an interval (95 %, pictures drawn anew),
    and the share of actions (clicks and keys), and what became of proposals: `page` as the labelling page shows and
    offers them, `all shown` with all that are sure enough on the picture and nothing offered."""
    rows: dict[str, list[tuple[Cost, Cost]]] = {"page": [], "all shown": []}
    known = set(segmenter.labels)
    for image, truth in pictures:
        (answer,) = segmenter.segment([image], min_score=LEAST_SCORE)
        classes = set(truth.labels) <= known
        answers = list(zip(answer.labels, answer.scores.tolist(), answer.masks, strict=True))
        regions = sorted(proposed(answers, answer.height, answer.width), key=lambda one: -(one.score or 0.0))
        shown, offered = (_instances(regions, answer, offers) for offers in (False, True))
        rows["page"].append(label(truth, shown, offered, classes=classes))
        rows["all shown"].append(label(truth, answer.filter(SHOWN_SCORE), classes=classes))
    return {way: _told(pairs) for way, pairs in rows.items()}


def _instances(regions: Sequence[Kept], answer: Instances, offers: bool) -> Instances:
    kept = [one for one in regions if one.offered == offers]
    scores = np.array([one.score or 0.0 for one in kept], np.float32)
    masks = tuple(one.counts.encode() for one in kept)
    boxes = np.zeros((len(kept), 4), np.float32)
    return Instances(answer.height, answer.width, boxes, scores, tuple(one.label for one in kept), masks)


def _told(pairs: Sequence[tuple[Cost, Cost]]) -> dict[str, float]:
    scratch, helped = (sum((pair[k] for pair in pairs), Cost()) for k in (0, 1))
    drawn = np.array([pair[0].clicks for pair in pairs], float)
    corrected = np.array([pair[1].clicks for pair in pairs], float)
    again = np.random.default_rng(0).integers(0, len(pairs), (2000, len(pairs)))
    saved = 1 - corrected[again].sum(1) / drawn[again].sum(1)
    low, high = np.percentile(saved, [2.5, 97.5])
    return {
        "pictures": len(pairs), "clicks_drawn": scratch.clicks, "clicks_corrected": helped.clicks,
        "keys_corrected": helped.keys, "saved": round(1 - helped.clicks / scratch.clicks, 4),
        "saved_low": round(float(low), 4), "saved_high": round(float(high), 4),
        "saved_actions": round(1 - (helped.clicks + helped.keys) / scratch.clicks, 4),
        **{name: value for name, value in asdict(helped).items() if name not in ("clicks", "keys")},
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, help="A dataset of photographs.")
    parser.add_argument("--base", type=Path, default=SHIPPED, help="The model that proposes.")
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    segmenter = Segmenter.load(asked.base)
    sets = {"scenes": scenes(asked.images, asked.seed)}
    if asked.data is not None:
        sets["photographs"] = photographs(asked.data, asked.images)
    for name, pictures in sets.items():
        sys.stdout.write(json.dumps({name: measure(segmenter, pictures)}, indent=1) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

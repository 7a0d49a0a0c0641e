"""Which ranking rule makes the most of equal labels?

To run it: `python -m benchmarks.fleet.rankings --quick`.

A cell's pool of pictures is ranked by each rule of the labelling queue (`hub.loop.labelling.rank`), on what the queue
knows: the base's answers, how pictures look, how novel they are, which picks fail (`benchmarks.fleet.picks_model`).
The first ones are labelled by the truth, a LoRA adapter is trained on them for equal steps, and judged on pictures of
the same cell. Fleet cells see one in five frames of packages that are new to them; `rack-boxes` are photographs. The
difference to random choice has a 95 % interval over seeds and judging pictures, drawn together.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.fleet.picks_model import Robot
from finetune.curation.clusters import hdbscan
from finetune.datasets import read_dataset
from finetune.evaluation.evaluate import any_class, bootstrap, interval
from finetune.models.model import base_labels, load_base, picture_size
from finetune.scenes.generator import SceneGenerator
from finetune.scenes.look import HELD_OUT
from finetune.training.adapt import adapt, recipe_for
from finetune.training.augment import Source, fit_source
from finetune.training.loop import core
from finetune.training.picture_sizes import SOURCE_SCALE
from hub.loop.labelling.fill import ALIKE, look_of
from hub.loop.labelling.rank import RANKERS, Candidate, doubt_of
from hub.settings import SHIPPED
from serving.families.load import family_of
from serving.families.types import InstanceModel
from serving.inference.embeddings import Embedder
from serving.inference.preprocess import Image, preprocessor_config
from serving.inference.segmenter import Segmenter
from serving.instances import Instances

SIZE, NEW_SHARE, KNOWN = 384, 0.2, 16
RESAMPLES = 300
ANY = "package"


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a cell with its truth."""

    name: str
    image: Image
    truth: Instances


@dataclass(frozen=True, slots=True)
class Cell:
    """`known`: pictures that the cell had before; `pool`: what waits for labels; `judged`: what comes after."""

    name: str
    known: Sequence[Picture]
    pool: Sequence[Picture]
    judged: Sequence[Picture]


def fleet_cell(name: str, pool: int, judged: int, seed: int) -> Cell:
    """Scenes of a cell that no base was trained on; from now on one in five is of another such cell's packages."""
    names = list(HELD_OUT)
    other = names[(names.index(name) + 1) % len(names)]
    drawers = {one: SceneGenerator(HELD_OUT[one], size=SIZE, seed=seed) for one in (name, other)}
    rng = np.random.default_rng(seed)

    def drawn(start: int, count: int, share: float) -> Iterator[Picture]:
        for k in range(start, start + count):
            look = other if rng.random() < share else name
            scene = drawers[look].scene(k)
            yield Picture(f"{name}-{k}", scene.image, Instances.from_masks(scene.masks(), scene.labels))

    known = tuple(drawn(0, KNOWN, 0.0))
    return Cell(name, known, tuple(drawn(KNOWN, pool, NEW_SHARE)), tuple(drawn(KNOWN + pool, judged, NEW_SHARE)))


def photographs(folder: Path, pool: int, judged: int, seed: int) -> Cell:
    """A dataset's pictures in another order for each seed: nothing is known before."""
    samples = list(read_dataset(folder).samples)
    order = np.random.default_rng(seed).permutation(len(samples)).tolist()
    pictures = []
    for k in order[: pool + judged]:
        image, truth = samples[k].read_image(), samples[k].truth()
        pictures.append(Picture(samples[k].name, image, truth))
    return Cell(folder.name, (), tuple(pictures[judged:]), tuple(pictures[:judged]))


def candidates(cell: Cell, base_dir: Path, seed: int) -> list[Candidate]:
    """What the queue knows of the pool's pictures. Raises ValueError for a picture that cannot be encoded."""
    segmenter, embedder = Segmenter.load(base_dir), Embedder.load(base_dir, base_name="judged")
    answers, frames = _looked_at(cell.pool, segmenter, embedder)
    known = frames if not cell.known else _looked_at(cell.known, segmenter, embedder)[1]
    novelty = _novelty(frames, known, same=not cell.known)
    failed = _failed(cell.pool, answers, seed)
    gains = _gains(frames, novelty, failed)
    found: list[Candidate] = []
    groups: list[tuple[int, str]] = []
    for k, (picture, answer) in enumerate(zip(cell.pool, answers, strict=True)):
        done, data = cv2.imencode(".png", np.ascontiguousarray(picture.image[..., ::-1]))
        if not done:
            raise ValueError(f"{picture.name} cannot be encoded")
        look = look_of(data.tobytes())
        alike = next((name for bits, name in groups if (bits ^ int(look, 16)).bit_count() <= ALIKE), None)
        if alike is None:
            alike = f"group {k}"
            groups.append((int(look, 16), alike))
        doubt = 1.0 if failed[k] else doubt_of([float(s) for s in answer.scores if s >= 0.15])
        found.append(Candidate(picture.name, doubt, alike, gains[k], look, float(novelty[k])))
    return found


def _looked_at(
    pictures: Sequence[Picture], segmenter: Segmenter, embedder: Embedder
) -> tuple[list[Instances], npt.NDArray[np.float32]]:
    """The base's answers and float32 [n, D] of the frames."""
    answers = [segmenter.segment([one.image], min_score=0.15)[0] for one in pictures]
    return answers, np.stack([embedder.embed(p.image, a).frame for p, a in zip(pictures, answers, strict=True)])


def _novelty(rows: npt.NDArray[np.float32], known: npt.NDArray[np.float32], *, same: bool) -> npt.NDArray[np.float64]:
    """Distance of each frame to the nearest known one, by the known ones' spread; `same`: to the nearest other."""
    scale = known.std(0) + 1e-6
    apart = np.linalg.norm(rows[:, None] / scale - known[None] / scale, axis=2)
    if same:
        np.fill_diagonal(apart, np.inf)
    return np.asarray(apart.min(1) / np.sqrt(rows.shape[1]), np.float64)


def _failed(pictures: Sequence[Picture], answers: Sequence[Instances], seed: int) -> list[int]:
    """Picks that fail on each picture, by the stated model of picks."""
    robot = Robot(np.random.default_rng(seed))
    return [sum(1 for _ in robot.picks(p.truth, a.filter(0.5), [])) for p, a in zip(pictures, answers, strict=True)]


def _gains(
    rows: npt.NDArray[np.float32], novelty: npt.NDArray[np.float64], failed: Sequence[int]
) -> list[float | None]:
    """An event's failed picks, shared among its pictures; None for pictures of no event. Events are clusters of the
    pictures that are novel or failed."""
    wanted = [k for k in range(len(rows)) if failed[k] or novelty[k] > np.quantile(novelty, 0.7)]
    gains: list[float | None] = [None] * len(rows)
    if len(wanted) < 6:
        return gains
    points = np.asarray(rows[wanted], np.float64)
    labels = hdbscan(points, min_size=3)
    if (labels < 0).all():  # there is one kind alone, or none
        labels = hdbscan(points, min_size=3, single=True)
    sizes = Counter(labels.tolist())
    cost: Counter[int] = Counter()
    for place, label in zip(wanted, labels.tolist(), strict=True):
        cost[label] += failed[place]
    for place, label in zip(wanted, labels.tolist(), strict=True):
        if label >= 0 and cost[label]:
            gains[place] = cost[label] / len(rows) / sizes[label]
    return gains


def trained(cell: Cell, chosen: Sequence[int], base_dir: Path, *, steps: int, seed: int) -> list[Instances]:
    """What an adapter that was trained on these pictures of the pool answers on the judged ones, classes left aside."""
    base = load_base(base_dir)
    labels = base_labels(base)
    index = {label: k for k, label in enumerate(labels)}
    side = int(picture_size(base) * SOURCE_SCALE)
    sources = []
    for k in chosen:
        truth = cell.pool[k].truth
        classes = np.array([index.get(label, 0) for label in truth.labels], np.int64)
        sources.append(fit_source(Source(cell.pool[k].image, truth.decode_masks(), classes, None), side))
    recipe = recipe_for("lora", family_of(base_dir), seconds=None, steps=steps, seed=seed)
    with tempfile.TemporaryDirectory() as workspace:
        model = adapt(base, sources, recipe, Path(workspace), report=lambda _: None)
    network = cast("InstanceModel", core(model))
    segment = Segmenter.from_model(network, preprocessor_config(picture_size(base))).segment
    return any_class([segment([one.image])[0] for one in cell.judged], ANY)


def judged(cell: Cell, answers: Sequence[Instances]) -> npt.NDArray[np.float64]:
    """float64 [RESAMPLES + 1, 3] of AP, AP50 and AP75; the first row is of the pictures as they are."""
    truths = any_class([one.truth for one in cell.judged], ANY)
    whole = bootstrap(truths, answers, [ANY], resamples=RESAMPLES, seed=7)
    return np.concatenate([_exact(truths, answers)[None], whole])


def _exact(truths: Sequence[Instances], answers: Sequence[Instances]) -> npt.NDArray[np.float64]:
    from finetune.evaluation.evaluate import score

    names = [str(k) for k in range(len(truths))]
    found = score(truths, answers, [ANY], names)
    return np.array([found.ap, found.ap50, found.ap75])


def compare(
    cells: Sequence[tuple[str, Any]],
    base_dir: Path,
    budgets: Sequence[int],
    seeds: Sequence[int],
    steps: int,
    keep: Path,
) -> Iterator[dict[str, Any]]:
    """A row for each cell, budget and rule; `cells` are names with what makes one of a seed, `keep` is a folder for
    what each training gave: a comparison that was ended goes on there."""
    for name, make in cells:
        drawn: dict[tuple[int, str], list[npt.NDArray[np.float64]]] = {}
        for seed in seeds:
            cell = make(seed)
            known = _kept(keep / f"{name}-{seed}.json", partial(candidates, cell, base_dir, seed))
            for rule, ranker in RANKERS.items():
                ranks = ranker(known)
                order = sorted(range(len(ranks)), key=lambda k: (-ranks[k], known[k].id))
                for budget in budgets:
                    file = keep / f"{name}-{seed}-{rule}-{budget}-{steps}.npy"
                    if not file.exists():
                        answers = trained(cell, order[:budget], base_dir, steps=steps, seed=seed)
                        np.save(file, judged(cell, answers))
                    drawn.setdefault((budget, rule), []).append(np.load(file))
                    said = drawn[budget, rule][-1][0].round(4).tolist()
                    sys.stderr.write(f"{name} seed {seed} {rule} {budget} labels: AP, AP50, AP75 {said}\n")
        for (budget, rule), runs in drawn.items():
            by_seed = np.stack(runs)
            apart = by_seed - np.stack(drawn[budget, "random"])
            low, high = interval(_again(apart[:, 1:, 0]))
            yield {
                "cell": name, "labels": budget, "rule": rule, "seeds": len(runs),
                "ap": round(float(by_seed[:, 0, 0].mean()), 4), "ap50": round(float(by_seed[:, 0, 1].mean()), 4),
                "ap_seeds": by_seed[:, 0, 0].round(4).tolist(), "over_random": round(float(apart[:, 0, 0].mean()), 4),
                "low": round(low, 4), "high": round(high, 4),
            }  # fmt: skip


def _kept(file: Path, make: Callable[[], list[Candidate]]) -> list[Candidate]:
    if not file.exists():
        file.write_text(json.dumps([asdict(one) for one in make()]))
    return [Candidate(**one) for one in json.loads(file.read_text())]


def _again(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Means over seeds that are drawn anew, float64 [K] of [seeds, K]."""
    seeds = np.random.default_rng(3).integers(0, len(values), (values.shape[1], len(values)))
    return np.asarray(np.take_along_axis(values.T, seeds, axis=1).mean(1), np.float64)


def verdict(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The rule with the best mean place over cells and budgets, and where two rules flip."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["cell"], row["labels"]), []).append(row)
    places: dict[str, list[int]] = {}
    gains: dict[str, list[float]] = {}
    for group in groups.values():
        for place, row in enumerate(sorted(group, key=lambda row: -row["ap"]), 1):
            places.setdefault(row["rule"], []).append(place)
            gains.setdefault(row["rule"], []).append(row["over_random"])
    means = {rule: round(float(np.mean(values)), 4) for rule, values in gains.items()}
    flips = [
        f"{one} and {other}: {sum(a < b for a, b in zip(places[one], places[other], strict=True))} of {len(groups)} for"
        f" {one}"
        for one in places
        for other in places
        if one < other and 0 < sum(a < b for a, b in zip(places[one], places[other], strict=True)) < len(groups)
    ]
    best = max(means, key=lambda rule: (means[rule], rule))
    return {"best": best, "mean_over_random": means, "places": places, "flips": flips,
            "groups": [f"{cell}, {labels} labels" for cell, labels in groups]}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row of JSON for each comparison, and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/rack-boxes"))
    parser.add_argument("--base", type=Path, default=SHIPPED)
    parser.add_argument("--cells", default="demo,robin,cardinal")
    parser.add_argument("--budgets", default="5,10,20")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--pool", type=int, default=80)
    parser.add_argument("--judged", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="One cell and the photographs, few labels, two seeds.")
    parser.add_argument("--keep", type=Path, default=Path("rankings-kept"), help="Where trainings are kept.")
    parser.add_argument("--out", type=Path, help="Where the rows are kept, as JSON.")
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.cells, asked.budgets, asked.seeds, asked.steps = "robin", "8", 2, 30
        asked.pool, asked.judged = 32, 16
    asked.keep.mkdir(parents=True, exist_ok=True)
    cells: list[tuple[str, Any]] = [
        (name, lambda seed, name=name: fleet_cell(name, asked.pool, asked.judged, 1000 + seed))
        for name in asked.cells.split(",")
        if name
    ]
    if asked.data.is_dir():
        cells.append((asked.data.name, lambda seed: photographs(asked.data, asked.pool, asked.judged, seed)))
    budgets = [int(value) for value in asked.budgets.split(",")]
    rows = []
    for row in compare(cells, asked.base, budgets, range(asked.seeds), asked.steps, asked.keep):
        rows.append(row)
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()
    said = verdict(rows)
    sys.stdout.write(json.dumps(said, indent=1) + "\n")
    if asked.out is not None:
        asked.out.write_text(json.dumps({"rows": rows, **said}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Novelty judged on the fleet: new packages told from known ones, noticed in time, grouped as they were planted.

    python -m benchmarks.fleet.novelty --seeds 1 2 --kept /tmp/novelty

One cell a seed: boxes of cardboard and padded mailers under its fixed camera, answered by the base that is shipped. Its
reference is learnt from views of known packages. Five kinds are new to it; each is planted as one package among known
ones. From the judged packages, streams of frames are then drawn (with replacement), without and with a new kind at a
share of instances, for the change detector: how long until it is raised, and how often nothing raises it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.fleet.cameras import NEW_LOOKS, CellCamera, Shot, new_look
from benchmarks.fleet.kept import Kept
from finetune.curation.clusters import adjusted_mutual_information
from finetune.scenes.look import BROAD, Look
from hub.loop import grouping
from hub.rollout.statistics import wilson
from serving.inference.embeddings import Embedder
from serving.inference.segmenter import Segmenter
from serving.observed.appearance import WIDTH
from serving.observed.change import LEARN, ChangeDetector, looks_between
from serving.observed.novelty import METHODS, Float, certainty
from serving.observed.novelty_reference import Judged, Reference, Seen, seen_of
from serving.observed.novelty_watch import WEEK_S

BASE = Path(__file__).parents[2] / "finetune" / "bases" / "universal"
KNOWN: Look = replace(
    BROAD,
    classes={"box": 0.7, "padded_mailer": 0.3},
    box_materials={"kraft": 0.8, "plywood": 0.2},
    hues=((20.0, 60.0), (195.0, 255.0)),
    negatives=0.0,
    rooms=0.0,
)
SIZE = 320
SAME = 0.4
"""An answer is of the package that it overlaps with to this IoU or more."""
LEAST_SCORE = 0.3
EVERY_S = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One rendered view: what was seen, which planted kind each answer is of ("" where of none), and what lay there
    ((kind, answered) of each package)."""

    seen: Seen
    kinds: tuple[str, ...]
    there: tuple[tuple[str, bool], ...]
    where: tuple[tuple[str, tuple[float, float]], ...] = ()
    """(kind, middle as shares of the sides) of each package."""


@dataclass(slots=True)
class Result:
    """One seed."""

    seed: int
    known: int = 0
    auroc: dict[str, float] = field(default_factory=dict)
    auroc_by_kind: dict[str, float] = field(default_factory=dict)
    unknown_at_1_percent: float = 0.0
    known_flagged: float = 0.0
    answered: dict[str, tuple[int, int]] = field(default_factory=dict)
    unanswered_found: tuple[int, int] = (0, 0)
    frames_to_raise: list[int] = field(default_factory=list)
    false_alarms: int = 0
    quiet_weeks: float = 0.0
    agreement: float | None = None
    grouped: tuple[int, int] = (0, 0)


def auroc(new: NDArray[np.floating], known: NDArray[np.floating]) -> float:
    """The probability that a new one scores above a known one; a half of it for equals."""
    above = (new[:, None] > known[None]).mean()
    return float(above + 0.5 * (new[:, None] == known[None]).mean())


def look_at(shot: Shot, segmenter: Segmenter, embedder: Embedder) -> View:
    """Answer a view and embed what was answered."""
    (found,) = segmenter.segment([shot.image], min_score=LEAST_SCORE)
    masks = found.decode_masks()
    truth = np.stack([shot.ids == k + 1 for k in range(len(shot.labels))]) if shot.labels else masks[:0]
    both = np.einsum("nhw,mhw->nm", masks.astype(np.float32), truth.astype(np.float32))
    sums = masks.sum(axis=(1, 2))[:, None] + truth.sum(axis=(1, 2))[None]
    iou = both / np.maximum(sums - both, 1)
    kinds = tuple(shot.labels[int(row.argmax())] if len(row) and row.max() > SAME else "" for row in iou)
    hit = [bool(len(masks)) and bool(iou[:, k].max() > SAME) for k in range(len(shot.labels))]
    where = []
    for label, mask in zip(shot.labels, truth, strict=True):
        rows, columns = np.nonzero(mask)
        where.append((label, (float(columns.mean()) / mask.shape[1], float(rows.mean()) / mask.shape[0])))
    return View(
        seen_of(embedder.embed(shot.image, found), shot.image, found),
        kinds,
        tuple(zip(shot.labels, hit, strict=True)),
        tuple(where),
    )


def _arrays(view: View) -> dict[str, NDArray[Any]]:
    """A view as arrays, to be kept."""
    seen = view.seen
    words = json.dumps([seen.grid, view.kinds, view.there, view.where])
    return {
        "instances": seen.instances, "scores": seen.scores, "patches": seen.patches.astype(np.float16),
        "covered": seen.covered, "words": np.array(words),
    }  # fmt: skip


def _view(arrays: Mapping[str, NDArray[Any]]) -> View:
    grid, kinds, there, where = json.loads(str(arrays["words"]))
    seen = Seen(
        arrays["instances"], arrays["scores"], arrays["patches"].astype(np.float32), arrays["covered"], tuple(grid)
    )
    places = tuple((kind, (x, y)) for kind, (x, y) in where)
    return View(seen, tuple(kinds), tuple((kind, hit) for kind, hit in there), places)


def judge(
    seed: int,
    segmenter: Segmenter,
    embedder: Embedder,
    *,
    known: int,
    test: int,
    new: int,
    kept: Kept | None = None,
) -> Result:
    """All of one cell; views that are `kept` are not made again."""
    cell = CellCamera(seed, size=SIZE, known=KNOWN)
    folder = kept or Kept(None)

    def look(name: str, shot: Callable[[], Shot]) -> View:
        return _view(folder.arrays(f"{seed}-{name}", lambda: _arrays(look_at(shot(), segmenter, embedder))))

    learn = [look(f"known-{k}", partial(cell.shot, k)) for k in range(known)]
    plain = [look(f"test-{k}", partial(cell.shot, 500 + k)) for k in range(test)]
    planted = {
        name: [
            look(
                f"new-{number}-{k}",
                partial(
                    cell.shot,
                    1000 + 100 * number + k,
                    packages=(2, 6),
                    extra=[(name, new_look(KNOWN, number))],
                ),
            )
            for k in range(new)
        ]
        for number, name in enumerate(NEW_LOOKS)
    }
    result = Result(seed)
    reference = _auroc(result, learn, [*plain, *(view for views in planted.values() for view in views)])
    judged = {name: [(view, reference.judge(view.seen)) for view in views] for name, views in planted.items()}
    quiet = [(view, reference.judge(view.seen)) for view in plain]
    _answered(result, judged)
    _raise(result, np.random.default_rng(seed), [one for _, one in quiet], judged)
    _group(result, learn, quiet, judged)
    return result


def _auroc(result: Result, learn: Sequence[View], views: Sequence[View]) -> Reference:
    """All scores on the same packages; returns the reference with the default one."""
    kinds = np.array([kind for view in views for kind in view.kinds])
    is_new, is_known = np.isin(kinds, NEW_LOOKS), ~np.isin(kinds, ("", *NEW_LOOKS))
    rows = np.concatenate([view.seen.instances for view in views])
    scores = np.concatenate([view.seen.scores for view in views])
    reference = Reference.learn([view.seen for view in learn], base="universal", layers=(), tail=WIDTH)
    result.known = sum(len(view.kinds) for view in learn)
    for method in METHODS:
        own = Reference.learn([view.seen for view in learn], base="", layers=(), method=method, tail=WIDTH)
        found = own.known.scores(rows, method, certainty(scores))
        result.auroc[method] = auroc(found[is_new], found[is_known])
    network = reference.known.network.scores(rows[:, :-WIDTH], "mahalanobis")
    result.auroc["network alone"] = auroc(network[is_new], network[is_known])
    looks = reference.known.parts(rows, "mahalanobis", certainty(scores))[:, 1]
    result.auroc["looks alone"] = auroc(looks[is_new], looks[is_known])
    result.auroc["low score"] = auroc(-scores[is_new], -scores[is_known])
    found = reference.known.scores(rows, reference.method, certainty(scores))
    for name in NEW_LOOKS:
        if (kinds == name).any():
            result.auroc_by_kind[name] = auroc(found[kinds == name], found[is_known])
    limit = reference.packages.threshold(max(reference.false_alarms, reference.packages.finest()))
    result.unknown_at_1_percent = float((found[is_new] > limit).mean())
    result.known_flagged = float((found[is_known] > limit).mean())
    return reference


def _answered(result: Result, judged: Mapping[str, Sequence[tuple[View, Judged]]]) -> None:
    ignored = seen = 0
    for name, views in judged.items():
        there = [hit for view, _ in views for kind, hit in view.there if kind == name]
        result.answered[name] = (sum(there), len(there))
        for view, found in views:
            for (kind, (x, y)), (_, hit) in zip(view.where, view.there, strict=True):
                if kind == name and not hit:
                    ignored += 1
                    seen += any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in found.unanswered)
    result.unanswered_found = (seen, ignored)


def _raise(
    result: Result,
    rng: np.random.Generator,
    quiet: Sequence[Judged],
    judged: Mapping[str, Sequence[tuple[View, Judged]]],
    *,
    share: float = 0.02,
    quiet_weeks: float = 0.2,
) -> None:
    """Frames until a kind at `share` of the instances is raised, and alarms where nothing is new."""
    looks = looks_between(WEEK_S, EVERY_S, 2)
    still = np.array([one.strangeness for one in quiet])
    a_frame = float(np.mean([len(one.p) for one in quiet]))
    for name, views in judged.items():
        strange = np.array([one.strangeness for _, one in views])
        detector = ChangeDetector(looks, seed=result.seed)
        for value in rng.choice(still, LEARN + 1500):
            detector.add(float(value))
        detector.restart() if detector.evidence >= looks else None
        for frame in range(1, 5001):
            value = rng.choice(strange) if rng.random() < share * a_frame else rng.choice(still)
            if detector.add(float(value)):
                result.frames_to_raise.append(frame)
                break
        else:
            result.frames_to_raise.append(-1)
        del name
    count = int(quiet_weeks * WEEK_S / EVERY_S)
    detector = ChangeDetector(looks, seed=result.seed + 1)
    result.false_alarms = sum(detector.add(float(value)) for value in rng.choice(still, count))
    result.quiet_weeks = quiet_weeks


def _group(
    result: Result,
    learn: Sequence[View],
    quiet: Sequence[tuple[View, Judged]],
    judged: Mapping[str, Sequence[tuple[View, Judged]]],
) -> None:
    """Events founded of what was flagged, beside the kinds that were planted."""
    rows: list[Float] = []
    kinds: list[str] = []
    for views in (*judged.values(), quiet):
        for view, found in views:
            for k in np.flatnonzero(found.novel):
                rows.append(view.seen.instances[k])
                kinds.append(view.kinds[k] if view.kinds[k] in NEW_LOOKS else "known")
    if len(rows) < grouping.MIN_FINDINGS:
        return
    stacked = np.stack(rows)
    where = grouping.space(np.concatenate([view.seen.instances for view in learn]), stacked)
    labels = grouping.founded(where.of(stacked))
    inside = labels >= 0
    new = np.array([kind in NEW_LOOKS for kind in kinds])
    result.grouped = (int((inside & new).sum()), int(new.sum()))
    if (inside & new).sum() >= 2:
        chosen = inside & new
        result.agreement = adjusted_mutual_information(labels[chosen], np.array(kinds)[chosen])


def lines(results: Sequence[Result]) -> list[str]:
    """A table for people."""
    made = [f"{'AUROC':14}" + "".join(f"{f'seed {one.seed}':>10}" for one in results) + f"{'mean':>10}"]
    for method in results[0].auroc:
        values = [one.auroc[method] for one in results]
        made.append(f"{method:14}" + "".join(f"{v:>10.3f}" for v in values) + f"{np.mean(values):>10.3f}")
    made.append("the default score, kind by kind:")
    for name in NEW_LOOKS:
        values = [one.auroc_by_kind[name] for one in results if name in one.auroc_by_kind]
        hit, of = (sum(one.answered[name][k] for one in results) for k in (0, 1))
        made.append(f"  {name:16} AUROC {np.mean(values) if values else float('nan'):.3f}, answered {hit} of {of}")
    for one in results:
        raised = sorted(frame for frame in one.frames_to_raise if frame > 0)
        said = f"median {np.median(raised):.0f}, {sum(f <= 500 for f in raised)} within 500" if raised else "none"
        agreement = "-" if one.agreement is None else f"{one.agreement:.2f}"
        made.append(
            f"seed {one.seed}: {one.known} known; new flagged {one.unknown_at_1_percent:.2f}, known flagged"
            f" {one.known_flagged:.3f}; raised {len(raised)} of {len(one.frames_to_raise)} kinds ({said});"
            f" false alarms {one.false_alarms} in {one.quiet_weeks} camera-weeks; grouped {one.grouped[0]} of"
            f" {one.grouped[1]} flagged, mutual information {agreement}; not answered but seen"
            f" {one.unanswered_found[0]} of {one.unanswered_found[1]}"
        )
    found, of = (sum(one.unanswered_found[k] for one in results) for k in (0, 1))
    low, high = wilson(found, of)
    made.append(f"not answered but seen: {found} of {of} (95 %: {low:.2f} to {high:.2f})")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--known", type=int, default=40, help="views that the reference is learnt from")
    parser.add_argument("--test", type=int, default=24, help="further views of known packages")
    parser.add_argument("--new", type=int, default=6, help="views of each new kind")
    parser.add_argument("--base", type=Path, default=BASE)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--kept", type=Path, help="a folder for views that are done, to go on where a run was ended")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    segmenter = Segmenter.load(asked.base, slots=2)
    embedder = Embedder.load(asked.base, base_name="universal@v1")
    results = []
    for seed in asked.seeds:
        sizes = {"known": asked.known, "test": asked.test, "new": asked.new}
        results.append(judge(seed, segmenter, embedder, **sizes, kept=Kept(asked.kept)))
        sys.stderr.write(f"seed {seed} is done\n")
    told = json.dumps([asdict(one) for one in results], indent=2) if asked.json else "\n".join(lines(results))
    sys.stdout.write(told + "\n")


if __name__ == "__main__":
    main()

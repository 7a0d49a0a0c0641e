"""Why picks of the fleet's robots failed: verdicts against the truth that the generator knows, as a confusion table.

    python -m benchmarks.fleet.picks --seeds 30 31 --cells 8 --frames 4

Two servers answer the same frames: a bad variant, which is the truth damaged by a stated model
(`benchmarks.fleet.picks_model`), and the shipped base itself, with the errors that it makes. Limits were chosen on
seeds 0, 50 and 51. Reports are on others.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.fleet.cameras import CellCamera
from benchmarks.fleet.kept import Kept
from benchmarks.fleet.picks_model import Failed, Robot, damage, truth_of
from hub.rollout.statistics import Rate
from serving.inference.segmenter import Segmenter
from serving.observed.failure_kinds import VERDICTS, Verdict
from serving.observed.failures import LIMITS, Limits, judge
from serving.observed.second_looks import PLAIN, VIEWS, Look, look_again

Image = NDArray[np.uint8]
BASE: Final = Path(__file__).parents[2] / "finetune" / "bases" / "universal"
CELLS: Final = 8
SERVED: Final = 0.5
"""The robots pick instances from this score on."""
STREAMS: Final = ("bad variant", "base")


@dataclass(slots=True)
class Confusion:
    """Counts of (truth, verdict)."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, truth: Verdict, verdict: Verdict) -> None:
        """Count one answer."""
        self.counts[truth, verdict] += 1

    def rate(self, *, without: Sequence[str] = ()) -> Rate:
        """How many were named as the truth has it, with a Wilson interval at 95 %."""
        wanted = {key: count for key, count in self.counts.items() if key[0] not in without}
        return Rate(sum(count for (truth, said), count in wanted.items() if truth == said), sum(wanted.values()))

    def lines(self) -> list[str]:
        """A table for people: rows are the truth, columns the verdicts."""
        used = [name for name in VERDICTS if any(name in key for key in self.counts)]
        made = [f"{'truth':14}" + "".join(f"{name:>14}" for name in used) + f"{'right':>9}"]
        for truth in used:
            row = [self.counts[truth, said] for said in used]
            if total := sum(row):
                share = f"{self.counts[truth, truth] / total:>9.0%}"
                made.append(f"{truth:14}" + "".join(f"{count:>14}" for count in row) + share)
        for name, rate in (("all", self.rate()), ("without camera faults", self.rate(without=("camera_fault",)))):
            low, high = rate.interval
            said = "-" if rate.value is None else f"{rate.value:.1%} ({low:.1%} to {high:.1%})"
            made.append(f"named as the truth has it, {name}: {said} of {rate.picks}")
        return made


def failed_picks(camera: CellCamera, index: int, segmenter: Segmenter) -> Iterator[tuple[str, Failed]]:
    """The failed picks on frame `index` of a cell, each with its server (of STREAMS) and the looks at its frame."""
    shot = camera.shot(index, packages=(3, 12))
    truth = truth_of(shot.ids, shot.labels)
    if not len(truth):
        return
    rng = np.random.default_rng((camera.seed, 53, index))
    robot = Robot(rng)
    image = _sensed(shot.image, camera, rng)
    plain, *again = look_again(image, segmenter.segment, (PLAIN, *VIEWS))
    base = [Look("the base", plain.instances, again=False), Look("the base, mirrored", again[0].instances, False)]
    served, moved = damage(truth, rng)
    for failed in robot.picks(truth, served, [*moved, *base]):
        yield STREAMS[0], failed
    later = segmenter.segment([_sensed(shot.image, camera, rng)])[0]
    others = [*again, Look("a frame 2 s later", later, again=False)]
    for failed in robot.picks(truth, plain.instances.filter(SERVED), others):
        yield STREAMS[1], failed


def _verdicts(camera: CellCamera, index: int, segmenter: Segmenter) -> list[tuple[str, str, str]]:
    return [(stream, one.truth, judged(one)) for stream, one in failed_picks(camera, index, segmenter)]


def _sensed(image: Image, camera: CellCamera, rng: np.random.Generator) -> Image:
    """The view through its lens and sensor."""
    soft = cv2.GaussianBlur(image, (0, 0), camera.blur).astype(np.float32)
    return (soft + rng.normal(0, camera.sensor_noise, image.shape)).clip(0, 255).astype(np.uint8)


def judged(failed: Failed, limits: Limits = LIMITS) -> Verdict:
    """The verdict on one of them."""
    return judge(failed.served, failed.pick, failed.looks, camera=failed.camera, limits=limits).verdict


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[30, 31])
    parser.add_argument("--cells", type=int, default=CELLS, help="cells of each seed")
    parser.add_argument("--frames", type=int, default=4, help="frames of each cell")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--kept", type=Path, help="a folder for what is done, to go on where a run was ended")
    asked = parser.parse_args(arguments)
    segmenter = Segmenter.load(BASE, slots=2)
    tables = {stream: Confusion() for stream in STREAMS}
    kept = Kept(asked.kept)
    for cell in range(asked.cells):
        for seed in asked.seeds:
            camera = CellCamera(1000 * seed + cell, size=asked.size)
            told = []
            for index in range(asked.frames):
                told += kept.document(
                    f"picks-{seed}-{cell}-{index}",
                    partial(_verdicts, camera, index, segmenter),
                )
            for stream, truth, verdict in told:
                tables[stream].add(truth, verdict)
            # Each cell at once: a run that is ended early has said what it knows.
            sys.stdout.write(json.dumps({"seed": seed, "cell": cell, "picks": told}) + "\n")
            sys.stdout.flush()
    for stream, table in tables.items():
        sys.stdout.write(f"{stream}: seeds {asked.seeds}, {asked.cells} cells, {asked.frames} frames each\n")
        sys.stdout.write("\n".join(table.lines()) + "\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The people of the week: who made the first decks, who labels, and who plants a bad deck."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.fleet.week_world import CellWorld
from finetune.datasets.types import Dataset, Sample
from finetune.datasets.write import write_dataset
from hub.client.client import HubClient
from hub.schemas.labels import Accept, FillIn, Mask, RegionIn
from serving.instances import Instances

SECONDS_A_PICTURE: Final = 25.0
"""Of a person who corrects what was proposed."""
ASKED: Final = 60


@dataclass
class Labeller:
    """Labels what the queues ask for, from the truth, at a human's pace: so many pictures a day, and no others."""

    client: HubClient
    worlds: Mapping[str, CellWorld]
    team: str
    seconds: float = 0.0
    unknown: int = 0
    done: dict[str, int] = field(default_factory=dict)

    def work(self, budget: int) -> dict[str, int]:
        """Label at most `budget` pictures, each time of the queue whose first picture ranks highest; how many of which
        cell. What was labelled is committed at the end of the day."""
        done: dict[str, int] = {}
        for name in self.worlds:
            self.client.fill_labels(name, FillIn(limit=ASKED))
        left = set(self.worlds)
        while budget > 0 and left:
            ranked = [(self._first(name), -done.get(name, 0), name) for name in left]
            asked = [one for one in ranked if one[0] is not None]
            if not asked:
                break
            # Turn by turn among cells: a queue of one cell must not take the whole day.
            name = max(asked, key=lambda one: (one[1], one[0]))[2]
            if self._label(name):
                done[name] = done.get(name, 0) + 1
                budget -= 1
            elif self._first(name) is None:
                left.discard(name)
        for name in done:
            self.client.export_labels(name)
        return done

    def _first(self, name: str) -> float | None:
        found = self.client.label_tasks(name, state="open", limit="1")
        return found[0].rank if found else None

    def _label(self, name: str) -> bool:
        work = self.client.next_label_task(name)
        if work is None:
            return False
        truth = self.worlds[name].truth(self.client.label_image(work.task.id))
        if truth is None:
            self.unknown += 1
            self.client.move_label_task(work.task.id, "remove", work.task.version)
            return False
        regions = [RegionIn(label=label, mask=mask) for label, mask in _regions(truth)]
        answer = Accept(action=secrets.token_hex(16), version=work.task.version, regions=regions,
                        seconds=SECONDS_A_PICTURE)  # fmt: skip
        self.client.accept_labels(work.task.id, answer)
        self.seconds += SECONDS_A_PICTURE
        return True


def _regions(truth: Instances) -> list[tuple[str, Mask]]:
    return [
        (label, Mask(size=(truth.height, truth.width), counts=counts.decode()))
        for label, counts in zip(truth.labels, truth.masks, strict=True)
    ]


def first_deck(client: HubClient, world: CellWorld, name: str, folder: Path, images: int) -> None:
    """The pictures that a cell's team labelled when it was set up."""
    _push(
        client, name, folder, [(world.frame(0, k / images), None) for k in range(images)], "the cell's first pictures"
    )


def bad_deck(client: HubClient, world: CellWorld, name: str, folder: Path, images: int) -> None:
    """Pictures whose masks lie beside the packages: an export that was shifted by a quarter of the picture."""
    made = []
    for k in range(images):
        frame = world.frame(world.planted.shift, k / images)
        masks = np.roll(frame.truth.decode_masks(), frame.truth.width // 4, axis=2)
        made.append((frame, Instances.from_masks(masks, frame.truth.labels)))
    _push(client, name, folder, made, "more pictures, from another tool")


def _push(client: HubClient, name: str, folder: Path, frames: list, message: str) -> None:  # type: ignore[type-arg]
    source = folder / "source"
    source.mkdir(parents=True)
    samples = []
    for number, (frame, said) in enumerate(frames):
        path = source / f"{folder.name}-{number:04}.png"
        path.write_bytes(frame.data)
        truth = said if said is not None else frame.truth
        samples.append(Sample(path, truth.width, truth.height, truth.labels, truth.masks))
    classes = tuple(sorted({label for one in samples for label in one.labels}))
    write_dataset(Dataset(name, classes, tuple(samples)), folder / "stored", licence="cc0-1.0")
    client.push_folder("dataset", name, folder / "stored", message)

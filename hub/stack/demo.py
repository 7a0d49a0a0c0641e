"""The demo's story: a hub of its own, a new cell, its images, a fine-tune, a promotion, a robot that asks."""

from __future__ import annotations

import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hub.client.client import HubClient, ProgressCallback
from hub.errors import InputError, StackError
from hub.locks import port_is_free
from hub.schemas.core import FinetuneIn, Job, Moved
from hub.settings import Settings
from hub.stack.processes import parcelhub_command, spawn, stop
from hub.stack.stack import triton_ready

if TYPE_CHECKING:
    from finetune.datasets import Dataset, Sample
    from serving.inference.segmenter import Segmenter
    from serving.instances import Instances
    from serving.robot.client import RobotClient

CELL = "demo"
DATASET = "demo/frames"
START_SECONDS = 600.0  # `up` gives up before, and says on which part
STOP_SECONDS = 60.0
ROBOT_ASKS = 50
ROUNDS = 5
"""Robot and engine are timed by turns, so that a slow moment of the machine hits both."""
MAX_OVERLAYS = 24
MADE_UP = "demo"
GENERATED_SEED = 7
GENERATED_IMAGES = 60
GENERATED_HOLDOUT_SHARE = 1 / 3


class Figures(msgspec.Struct, frozen=True):
    """What the demo measured; the fields of its JSON file."""

    data: str
    images_train: int
    images_holdout: int
    base_ap: float
    base_ap50: float
    variant_ap: float
    variant_ap50: float
    adapter_bytes: int
    base_bytes: int
    train_seconds: float
    kept_share: float
    robot_p50_ms: float
    engine_p50_ms: float
    served_by: str


@dataclass(frozen=True, slots=True)
class Narrator:
    """How the demo tells what it does."""

    say: Callable[[str], None]
    counting: Callable[[str], AbstractContextManager[ProgressCallback]]
    follow: Callable[[HubClient, str], Job]


@dataclass(frozen=True, slots=True)
class Demo:
    """What to run the demo with. Without a `source` it makes up `cell` (MADE_UP by default), one of those that no base
    is trained on."""

    source: Path | None
    cell: str | None
    images: int | None
    out: Path
    max_minutes: float
    keep: bool

    def run(self, tell: Narrator) -> Figures:
        """Run it. Leaves `index.html` with its pictures in `out`. Raises InputError for an unfit source."""
        from finetune.datasets import read_dataset

        if self.source is not None and self.cell is not None:
            raise InputError("give a dataset or a cell to generate, not both")
        if self.source is not None and not self.source.is_dir():
            raise InputError(f"{self.source}: not a folder")
        own = read_dataset(self.source) if self.source else None  # before anything is made or started
        cell = self.cell or MADE_UP
        title = f"generated scenes ({cell})" if self.source is None else str(self.source)
        self.out.mkdir(parents=True, exist_ok=True)
        with data_folder(self.out, keep=self.keep) as data:
            settings = own_settings(data.absolute())
            made = self._scenes(cell, data / "generated", tell) if own is None else own
            frames = stored(made, data / "frames")
            tell.say("starting a hub, Triton and a worker")
            with running_stack(settings, self.out / "up.log"), HubClient.of(settings) as client:
                return self._story(settings, client, frames, tell, title)

    def _scenes(self, cell: str, folder: Path, tell: Narrator) -> Dataset:
        """Scenes of a cell, as a team would bring them."""
        from finetune.datasets import read_dataset
        from finetune.scenes import CELLS, write_cell

        count = max(GENERATED_IMAGES, math.ceil((self.images or 0) / (1 - GENERATED_HOLDOUT_SHARE)))
        tell.say(f"a cell that the base has not seen: {cell}")
        with tell.counting(f"generating {count} labelled images") as progress:
            write_cell(
                folder, CELLS[cell], images=count, seed=GENERATED_SEED, progress=lambda done: progress(done, count)
            )
        return read_dataset(folder)

    def _story(self, settings: Settings, client: HubClient, frames: Dataset, tell: Narrator, data: str) -> Figures:
        client.create_cell(CELL, "a new cell")
        folder = frames.samples[0].image.parents[1]
        with tell.counting("pushing the images") as progress:
            client.push_folder("dataset", DATASET, folder, f"{len(frames.samples)} images", progress)
        asked = FinetuneIn(cell=CELL, dataset=DATASET, images=self.images, max_minutes=self.max_minutes)
        job = tell.follow(client, client.finetune(asked).id)

        deck = msgspec.json.decode(client.blob(client.variant(str(job.version)).deck))
        names = set(deck["holdout"])
        holdout = [sample for sample in frames.samples if sample.name in names]
        from serving.robot.client import RobotClient

        token = settings.local_robot_token()
        with RobotClient(settings.triton_grpc, cell=CELL, robot="demo-robot", token=token, timeout_s=30.0) as robot:
            with tell.counting("asking the base") as progress:
                base = ask(robot, holdout, progress)
            moved = self._promote(client, str(job.version), tell)
            wait_until_served(robot, holdout[0], str(moved.version))
            with tell.counting("asking the variant") as progress:
                variant = ask(robot, holdout, progress)
            served_by = robot.segment(holdout[0].image).served_by
            tell.say("timing a robot's requests beside the engine alone")
            robot_ms, engine_ms = time_both(robot, load_engine(settings, client, str(job.version)), holdout)
        figures = Figures(
            data=data,
            **{name: job.metrics[name] for name in Figures.__struct_fields__ if name in job.metrics},
            robot_p50_ms=robot_ms,
            engine_p50_ms=engine_ms,
            served_by=served_by,
        )
        labels = client.variant(str(job.version)).labels
        self._page(figures, holdout, [renamed(answer, labels) for answer in base], variant)
        return figures

    def _promote(self, client: HubClient, version: str, tell: Narrator) -> Moved:
        """Serve the variant whatever the verdict on it, and say so: robots here are made up, and the hub is its own."""
        judged = client.variant(version).judgement
        if judged:
            tell.say(f"the verdict: {judged.verdict}. {judged.reason}")
        if judged and judged.verdict != "ready":
            tell.say("the default gate would refuse it; this hub is the demo's own, and shows it nevertheless")
            client.set_policy({"name": "the demo's: anything goes", "rules": []})
        return client.promote(version, note="the demo")

    def _page(
        self, figures: Figures, holdout: Sequence[Sample], base: Sequence[Instances], variant: Sequence[Instances]
    ) -> None:
        from finetune.report.overlays import OverlayRow, write_overlay_page

        rows = [
            OverlayRow(sample.name, sample.image, sample.truth(), base[i], variant[i])
            for i, sample in enumerate(holdout[:MAX_OVERLAYS])
        ]
        write_overlay_page(self.out, rows, summary_of(figures), f"A new cell, served by {figures.served_by}")


def summary_of(figures: Figures) -> dict[str, str]:
    """The figures as a person reads them: the rows on top of the page."""
    return {
        "images": f"{Path(figures.data).name}: {figures.images_train} trained on, {figures.images_holdout} held out",
        "mask AP50, base → variant": f"{figures.base_ap50:.3f} → {figures.variant_ap50:.3f}",
        "mask AP, base → variant": f"{figures.base_ap:.3f} → {figures.variant_ap:.3f}",
        "training": f"{figures.train_seconds:.0f} s, of which {figures.kept_share:.0%} is kept (what did best)",
        "variant's size": f"{figures.adapter_bytes / 1e6:.2f} MB beside a base of {figures.base_bytes / 1e6:.1f} MB",
        "robot's answer, median": f"{figures.robot_p50_ms:.0f} ms (the engine alone: {figures.engine_p50_ms:.0f} ms)",
    }


def stored(dataset: Dataset, folder: Path) -> Dataset:
    """A dataset in the form that the hub stores, so that its images' names are those of the training deck."""
    from finetune.datasets import read_dataset, write_dataset

    write_dataset(dataset, folder)
    return read_dataset(folder, check_images=False)


@contextmanager
def data_folder(out: Path, *, keep: bool) -> Iterator[Path]:
    """A fresh folder inside `out`, removed in the end unless it is wanted (or the demo failed: its logs are there)."""
    data = Path(tempfile.mkdtemp(prefix="data-", dir=out))
    yield data
    if not keep:
        shutil.rmtree(data)


def own_settings(data: Path) -> Settings:
    """Settings of a stack that touches no other: its own folder and token, other ports where the usual are taken."""
    settings = Settings.load(data=data, hub_url="", token="")
    hosts = {"hub": settings.host}
    if all(port_is_free(hosts.get(name, settings.triton_host), port) for name, port in settings.ports.items()):
        return settings
    return settings.on_free_ports()


@contextmanager
def running_stack(settings: Settings, log: Path) -> Iterator[None]:
    """`parcelhub up` as a child process, from ready to gone; its output goes to `log`. Raises StackError if it does not
    start."""
    with log.open("wb") as output:
        process = spawn(parcelhub_command("up"), env=settings.environment(), stdout=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not triton_ready(settings):
            if process.poll() is not None or time.monotonic() > deadline:
                lines = log.read_text(errors="replace").strip().splitlines()[-8:]
                raise StackError(f"the stack did not start (all of it: {log}):\n" + "\n".join(lines))
            time.sleep(0.2)
        yield
    finally:
        stop(process, grace_seconds=STOP_SECONDS)


def ask(robot: RobotClient, samples: Sequence[Sample], progress: ProgressCallback) -> list[Instances]:
    """What the running service answers for each image."""
    answers = []
    for number, sample in enumerate(samples, start=1):
        answers.append(robot.segment(sample.image).instances)
        progress(number, len(samples))
    return answers


def wait_until_served(robot: RobotClient, sample: Sample, version: str) -> None:
    """Robots see a promotion within a second. Raises StackError if this one never comes."""
    deadline = time.monotonic() + 10.0
    while not (answer := robot.segment(sample.image)).served_by.startswith(version):
        if time.monotonic() > deadline:
            raise StackError(f"promoted {version}, but the robot is still served by {answer.served_by}")
        time.sleep(0.05)


def load_engine(settings: Settings, client: HubClient, version: str) -> Segmenter:
    """The served base and variant in this process."""
    from serving.inference.runners import EngineChoice
    from serving.inference.segmenter import Segmenter

    base = client.routing()["base"]
    choice = EngineChoice.read(os.environ)  # as the backend, which inherits the environment
    segmenter = Segmenter.load(settings.serving_folder / "base" / base, base_name=base, engine=choice)
    segmenter.add_variant(version, settings.serving_folder / "variants" / version)
    segmenter.warm_up()
    return segmenter


def time_both(robot: RobotClient, segmenter: Segmenter, samples: Sequence[Sample]) -> tuple[float, float]:
    """Median milliseconds of a robot's request, and of decode + forward + post-processing alone, by turns."""
    from serving.inference.preprocess import decode_image

    pictures = [sample.image.read_bytes() for sample in samples]
    version = segmenter.variants[0]
    robot_s, engine_s = [], []
    for turn in range(ROUNDS):
        batch = [pictures[i % len(pictures)] for i in range(turn, turn + ROBOT_ASKS // ROUNDS)]
        robot.segment(batch[0])  # the first one after a pause finds cold caches; it is not counted
        robot_s += [robot.segment(picture).round_trip_s for picture in batch]
        segmenter.segment([decode_image(batch[0])], [version])
        for picture in batch:
            started = time.perf_counter()
            segmenter.segment([decode_image(picture)], [version])
            engine_s.append(time.perf_counter() - started)
    return statistics.median(robot_s) * 1000, statistics.median(engine_s) * 1000


def renamed(answer: Instances, labels: dict[str, str]) -> Instances:
    """The base's answer in the team's words; what the team has no word for is left out."""
    kept = answer.take([i for i, label in enumerate(answer.labels) if label in labels])
    return replace(kept, labels=tuple(labels[label] for label in kept.labels))

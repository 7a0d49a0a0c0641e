"""A shift week, unattended: a real hub with real Triton and a worker, and nobody who does anything but label.

    python -m benchmarks.fleet week [--quick] [--seed N] [--cells N] [--days N] [--out FOLDER]

Before the shift each cell has a variant of its own pictures. From the third day on the light of two cells drifts, two
cameras fail for a day, a bag comes that three cells have never seen, and somebody plants a bad training deck in one.
Robots pick by what is served; a person with a stated pace labels what the queue asks for, from the truth. Everything
else is the hub's: refreshes and promotions by rule, trials and rollbacks by the picks.

Days are simulated: a day's frames are answered one after the other, and it ends when what its labels started is done.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np

from benchmarks.fleet.week_diary import QUICK, Diary, Size
from benchmarks.fleet.week_people import Labeller, bad_deck, first_deck
from benchmarks.fleet.week_report import write_report
from benchmarks.fleet.week_world import CellWorld, Planted, picks_of
from hub.client.client import HubClient
from hub.errors import HubAnswerError
from hub.schemas.core import FinetuneIn
from hub.schemas.refresh import RefreshPolicyIn, RefreshPolicySet, Step
from hub.settings import Settings
from hub.stack.demo import own_settings, running_stack

TEAM: Final = "fleet"
STAGES: Final[tuple[Literal["station", "beta", "fleet"], ...]] = ("station", "beta", "fleet")


class Week:
    """Runs one."""

    def __init__(
        self, size: Size, seed: int, client: HubClient, settings: Settings, folder: Path, say: Callable[[str], None]
    ) -> None:
        names = tuple(f"cell-{k + 1}" for k in range(size.cells))
        self._size, self._client, self._settings, self._folder, self._say = size, client, settings, folder, say
        self._planted = Planted.of(seed, names, size.days)
        self._worlds = {
            name: CellWorld.of(name, 1000 * seed + k, self._planted, size.picture) for k, name in enumerate(names)
        }
        self._rng = np.random.default_rng((seed, 97))
        self._labeller = Labeller(client, self._worlds, TEAM)
        self.diary = Diary(seed, size, self._planted)
        self._seen_steps: set[str] = set()

    def run(self) -> Diary:
        """All of it."""
        started = time.monotonic()
        self._before()
        for day in range(self._size.days):
            self._work(day)
            if day == self._planted.shift:
                self._plant(day)
            self._label()
            self._settle(day)
            self._timelines(day)
            told = ", ".join(f"{name} {_rate(self.diary.rates[name][day])}" for name in self._worlds)
            self._say(f"day {day + 1} of {self._size.days}: {told}")
        self.diary.minutes = (time.monotonic() - started) / 60
        return self.diary

    # --- before the shift ---------------------------------------------------------------------------------------------

    def _before(self) -> None:
        """Each cell's first variant, trained on its own pictures and promoted by the gates."""
        jobs = {}
        for name, world in self._worlds.items():
            self._client.create_cell(name, team=TEAM)
            for end in ("labels", "extra"):
                self._client.ensure_repo("dataset", f"{TEAM}/{name}-{end}")
                self._client.change_dataset(f"{TEAM}/{name}-{end}", private=True)  # what production saw is not public
            policy = RefreshPolicyIn(
                labels=[f"{TEAM}/{name}-labels", f"{TEAM}/{name}-extra"], min_labels=self._size.least,
                min_hours_between=0, max_minutes=self._size.minutes, promote="evidence",
            )  # fmt: skip
            self._client.set_refresh_policy(name, RefreshPolicySet(policy=policy, note="the week's"))
            first_deck(self._client, world, f"{TEAM}/{name}", self._folder / name, self._size.first)
            asked = FinetuneIn(cell=name, dataset=f"{TEAM}/{name}", max_minutes=self._size.minutes)
            jobs[name] = self._client.finetune(asked).id
        for name, job in jobs.items():
            self._wait(partial(self._ended, job), f"{name}'s first")
            done = self._client.job(job)
            if done.version is None:
                self.diary.problems.append(f"{name}: its first training {done.state}: {done.error}")
                continue
            self._promote(-1, name, done.version)
        for name in jobs:  # these moves are told already
            self._seen_steps |= {one.id for one in self._client.timeline(name, limit="200") if one.kind == "promotion"}
        self._say(f"before the shift: {len(jobs)} cells have their first variant")

    # --- a day --------------------------------------------------------------------------------------------------------

    def _work(self, day: int) -> None:
        """The robots' shift."""
        from serving.robot.client import RobotClient

        token = self._settings.local_robot_token()
        for name, world in self._worlds.items():
            good = picks = 0
            served = ""
            with RobotClient(
                self._settings.triton_grpc, cell=name, robot=f"robot-{name}", token=token, timeout_s=60.0,
                hub=self._settings.url,
            ) as robot:  # fmt: skip
                for number in range(self._size.frames):
                    frame = world.frame(day, number / self._size.frames)
                    answer = robot.segment(frame.data)
                    served = answer.served_by
                    for pick in picks_of(frame, answer.instances, self._rng):
                        picks += 1
                        good += pick.success
                        robot.report_outcome(answer, pick.outcome, instance=pick.instance)  # type: ignore[arg-type]
            self.diary.rates.setdefault(name, []).append((good, picks))
            self.diary.served.setdefault(name, []).append(served)

    def _plant(self, day: int) -> None:
        """Somebody's bad deck comes into one cell."""
        name = self._planted.bad_deck
        images = max(self._size.least, self._size.first)
        bad_deck(self._client, self._worlds[name], f"{TEAM}/{name}-extra", self._folder / f"{name}-bad", images)
        self.diary.note(day, name, "planted", f"A bad training deck of {images} images came in", tone="bad")

    def _label(self) -> None:
        """A person labels what the queues ask for."""
        done = self._labeller.work(self._size.labels)
        for name in self._worlds:
            self.diary.labels.setdefault(name, []).append(done.get(name, 0))
        self.diary.label_seconds = self._labeller.seconds

    def _settle(self, day: int) -> None:
        """The day ends when every refresh that it started is done, and the rule has nothing left to promote."""

        def quiet() -> bool:
            for name in self._worlds:
                found = self._client.refresh(name)
                if found.active is not None or found.status.code == "start":
                    return False
                if found.promotion is not None and found.promotion.code in ("try", "later"):
                    return False
            return True

        self._wait(quiet, f"the refreshes of day {day + 1}")

    def _promote(self, day: int, cell: str, version: str) -> None:
        for stage in STAGES:
            try:
                moved = self._client.promote(version, stage=stage, note="the week: by the gates")
            except HubAnswerError as error:
                self.diary.note(day, cell, "refused", f"The gate refused {version} for {stage}", str(error), "bad")
                return
            self.diary.note(day, cell, "promotion", f"{moved.version} was promoted to {stage}", tone="good")

    def _timelines(self, day: int) -> None:
        """What each cell's timeline has told since the day before."""
        for name in self._worlds:
            for step in reversed(self._client.timeline(name, limit="200")):
                if step.id in self._seen_steps:
                    continue
                self._seen_steps.add(step.id)
                kind = _kind(step)
                if kind:
                    self.diary.note(day, name, kind, step.title, step.reason, step.tone)

    def _ended(self, job: str) -> bool:
        return self._client.job(job).state not in ("queued", "running")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + self._size.wait_s
        while not condition():
            if time.monotonic() > deadline:
                self.diary.problems.append(f"{what} took more than {self._size.wait_s / 60:.0f} minutes")
                return
            time.sleep(1.0)


def _kind(step: Step) -> str:
    """What the report calls a step; "" for what it does not tell."""
    title = step.title.lower()
    if "rolled back" in title:
        return "rollback"
    if step.kind != "promotion":
        return step.kind
    return "refused" if "refused" in title else "promotion" if "was promoted" in title else ""


def _rate(counts: tuple[int, int]) -> str:
    return f"{counts[0] / counts[1]:.0%}" if counts[1] else "-"


def run_week(
    size: Size, seed: int, out: Path, *, base: Path | None = None, say: Callable[[str], None] = lambda _: None
) -> Diary:
    """Run a week on a stack of its own, and write `week.html` and `week.json` to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="parcelhub-week-") as temporary:
        place = Path(temporary)
        settings = replace(own_settings(place / "data"), capture_share=0.3, capture_low_score=0.6, grow=0)
        if base is not None:
            settings = replace(settings, base_source=base)
        say("starting a hub, Triton and a worker")
        with running_stack(settings, out / "up.log"), HubClient.of(settings) as client:
            diary = Week(size, seed, client, settings, place / "decks", say).run()
    write_report(diary, out)
    return diary


def main(arguments: Sequence[str]) -> int:
    """Run it and say where its page is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet week", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="half an hour on two cores")
    parser.add_argument("--seed", type=int, default=1, help="plants another week")
    parser.add_argument("--cells", type=int)
    parser.add_argument("--days", type=int)
    parser.add_argument("--frames", type=int, help="of a day and cell")
    parser.add_argument("--minutes", type=float, help="of each training")
    parser.add_argument("--picture", type=int, help="pixels a side")
    parser.add_argument("--base", type=Path, help="folder of the base to begin with; the shipped one by default")
    parser.add_argument("--out", type=Path, default=Path("week"))
    asked = parser.parse_args(arguments)
    size = QUICK if asked.quick else Size()
    named = ("cells", "days", "frames", "minutes", "picture")
    size = replace(size, **{name: value for name in named if (value := getattr(asked, name)) is not None})

    def say(text: str) -> None:
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        sys.stdout.flush()

    diary = run_week(size, asked.seed, asked.out, base=asked.base, say=say)
    say(f"{asked.out / 'week.html'}: {diary.minutes:.0f} minutes, {len(diary.problems)} problems")
    return 0

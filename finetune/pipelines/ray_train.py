"""A base trained by Ray Train: the same training in every worker, on one machine or on many.

Every worker runs `make_base` as a process under torchrun does; the workspace and the folder of the finished base must
be seen by all of them (one machine, or shared storage). A small actor tells the caller how far the first worker is.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finetune import errors
from finetune.datasets import read_dataset
from finetune.errors import FinetuneError, TrainingError
from finetune.evaluation.evaluate import Evaluation, Judgement
from finetune.pipelines.base_service import make_base
from finetune.pipelines.ray_board import Board
from finetune.training.base import BaseRecipe
from finetune.training.loop import Tick

ADDRESS_VARIABLE = "RAY_ADDRESS"
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class RayPlan:
    """Where it runs. `address` of a cluster, None for RAY_ADDRESS or else this machine alone; `retries` are restarts of
    all workers after one of them died, each from the last checkpoint; `wait_seconds` for the cluster to have room.
    """

    workers: int = 2
    address: str | None = None
    retries: int = 3
    wait_seconds: float = 300.0


def make_base_on_ray(
    recipe: BaseRecipe,
    plan: RayPlan,
    *,
    workspace: Path,
    out: Path,
    report: Callable[[Tick], None],
    judge_folders: Sequence[Path] = (),
    scenes: int = 150,
) -> list[Judgement]:
    """Train and judge a base with `plan.workers` processes of Ray Train; arguments and result as of `make_base`.

    A batch of the recipe is one worker's. A run that was killed goes on from `workspace`. Raises TrainingError where
    Ray is missing, has no room for the workers, or lost them too often, and what `make_base` raises.
    """
    # Workers import the libraries of a training before they answer, on a busy machine for longer than Ray's minute.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
    try:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        raise TrainingError(f"Ray Train is not installed ({error}): pip install 'parcelhub[ray]'") from error
    for folder in judge_folders:
        read_dataset(folder)
    workspace, out = workspace.resolve(), out.resolve()
    workspace.mkdir(parents=True, exist_ok=True)
    with _cluster(ray, plan):
        use_gpu = ray.cluster_resources().get("GPU", 0) >= plan.workers
        board = ray.remote(Board).options(num_cpus=0).remote()
        trainer = TorchTrainer(
            _work,
            train_loop_config={
                "board": board,
                "recipe": recipe,
                "workspace": workspace,
                "out": out,
                "judge_folders": [folder.resolve() for folder in judge_folders],
                "scenes": scenes,
            },
            scaling_config=ScalingConfig(num_workers=plan.workers, use_gpu=use_gpu),
            run_config=RunConfig(
                # A name of its own for every run: what there is to resume are our checkpoints, not Ray's.
                name=f"run-{time.time_ns()}",
                storage_path=str(workspace / "ray"),
                failure_config=FailureConfig(max_failures=plan.retries),
            ),
        )
        try:
            with _relaying(ray, board, report):
                trainer.fit()
        except TrainingFailedError as error:
            verdict = ray.get(board.verdict.remote())
            if verdict is not None:
                kind, message = verdict
                raise getattr(errors, kind, TrainingError)(message) from None
            raise TrainingError(f"Ray Train gave up: {_first_line(error)}") from error
        result = ray.get(board.result.remote())
        if result is None:
            raise TrainingError("Ray Train ended without a finished base")
        return [Judgement(name, Evaluation.from_json(found)) for name, found in result]


def _work(config: dict[str, Any]) -> None:
    """One worker, from start to end."""
    import ray

    board = config["board"]
    verdict = ray.get(board.verdict.remote())
    if verdict is not None:  # restarted although the training itself failed, which it would do again
        raise TrainingError(verdict[1])
    try:
        judgements = make_base(
            config["recipe"],
            workspace=config["workspace"],
            out=config["out"],
            report=lambda tick: ray.get(board.tell.remote(asdict(tick))),
            judge_folders=config["judge_folders"],
            scenes=config["scenes"],
        )
    except FinetuneError as error:
        ray.get(board.give_up.remote(type(error).__name__, str(error)))
        raise
    if judgements:
        ray.get(board.finish.remote([(one.name, one.evaluation.to_json()) for one in judgements]))


@contextmanager
def _cluster(ray: Any, plan: RayPlan) -> Iterator[None]:  # noqa: ANN401 - a module without types
    """Connected to a cluster with room for the workers; one on this machine is started and ended here."""
    address = plan.address or os.environ.get(ADDRESS_VARIABLE)
    here = {"num_cpus": max(plan.workers, os.cpu_count() or 1), "include_dashboard": False}
    quiet = {"log_to_driver": False, "configure_logging": False}
    try:
        ray.init(address=address or "local", **quiet, **({} if address else here))
    except Exception as error:  # Ray raises just that where a machine is too slow to start
        raise TrainingError(f"no Ray at {address or 'this machine'}: {error}") from error
    try:
        deadline = time.monotonic() + plan.wait_seconds
        while ray.cluster_resources().get("CPU", 0) < plan.workers:
            if time.monotonic() > deadline:
                have = int(ray.cluster_resources().get("CPU", 0))
                raise TrainingError(f"the Ray cluster has {have} CPUs, too few for {plan.workers} workers")
            time.sleep(1)
        yield
    finally:
        ray.shutdown()


@contextmanager
def _relaying(ray: Any, board: Any, report: Callable[[Tick], None]) -> Iterator[None]:  # noqa: ANN401
    """Hands the board's ticks to `report` while the body runs, the last ones at its end."""
    done = threading.Event()
    seen = 0

    def relay() -> None:
        nonlocal seen
        with suppress(ray.exceptions.RayError):  # a cluster that is lost is told by the training itself
            for tick in ray.get(board.told.remote(seen)):
                seen += 1
                report(Tick(**tick))

    def loop() -> None:
        while not done.wait(_POLL_SECONDS):
            relay()

    thread = threading.Thread(target=loop, name="ray-ticks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        relay()


def _first_line(error: Exception) -> str:
    failures = getattr(error, "worker_failures", None) or {}
    said = next(iter(failures.values()), error)
    lines = [line.strip() for line in str(said).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

"""The parts of Triton's operation that need no server: command line, model repository, settings, metrics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.errors import TritonError
from serving.observed.captures import CapturePolicy
from serving.triton.backend_settings import BackendSettings
from serving.triton.config import Tls, TritonConfig
from serving.triton.installation import Installation
from serving.triton.metrics import MAX_VARIANTS, VariantMetrics
from serving.triton.model_repository import write_model_repository
from serving.triton.scheduler import Batching


def command(config: TritonConfig) -> list[str]:
    return config.command(Installation(Path("tritonserver"), None), None, Path("/models"), "prefix")


def test_the_command_closes_what_is_dangerous(tmp_path: Path) -> None:
    config = TritonConfig(tmp_path, host="0.0.0.0")  # noqa: S104
    made = command(config)
    key = config.admin_key_file.read_text().strip()
    assert f"--grpc-restricted-protocol=model-repository,shared-memory,trace,logging:parcelhub-admin={key}" in made
    assert f"--http-restricted-api=model-repository,shared-memory,trace,logging:parcelhub-admin={key}" in made
    assert "--http-address=0.0.0.0" in made
    assert "--grpc-keepalive-permit-without-calls=true" in made, "a robot between picks may ping"
    assert command(config) == made, "the key stays"
    opened = command(replace(config, shared_memory=True))
    assert f"--grpc-restricted-protocol=model-repository,trace,logging:parcelhub-admin={key}" in opened
    assert config.url == "127.0.0.1:8001"


def test_with_tls_nothing_but_grpc_leaves_the_machine(tmp_path: Path) -> None:
    for name in ("c.pem", "k.pem", "ca.pem"):
        (tmp_path / name).write_text("x")
    config = TritonConfig(tmp_path, host="10.0.0.5", tls=Tls(tmp_path / "c.pem", tmp_path / "k.pem"))
    made = command(config)
    assert {"--grpc-use-ssl=true", "--http-address=127.0.0.1", "--metrics-address=127.0.0.1"} <= set(made)
    assert "--grpc-address=10.0.0.5" in made
    mutual = command(replace(config, tls=Tls(tmp_path / "c.pem", tmp_path / "k.pem", tmp_path / "ca.pem")))
    assert "--grpc-use-ssl-mutual=true" in mutual
    assert f"--grpc-root-cert={tmp_path / 'ca.pem'}" in mutual
    with pytest.raises(TritonError, match=r"gone\.pem"):
        command(replace(config, tls=Tls(tmp_path / "gone.pem", tmp_path / "k.pem")))


def test_the_model_repository_names_no_place(tmp_path: Path) -> None:
    write_model_repository(tmp_path)
    config = (tmp_path / "segmenter/config.pbtxt").read_text()
    assert "dynamic_batching" not in config, "with deadlines Triton's batcher lets requests lie for half a second"
    assert str(tmp_path) not in config + (tmp_path / "segmenter/1/model.py").read_text()


def test_the_backend_reads_what_the_launcher_writes(tmp_path: Path) -> None:
    policy = CapturePolicy(0.4, 0.25, 10**6, 77)
    settings = BackendSettings(
        tmp_path / "s", tmp_path / "t", 3, 17, True, policy, tmp_path / "beat", Batching(3, 9, 10**6, 2.5)
    )
    assert BackendSettings.read(settings.environment()) == settings
    bare = BackendSettings(tmp_path / "s")
    assert BackendSettings.read(bare.environment()) == bare
    assert BackendSettings.read({"PARCELHUB_SERVING": "/serving"}).captures == CapturePolicy()
    for wrong in ({}, {"PARCELHUB_SERVING": "/s", "PARCELHUB_CAPTURE_SHARE": "2"}, {"PARCELHUB_SERVING": "/s", "PARCELHUB_TORCH_THREADS": "x"}):  # fmt: skip # noqa: E501
        with pytest.raises(TritonError, match="PARCELHUB_"):
            BackendSettings.read(wrong)


class Family:
    """Keeps what Triton's metric API was told."""

    COUNTER, GAUGE, HISTOGRAM = range(3)

    def __init__(self, name: str, description: str, kind: int) -> None:
        self.name = name

    def Metric(self, labels: dict[str, str], buckets: list[float] | None = None) -> Metric:  # noqa: N802
        return Metric((self.name, *sorted(labels.items())))


class Metric:
    values: dict[Any, Any] = {}  # noqa: RUF012

    def __init__(self, key: Any) -> None:
        self.key = key

    def increment(self, change: float) -> None:
        assert change > 0
        self.values[self.key] = self.values.get(self.key, 0) + change

    def set(self, value: float) -> None:
        self.values[self.key] = value

    def observe(self, value: float) -> None:
        self.values.setdefault(self.key, []).append(value)


class Api:
    MetricFamily = Family


def test_metrics_add_up_and_stay_few() -> None:
    Metric.values = {}
    metrics = VariantMetrics(Api(), every_s=3600, collect=lambda told: told.total("parcelhub_slot_swaps_total", 3))
    metrics.answered("a@v1", "fleet", 0.5)
    metrics.answered(None, None, 0.25)
    metrics.publish()
    metrics.answered("a@v1", "fleet", 0.75)
    metrics.failed(None, "image")
    metrics.batch([0.25, 0.0])
    metrics.batch([0.5])
    metrics.total("parcelhub_queue_length", 3)
    metrics.total("parcelhub_adapter_hits_total", 5, "a@v1")
    metrics.total("parcelhub_routing_version", 9)
    metrics.serving("universal@v1", "eager bfloat16")
    metrics.publish()
    metrics.total("parcelhub_adapter_hits_total", 7, "a@v1")
    metrics.serving("universal@v2", "eager bfloat16")
    metrics.close()
    fleet = ("parcelhub_requests_total", ("stage", "fleet"), ("variant", "a@v1"))
    assert Metric.values[fleet] == 2
    assert Metric.values["parcelhub_requests_total", ("stage", "base"), ("variant", "base")] == 1
    assert Metric.values["parcelhub_errors_total", ("code", "image"), ("variant", "unknown")] == 1
    assert Metric.values["parcelhub_adapter_hits_total", ("variant", "a@v1")] == 7
    assert Metric.values["parcelhub_latency_seconds", ("variant", "a@v1")] == [0.5, 0.75]
    assert Metric.values["parcelhub_queue_seconds",] == [0.25, 0.0, 0.5]
    assert (Metric.values["parcelhub_batches_total",], Metric.values["parcelhub_batch_rows_total",]) == (2, 3)
    assert Metric.values["parcelhub_queue_length",] == 3
    assert Metric.values["parcelhub_routing_version",] == 9
    told = {key[1][1]: value for key, value in Metric.values.items() if key[0] == "parcelhub_serving_info"}
    assert told == {"universal@v1": 0, "universal@v2": 1}, "one base answers"
    assert Metric.values["parcelhub_slot_swaps_total",] == 3, "what is kept elsewhere is asked for"
    many = VariantMetrics(Api(), every_s=3600)
    for number in range(MAX_VARIANTS + 50):
        many.answered(f"v{number}@v1", "fleet", 0.1)
    many.close()
    names = {key[-1][1] for key in Metric.values if key[0] == "parcelhub_requests_total"}
    assert len(names) <= MAX_VARIANTS + 3
    assert "other" in names

"""Metrics per variant on Triton's own Prometheus endpoint.

A call into Triton's metric API is a message between two processes (20 to 70 microseconds here), so the hot path only
adds to numbers in memory, and a thread of its own hands the differences over once a second. Triton keeps the totals:
they start at zero when the server does, as Prometheus expects of counters.

    parcelhub_requests_total{variant, stage}      parcelhub_errors_total{variant, code}
    parcelhub_latency_seconds{variant}            histogram: from a request's arrival to its answer, waiting included
    parcelhub_queue_seconds                       histogram: how long requests waited for their batch
    parcelhub_queue_length                        how many wait now, for that or for their variant
    parcelhub_batches_total                       parcelhub_batch_rows_total: frames in them
    parcelhub_adapter_hits_total{variant}         parcelhub_adapter_misses_total{variant}
    parcelhub_adapter_loads_total{variant}        adapter files read and checked
    parcelhub_slot_swaps_total                    adapters copied into a slot
    parcelhub_routing_version                     of the table in place
    parcelhub_variants_refused                    routed variants that do not answer now
    parcelhub_variant_refused{variant, code}      1 for each of them and why, 0 once it answers
    parcelhub_serving_info{base, engine}          1 for what answers now, 0 for what did before
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

log = logging.getLogger(__name__)

BASE = "base"
OTHER = "other"
MAX_VARIANTS = 2000
"""More label values than this are counted as `other`: a metric endpoint must stay readable."""
GAUGES = {
    "parcelhub_routing_version": "Version of the routing table in place",
    "parcelhub_queue_length": "Requests that wait for their batch, or for their variant to be read",
    "parcelhub_variants_refused": "Routed variants that do not answer; others or the base answer in their place",
    "parcelhub_variant_refused": "A routed variant that does not answer, by the code of its error",
    "parcelhub_serving_info": "The base and the engine that answer now",
}
HISTOGRAMS = {
    "parcelhub_latency_seconds": "Time from a request's arrival to its answer",
    "parcelhub_queue_seconds": "Time that requests waited for their batch",
}
BUCKETS_S = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)
Key = tuple[str, tuple[tuple[str, str], ...]]


class MetricApi(Protocol):
    """What we use of Triton's Python module."""

    MetricFamily: Any


class VariantMetrics:
    """Counts in memory and publishes from a thread. Thread-safe."""

    def __init__(
        self, api: MetricApi, *, every_s: float = 1.0, collect: Callable[[VariantMetrics], None] | None = None
    ) -> None:
        """`collect` is called by the publishing thread before it publishes: it calls `total` for what is kept
        elsewhere, so that no batch pays for counts of thousands of variants.
        """
        self._collect = collect
        self._lock = threading.Lock()
        self._totals: dict[Key, float] = {}
        self._published: dict[Key, float] = {}
        self._times: deque[tuple[Key, float]] = deque(maxlen=20_000)
        self._metrics: dict[Key, Any] = {}
        self._variants: set[str] = set()
        family = api.MetricFamily
        counters = {
            "parcelhub_requests_total": "Answered requests by variant and stage",
            "parcelhub_errors_total": "Requests answered with an error, by variant and code",
            "parcelhub_adapter_hits_total": "Requests whose variant was in memory",
            "parcelhub_adapter_misses_total": "Requests whose variant had to be read first",
            "parcelhub_adapter_loads_total": "Adapter files read and checked",
            "parcelhub_slot_swaps_total": "Adapters copied into a slot",
            "parcelhub_batches_total": "Batches computed",
            "parcelhub_batch_rows_total": "Frames in the batches computed",
        }
        self._families = {
            name: family(name=name, description=text, kind=family.COUNTER) for name, text in counters.items()
        }
        self._families |= {
            name: family(name=name, description=text, kind=family.GAUGE) for name, text in GAUGES.items()
        }
        self._families |= {
            name: family(name=name, description=text, kind=family.HISTOGRAM) for name, text in HISTOGRAMS.items()
        }
        self._every = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def answered(self, variant: str | None, stage: str | None, seconds: float) -> None:
        """Count an answer."""
        name = self._name(variant)
        with self._lock:
            self._add("parcelhub_requests_total", 1, variant=name, stage=stage or BASE)
            self._times.append((_key("parcelhub_latency_seconds", {"variant": name}), seconds))

    def batch(self, waited: Sequence[float]) -> None:
        """Count a batch by the seconds that each of its requests waited for it."""
        with self._lock:
            self._add("parcelhub_batches_total", 1)
            self._add("parcelhub_batch_rows_total", len(waited))
            self._times.extend((_key("parcelhub_queue_seconds", {}), seconds) for seconds in waited)

    def failed(self, variant: str | None, code: str) -> None:
        """Count an error; `variant` is None where it is not known."""
        name = self._name(variant) if variant is not None else "unknown"
        with self._lock:
            self._add("parcelhub_errors_total", 1, variant=name, code=code)

    def total(self, metric: str, value: float, variant: str | None = None) -> None:
        """Say where a cumulative count that is kept elsewhere stands by now; of a gauge, its value."""
        labels = {} if variant is None else {"variant": self._name(variant)}
        with self._lock:
            self._totals[_key(metric, labels)] = value

    def refused(self, codes: Mapping[str, str]) -> None:
        """Say which routed variants do not answer now, with the codes of their errors; others do again."""
        now = {
            _key("parcelhub_variant_refused", {"variant": self._name(variant), "code": code})
            for variant, code in codes.items()
        }
        with self._lock:
            for key in self._totals:
                if key[0] == "parcelhub_variant_refused":
                    self._totals[key] = 0.0
            for key in now:
                self._totals[key] = 1.0
            self._totals[_key("parcelhub_variants_refused", {})] = float(len(codes))

    def serving(self, base: str, engine: str) -> None:
        """Say what answers from now on; what answered before is taken back."""
        with self._lock:
            for key in self._totals:
                if key[0] == "parcelhub_serving_info":
                    self._totals[key] = 0.0
            self._totals[_key("parcelhub_serving_info", {"base": base, "engine": engine})] = 1.0

    def close(self) -> None:
        """Publish the last numbers and end the thread."""
        self._stop.set()
        self._thread.join(5)

    def publish(self) -> None:
        """Hand everything that changed to Triton."""
        if self._collect is not None:
            self._collect(self)
        with self._lock:
            totals = dict(self._totals)
            times = list(self._times)
            self._times.clear()
        for key, total in totals.items():
            change = total - self._published.get(key, 0.0)
            if key[0] in GAUGES:
                self._metric(key).set(total)
            elif change > 0:
                self._metric(key).increment(change)
            self._published[key] = total
        for key, seconds in times:
            self._metric(key).observe(seconds)

    def _run(self) -> None:
        while True:
            stopping = self._stop.wait(self._every)
            try:
                self.publish()
            except Exception:
                log.exception("metrics could not be published")
            if stopping:
                return

    def _add(self, metric: str, change: float, **labels: str) -> None:
        key = _key(metric, labels)
        self._totals[key] = self._totals.get(key, 0.0) + change

    def _name(self, variant: str | None) -> str:
        if variant is None:
            return BASE
        if variant not in self._variants:
            if len(self._variants) >= MAX_VARIANTS:
                return OTHER
            self._variants.add(variant)
        return variant

    def _metric(self, key: Key) -> Any:  # noqa: ANN401  # Triton's own type
        metric = self._metrics.get(key)
        if metric is None:
            name, labels = key
            family = self._families[name]
            if name in HISTOGRAMS:
                metric = family.Metric(labels=dict(labels), buckets=list(BUCKETS_S))
            else:
                metric = family.Metric(labels=dict(labels))
            self._metrics[key] = metric
        return metric


def _key(metric: str, labels: dict[str, str]) -> Key:
    return metric, tuple(sorted(labels.items()))

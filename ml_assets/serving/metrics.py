"""Prometheus metrics of all processes together; any process can answer a scrape.

Each process writes its metrics to its own files in a small in-memory directory (prometheus-client's multiprocess
mode). The files are named by place, not by process id, so that a replacement process continues the counters of its
predecessor.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from ml_assets.serving.reference import ModelIdentity

if TYPE_CHECKING:  # the supervisor imports this module too and needs no NumPy
    from ml_assets.serving.batching import BatchReport
    from ml_assets.serving.drift_stats import Observation

__all__ = ["Metrics"]

_FEATURE_MEASURES = {
    "rows": "Rows of a feature.",
    "missing": "Rows in which the feature was missing.",
    "sum": "Sum of the feature's values.",
    "squares": "Sum of the squares of the feature's values.",
}
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_MAGNITUDES = tuple(digit * 10.0**power for power in range(-2, 4) for digit in (1, 2, 5))
_PREDICTIONS = (*(-value for value in reversed(_MAGNITUDES)), 0.0, *_MAGNITUDES)


class Metrics:
    """Metrics of one process.

    Args:
        directory: directory shared by all processes; None keeps the metrics in this process.
        place: name of the process, unique among those that run at the same time; letters, digits and hyphens.
        identity: identity of the model that the process serves, if any.
    """

    def __init__(self, directory: Path | None, place: str = "", identity: ModelIdentity | None = None) -> None:
        self._directory = directory
        if directory is not None:
            values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._identity = (identity.name, identity.version) if identity else ("", "")
        self._counted: dict[tuple[str, int], Any] = {}
        self._timed: dict[str, Any] = {}
        self._requests = self._counter("requests", "Answered requests.", ("endpoint", "status"))
        self._errors = self._counter("errors", "Rejected or failed requests, by cause.", ("cause",))
        self._latency = self._histogram(
            "request_seconds", "Time from the end of a request's head to its response.", _SECONDS, ("endpoint",)
        )
        self._queue = self._histogram("queue_seconds", "Time that a request waited for its model run.", _SECONDS)
        self._runs = self._histogram("run_seconds", "Duration of model runs.", _SECONDS)
        self._batches = self._histogram("batch_rows", "Rows per model run.", _ROWS)
        self._in_flight = self._gauge("in_flight", "Requests in progress.", "livesum")
        self._waiting = self._gauge("queue_rows", "Rows that wait for the model.", "livesum")
        self._load = self._gauge("load_seconds", "Time to fetch, verify and load a version.", "max", _MODEL)
        self._live = self._gauge("workers", "Worker processes that serve this version.", "livesum", (*_MODEL, "digest"))
        self._loads = self._counter("loads", "Versions that were loaded or failed to load.", ("outcome",))
        self._predictions = self._histogram("prediction", "Sampled numeric predictions.", _PREDICTIONS, _MODEL)
        self._labels = self._counter("predicted_labels", "Predictions by label.", (*_MODEL, "label"))
        self._features = {
            measure: self._gauge(f"feature_{measure}", meaning, "sum", (*_MODEL, "feature"))
            for measure, meaning in _FEATURE_MEASURES.items()
        }
        self.set_load(0, 0)

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a response."""
        counter = self._counted.get((endpoint, status))
        if counter is None:
            counter = self._counted[endpoint, status] = self._requests.labels(endpoint, str(status))
            self._timed.setdefault(endpoint, self._latency.labels(endpoint))
        counter.inc()
        self._timed[endpoint].observe(seconds)

    def error(self, cause: str) -> None:
        """Count a rejected or failed request."""
        self._errors.labels(cause).inc()

    def batch(self, report: "BatchReport") -> None:
        """Count a model run."""
        self._runs.observe(report.run_seconds)
        self._batches.observe(report.rows)
        for waited in report.waited_seconds:
            self._queue.observe(waited)

    def set_load(self, in_flight: int, waiting_rows: int) -> None:
        """Set the current load of this process."""
        self._in_flight.set(in_flight)
        self._waiting.set(waiting_rows)

    def serving(self, digest: str, *, live: bool) -> None:
        """Set the state of this process: True while it serves its model."""
        self._live.labels(*self._identity, digest).set(int(live))

    def loaded(self, identity: ModelIdentity, seconds: float) -> None:
        """Count a loaded version."""
        self._loads.labels("loaded").inc()
        self._load.labels(identity.name, identity.version).set(seconds)

    def failed_to_load(self) -> None:
        """Count a version that failed to load."""
        self._loads.labels("failed").inc()

    def observed(self, observation: "Observation") -> None:
        """Add the drift statistics of inputs and predictions since the last call."""
        for feature, measures in observation.features.items():
            for measure, amount in measures.items():
                self._features[measure].labels(*self._identity, feature).inc(amount)
        for label, count in observation.labels.items():
            self._labels.labels(*self._identity, label).inc(count)
        histogram = self._predictions.labels(*self._identity)
        for value in observation.predictions:
            histogram.observe(value)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        if self._directory is None:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=os.fspath(self._directory))  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _counter(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(_PREFIX + name, meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str, mode: Any, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(_PREFIX + name, meaning, labels, registry=self._registry, multiprocess_mode=mode)

    def _histogram(self, name: str, meaning: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
        return Histogram(_PREFIX + name, meaning, labels, registry=self._registry, buckets=buckets)


_PREFIX = "ml_assets_serve_"
_MODEL = ("model", "version")

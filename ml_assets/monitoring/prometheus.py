"""Metrics of runs, queue, pools, schedules, steps and usage, read from a Dagster instance at each scrape.

Names and units follow https://prometheus.io/docs/practices/naming/.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.dagster_internals import SCHEDULE_NAME_TAG, InstigatorType
from ml_assets.monitoring.steps import StepCounts
from ml_assets.resources.errors import SettingsError
from ml_assets.resources.extras import require
from ml_assets.resources.provenance import ProvenanceRecord

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

__all__ = ["DagsterCollector", "serve"]

_logger = logging.getLogger(__name__)
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def serve(collector: "DagsterCollector", host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve ``/metrics`` until interrupted.

    Raises:
        SettingsError: the address cannot be bound.
        MissingPackage: the Prometheus client is not installed.
    """
    require("prometheus_client")
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise SettingsError(
            f"cannot bind {host}:{port}: {error.strerror or error}", next_step="set another --host or --port"
        ) from error
    say(f"metrics: http://{host}:{server.server_port}/metrics (Ctrl-C stops)")
    try:
        thread.join()
    finally:
        server.shutdown()


class DagsterCollector:
    """A collector for `prometheus_client`: each scrape reads the instance once.

    Counters start at zero with this object, as Prometheus expects after a restart.

    Args:
        instance: the Dagster instance.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._steps = StepCounts(instance, datetime.now(UTC))
        self._one_at_a_time = Lock()

    def describe(self) -> "Iterator[Metric]":
        """Return no metrics, because they are known only at a scrape."""
        yield from ()

    def collect(self) -> "Iterator[Metric]":
        """Yield all metrics; only ``ml_assets_up 0`` if the instance cannot be read."""
        with self._one_at_a_time:
            try:
                found = [*self._runs(), *self._pools(), *self._schedules(), *self._step_metrics(), *self._usage()]
            except Exception:
                _logger.exception("cannot read Dagster's database")
                found = []
        yield _gauge("up", "1 if Dagster's database could be read, 0 otherwise.", {(): float(bool(found))})
        yield from found

    def _runs(self) -> "Iterator[Metric]":
        counts = {
            (status.value.lower(),): float(self._instance.get_runs_count(dg.RunsFilter(statuses=[status])))
            for status in dg.DagsterRunStatus
        }
        yield _gauge("runs", "Runs by status.", counts, "status")
        queued = self._instance.get_run_records(
            dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]), limit=1, ascending=True
        )
        waited = max(0.0, time.time() - queued[0].create_timestamp.timestamp()) if queued else 0.0
        yield _gauge("queue_oldest_seconds", "Time that the oldest queued run has waited.", {(): waited})

    def _pools(self) -> "Iterator[Metric]":
        storage = self._instance.event_log_storage
        slots, claimed, waiting = {}, {}, {}
        if storage.supports_global_concurrency_limits:
            for limit in storage.get_pool_limits():
                info = storage.get_concurrency_info(limit.name)
                slots[(limit.name,)] = float(limit.limit)
                claimed[(limit.name,)] = float(len(info.claimed_slots))
                waiting[(limit.name,)] = float(info.pending_step_count)
        yield _gauge("pool_slots", "Number of slots of a pool.", slots, "pool")
        yield _gauge("pool_slots_claimed", "Claimed slots of a pool.", claimed, "pool")
        yield _gauge("pool_steps_waiting", "Steps that wait for a slot of a pool.", waiting, "pool")

    def _schedules(self) -> "Iterator[Metric]":
        failed, succeeded = {}, {}
        states = self._instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
        for name in sorted({state.instigator_name for state in states}):
            tags = {SCHEDULE_NAME_TAG: name}
            for last in self._instance.get_run_records(dg.RunsFilter(tags=tags, statuses=_ENDED), limit=1):
                failed[(name,)] = float(last.dagster_run.status is not dg.DagsterRunStatus.SUCCESS)
            good = dg.RunsFilter(tags=tags, statuses=[dg.DagsterRunStatus.SUCCESS])
            for last in self._instance.get_run_records(good, limit=1):
                succeeded[(name,)] = last.end_time or last.update_timestamp.timestamp()
        yield _gauge(
            "schedule_last_run_failed", "1 if the last run of a schedule failed, 0 otherwise.", failed, "schedule"
        )
        yield _gauge(
            "schedule_last_success_timestamp_seconds",
            "End of a schedule's last successful run.",
            succeeded,
            "schedule",
        )

    def _step_metrics(self) -> "Iterator[Metric]":
        steps = self._steps
        steps.update()
        yield _gauge(
            "steps_running", "Running steps; a step in a plain process has no pool.", _by(steps.running), "pool"
        )
        yield _counter("step_launches", "Launched step containers.", _by(steps.launches), "pool")
        yield _counter("step_ends", "Ended attempts of steps.", _by(steps.ends), "outcome")
        yield _counter("step_failures", "Failed attempts of steps.", _by(steps.failures), "cause")
        yield _counter(
            "step_restarts", "Relaunched containers, by the cause of the relaunch.", _by(steps.restarts), "cause"
        )

    def _usage(self) -> "Iterator[Metric]":
        latest = {(record.asset,): record for record in self._steps.latest.values()}
        for name, text, of in _USAGE:
            values = {asset: value for asset, record in latest.items() if (value := of(record)) is not None}
            yield _gauge(f"asset_{name}", text, values, "asset")
        yield _counter(
            "asset_cost", "Cost of materializations, at the prices of their pools.", self._steps.costs, "asset", "pool"
        )


def _memory_asked(record: ProvenanceRecord) -> float | None:
    asked = record.usage.asked if record.usage else None
    return float(asked.memory_bytes) if asked else None


def _memory_needed(record: ProvenanceRecord) -> float | None:
    return float(record.usage.memory_needed_bytes) if record.usage else None


def _compute_seconds(record: ProvenanceRecord) -> float | None:
    return record.usage.seconds.compute if record.usage else None


def _gpu_utilization(record: ProvenanceRecord) -> float | None:
    gpus = record.usage.gpus if record.usage else ()
    return sum(gpu.utilization_mean for gpu in gpus) / len(gpus) / 100 if gpus else None


_USAGE: tuple[tuple[str, str, Callable[[ProvenanceRecord], float | None]], ...] = (
    ("memory_needed_bytes", "Memory that the latest materialization needed.", _memory_needed),
    ("memory_asked_bytes", "Memory requested for the container of the latest materialization.", _memory_asked),
    ("compute_seconds", "Run time of the function in the latest materialization.", _compute_seconds),
    ("gpu_utilization_ratio", "Mean share of that time in which the GPUs were busy.", _gpu_utilization),
)


def _by(counted: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    return {(name,): float(count) for name, count in counted.items()}


def _gauge(name: str, text: str, values: Mapping[Any, float], *labels: str) -> "GaugeMetricFamily":
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"ml_assets_{name}", text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _counter(name: str, text: str, values: Mapping[Any, float], *labels: str) -> "CounterMetricFamily":
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"ml_assets_{name}", text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family

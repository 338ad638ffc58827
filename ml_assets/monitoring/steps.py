"""Counts of step launches, outcomes and costs, from the events of runs as they are written."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg

from ml_assets.executors.failures import FailureCause
from ml_assets.executors.resume import placement_of
from ml_assets.resources.errors import RecordError
from ml_assets.resources.provenance import ProvenanceRecord, find_record

__all__ = ["StepCounts"]

_PAGE = 1000
_REMEMBERED = 20_000
"""Number of runs whose read position is remembered."""
_OVERLAP = timedelta(seconds=60)
"""Runs updated within this time before the last query are read again, because clocks differ and writes take time."""
_TYPES = {
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ENGINE_EVENT,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_START,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_UP_FOR_RETRY,
    dg.DagsterEventType.STEP_WORKER_STARTING,
}
_OPEN = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_NO_CAUSE = "error"
_CAUSES = {cause.value for cause in FailureCause}
_OUTCOMES = ("success", "failure", "retry")


@dataclass
class StepCounts:
    """Counts events since its creation, and tracks running steps.

    Args:
        instance: the instance of the runs.
        since: start of the counted events.
    """

    instance: dg.DagsterInstance
    since: datetime
    launches: Counter[str] = field(default_factory=Counter)
    """Launched containers, by pool."""
    ends: Counter[str] = field(default_factory=Counter)
    """Ended attempts, by outcome: success, failure, retry."""
    failures: Counter[str] = field(default_factory=Counter)
    """Failed attempts by cause. The cause of an error in the step's own code is ``error``."""
    restarts: Counter[str] = field(default_factory=Counter)
    """Relaunches after a container was given up, by cause."""
    costs: dict[tuple[str, str], float] = field(default_factory=dict)
    """Costs by asset and pool."""
    latest: dict[str, ProvenanceRecord] = field(default_factory=dict)
    """The newest materialization of each asset, if its usage was measured."""
    looked: datetime = field(init=False)
    """Time of the last query of runs."""
    _cursors: dict[str, str | None] = field(default_factory=dict)
    _running: dict[str, dict[str, str]] = field(default_factory=dict)
    """Pools of the running steps, by run and step."""

    def __post_init__(self) -> None:
        self.looked = self.since
        # Start at zero: Prometheus does not count the first event of a counter that appears with it.
        self.ends.update(dict.fromkeys(_OUTCOMES, 0))
        self.failures.update(dict.fromkeys((*_CAUSES, _NO_CAUSE), 0))
        self.restarts.update(dict.fromkeys(_CAUSES, 0))

    @property
    def running(self) -> Counter[str]:
        """Return the number of running steps, by pool; steps of plain processes have no pool."""
        return Counter(pool for steps in self._running.values() for pool in steps.values())

    def update(self) -> None:
        """Read the events since the last call."""
        now = datetime.now(UTC)
        runs = {run.dagster_run.run_id: run.dagster_run for run in self._runs()}
        for run_id, run in runs.items():
            for record in self._new_records(run_id):
                self._take(run_id, record)
            if run.is_finished:
                self._running.pop(run_id, None)
        for gone in self._running.keys() - runs.keys():
            del self._running[gone]
        for oldest in list(self._cursors)[: -max(_REMEMBERED, len(runs))]:  # a run may be updated long after its end
            del self._cursors[oldest]
        self.looked = now

    def _runs(self) -> Iterator[dg.RunRecord]:
        yield from self.instance.get_run_records(dg.RunsFilter(statuses=_OPEN))
        yield from self.instance.get_run_records(dg.RunsFilter(updated_after=self.looked - _OVERLAP))

    def _new_records(self, run_id: str) -> Iterable[dg.EventLogRecord]:
        has_more = True
        while has_more:
            page = self.instance.get_records_for_run(run_id, self._cursors.get(run_id), _TYPES, limit=_PAGE)
            yield from page.records
            self._cursors[run_id], has_more = page.cursor, page.has_more

    def _take(self, run_id: str, record: dg.EventLogRecord) -> None:
        event = record.event_log_entry.dagster_event
        if event is None or event.step_key is None:
            return
        running = self._running.setdefault(run_id, {})
        placement = placement_of(event)
        if placement is not None:
            running[event.step_key] = placement.pool
        elif event.event_type is dg.DagsterEventType.STEP_START:
            running.setdefault(event.step_key, "")
        elif event.is_step_success or event.is_step_failure or event.is_step_up_for_retry:
            running.pop(event.step_key, None)
        if record.event_log_entry.timestamp >= self.since.timestamp():
            self._count(event, placement.pool if placement else None)

    def _count(self, event: dg.DagsterEvent, launched_on: str | None) -> None:
        if launched_on is not None:
            self.launches[launched_on] += 1
        elif event.is_step_success:
            self.ends["success"] += 1
        elif event.is_step_failure or event.is_step_up_for_retry:
            self.ends["failure" if event.is_step_failure else "retry"] += 1
            self.failures[_cause_of(event)] += 1
        elif event.event_type is dg.DagsterEventType.ENGINE_EVENT:
            entry = event.engine_event_data.metadata.get("cause")
            if entry is not None and entry.value in _CAUSES:
                self.restarts[str(entry.value)] += 1
        elif event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
            self._take_usage(event)

    def _take_usage(self, event: dg.DagsterEvent) -> None:
        try:
            record = find_record(event.step_materialization_data.materialization.metadata)
        except RecordError:
            return
        if record is not None and record.usage is not None:
            self.latest[record.asset] = record
            if record.usage.cost is not None:
                key = (record.asset, record.environment.pool or "")
                self.costs[key] = self.costs.get(key, 0.0) + record.usage.cost


def _cause_of(event: dg.DagsterEvent) -> str:
    if event.is_step_failure:
        data = event.step_failure_data.user_failure_data
        if data is not None and data.label in _CAUSES:
            return data.label
        error = event.step_failure_data.error
    else:
        error = event.step_retry_data.error
    name = error.cls_name if error is not None else None
    return FailureCause[name].value if name is not None and name in FailureCause.__members__ else _NO_CAUSE

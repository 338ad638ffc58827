"""Runs whose process was killed. Dagster leaves them in progress for ever: they hold slots and block collections.

The executor of plain processes tags each run with its process, so that its end is visible from the same machine.
"""

from collections.abc import Iterator
from typing import Final

import dagster as dg
import psutil

from ml_assets.resources.machine.process_identity import ProcessIdentity
from ml_assets.resources.provenance import PROCESS_TAG

__all__ = ["dead_runs", "fail_dead_runs"]

_IN_PROGRESS: Final = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)


def dead_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Return the runs in progress whose process, and the processes of whose steps, have certainly ended."""
    return list(_dead(instance))


def fail_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark dead runs as failed and free their slots; return their ids. Safe to call often, from several processes."""
    failed = []
    storage = instance.event_log_storage
    for run in _dead(instance):
        process = ProcessIdentity.parse(run.tags[PROCESS_TAG])
        instance.report_run_failed(
            run, f"The run's process {process.pid} on {process.host} ended without recording the end of the run."
        )
        if storage.supports_global_concurrency_limits:
            storage.free_concurrency_slots_for_run(run.run_id)
        failed.append(run.run_id)
    return failed


def _dead(instance: dg.DagsterInstance) -> Iterator[dg.DagsterRun]:
    for found in instance.get_runs(dg.RunsFilter(statuses=list(_IN_PROGRESS))):
        if not _is_gone(found) or _has_living_step(instance, found):
            continue
        # It may have ended between the query and the check of its process.
        run = instance.get_run_by_id(found.run_id)
        if run is not None and run.status in _IN_PROGRESS and _is_gone(run):
            yield run


def _is_gone(run: dg.DagsterRun) -> bool:
    try:
        return ProcessIdentity.parse(run.tags[PROCESS_TAG]).is_gone()
    except (KeyError, ValueError):
        return False


def _has_living_step(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return True if the process of a step still runs, as it does after the run's process alone was killed."""
    for record in instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED).records:
        event = record.event_log_entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event else None
        if pid is not None and _ran_at(int(str(pid.value)), record.event_log_entry.timestamp):
            return True
    return False


def _ran_at(pid: int, moment: float) -> bool:
    """Return True if the process exists and already existed at a moment; another process may have got its id."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= moment
    except psutil.Error:
        return False

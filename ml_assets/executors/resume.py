"""What a run worker learns from the events of the one before it."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import dagster as dg

from ml_assets.dagster_internals import forget_outputs
from ml_assets.executors.event_tail import launch_of_event
from ml_assets.placement import Placement
from ml_assets.resources.provenance import PLACEMENT_METADATA

if TYPE_CHECKING:
    from ml_assets.dagster_internals import ActiveExecution, ExecutionStep

__all__ = ["KnownLaunch", "Replayed", "placement_of", "replay"]


@dataclass(frozen=True)
class KnownLaunch:
    """A container that was ordered."""

    step: "ExecutionStep"
    placement: Placement
    since: float
    """When it was ordered, in seconds of the epoch."""
    heard: bool
    """Whether an event came from it: then it did start."""
    succeeded: bool = False


@dataclass
class Replayed:
    """Where the run stands."""

    launched: dict[str, KnownLaunch] = field(default_factory=dict)
    waiting: dict[str, "ExecutionStep"] = field(default_factory=dict)
    """Steps that may be launched and are not."""
    launches: dict[str, int] = field(default_factory=dict)
    """How many containers each step has had."""
    ended: dict[str, KnownLaunch] = field(default_factory=dict)
    """The last launch of each step of which an attempt has ended, and none has been launched since."""
    events: list[dg.DagsterEvent] = field(default_factory=list)
    """The events that count: all but those of launches that were given up."""
    skipping: set[str] = field(default_factory=set)
    """Steps to skip of which no event tells yet."""


def placement_of(event: dg.DagsterEvent) -> Placement | None:
    """Where the container runs that an event announces; None for other events."""
    if event.event_type is not dg.DagsterEventType.STEP_WORKER_STARTING:
        return None
    entry = event.engine_event_data.metadata.get(PLACEMENT_METADATA)
    return Placement.model_validate(entry.value) if entry is not None else None


def replay(active: "ActiveExecution", records: Sequence[dg.EventLogRecord]) -> Replayed:
    """Bring a new execution to the state that a run's events tell of.

    Unlike Dagster's own replay it takes any number of events, delayed retries, skipped steps, and steps that waited for
    a pool: ``active`` has to be without limits of its own.
    """
    run = Replayed()
    last = _last_launches(records)
    _vend(active, run)
    for record in records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        if event.step_key is None or _replay_one(active, run, event, record, last):
            run.events.append(event)
        _vend(active, run)
    for key in run.skipping:  # the predecessor ended before it had written of them all
        active.mark_skipped(key)
    return run


def _replay_one(
    active: "ActiveExecution",
    run: Replayed,
    event: dg.DagsterEvent,
    record: dg.EventLogRecord,
    last: dict[str, int],
) -> bool:
    """Whether the event counts."""
    key = event.step_key or ""
    placement = placement_of(event)
    if placement is not None:
        if key in run.launched:
            forget_outputs(active, run.launched[key].step)
        step = run.waiting.pop(key, None) or (run.launched[key].step if key in run.launched else None)
        if step is not None:
            run.ended.pop(key, None)
            run.launched[key] = KnownLaunch(step, placement, record.event_log_entry.timestamp, heard=False)
            run.launches[key] = placement.number + 1
        return True
    if event.is_step_skipped:
        run.skipping.update(step.key for step in active.get_steps_to_skip())
        run.skipping.remove(key)
        active.mark_skipped(key)
        return True
    number = launch_of_event(event)
    launch = run.launched.get(key)
    if number is not None:
        if launch is None or launch.placement.number != number:
            return key in run.ended and run.launches.get(key) == number + 1
        launch = run.launched[key] = replace(launch, heard=True)
    if launch is None and key not in run.waiting:
        return True
    if event.is_step_up_for_retry:
        wait = event.step_retry_data.seconds_to_wait or 0
        due = record.event_log_entry.timestamp + wait
        is_over = record.storage_id < last.get(key, 0) or due <= time.time()
        active.mark_up_for_retry(key, None if is_over else due)
    elif event.is_step_success or event.is_step_failure or event.is_successful_output:
        active.handle_event(event)
    if event.is_step_up_for_retry or event.is_step_success or event.is_step_failure:
        run.launched.pop(key, None)
        run.waiting.pop(key, None)
        if launch is not None:
            run.ended[key] = replace(launch, succeeded=event.is_step_success)
    return True


def _vend(active: "ActiveExecution", run: Replayed) -> None:
    run.waiting.update((step.key, step) for step in active.get_steps_to_execute())


def _last_launches(records: Iterable[dg.EventLogRecord]) -> dict[str, int]:
    """Storage id of the last launch of each step."""
    last: dict[str, int] = {}
    for record in records:
        event = record.event_log_entry.dagster_event
        if event is not None and event.event_type is dg.DagsterEventType.STEP_WORKER_STARTING and event.step_key:
            last[event.step_key] = record.storage_id
    return last

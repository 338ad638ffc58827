"""Resuming a run: a run worker restores its state from its predecessor's events."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dagster as dg

from ml_assets.dagster_internals import forget_outputs
from ml_assets.executors.event_tail import launch_of_event
from ml_assets.executors.launches import ContainerLaunch, Launches
from ml_assets.placement import Placement
from ml_assets.resources.provenance import PLACEMENT_METADATA

if TYPE_CHECKING:
    from ml_assets.dagster_internals import ActiveExecution

__all__ = ["placement_of", "resume_run"]


def placement_of(event: dg.DagsterEvent) -> Placement | None:
    """Return the placement of the container that an event announces; None for other events."""
    if event.event_type is not dg.DagsterEventType.STEP_WORKER_STARTING:
        return None
    entry = event.engine_event_data.metadata.get(PLACEMENT_METADATA)
    return Placement.model_validate(entry.value) if entry is not None else None


def resume_run(
    active: "ActiveExecution", records: Sequence[dg.EventLogRecord], launches: Launches
) -> Sequence[dg.DagsterEvent]:
    """Bring a new execution and its launches to the state that a run's events record.

    Unlike Dagster's own replay, this function handles any number of events, delayed retries, skipped steps, and steps
    that waited for a pool.

    Args:
        active: an execution without its own limits.
        records: all events of the run.
        launches: empty; receives the open launch of each step, and the last one whose container may not have ended.

    Returns:
        The valid events: all except those of launches that were given up.
    """
    return _Resumed(active, launches, _last_launches(records)).replay(records)


@dataclass
class _Resumed:
    active: "ActiveExecution"
    launches: Launches
    last: Mapping[str, int]
    """Storage id of the last launch of each step."""
    skipping: set[str] = field(default_factory=set)
    """Steps to skip that have no event yet."""

    def replay(self, records: Sequence[dg.EventLogRecord]) -> list[dg.DagsterEvent]:
        events = []
        self._add_waiting()
        for record in records:
            event = record.event_log_entry.dagster_event
            if event is None:
                continue
            if event.step_key is None or self._counts(event, record):
                events.append(event)
            self._add_waiting()
        for key in self.skipping:  # The predecessor ended before it had recorded all of them.
            self.active.mark_skipped(key)
        return events

    def _add_waiting(self) -> None:
        for step in self.active.get_steps_to_execute():
            self.launches.add(step)

    def _counts(self, event: dg.DagsterEvent, record: dg.EventLogRecord) -> bool:
        """Apply an event, and return True if it is valid."""
        key = event.step_key or ""
        placement = placement_of(event)
        if placement is not None:
            self._order(key, placement, record.event_log_entry.timestamp)
            return True
        if event.is_step_skipped:
            self.skipping.update(step.key for step in self.active.get_steps_to_skip())
            self.skipping.remove(key)
            self.active.mark_skipped(key)
            return True
        launch, number = self.launches.open(key), launch_of_event(event)
        if number is not None:
            if launch is None or not launch.was_ordered or launch.number != number:
                return any(ending.number == number for ending in self.launches.ending(key))
            launch.run()
        if launch is not None:
            self._handle(event, record, launch)
        return True

    def _order(self, key: str, placement: Placement, at: float) -> None:
        launch = self.launches.open(key)
        if launch is None:
            return
        if launch.was_ordered:
            forget_outputs(self.active, launch.step)
        self.launches.forget(key)  # Earlier containers are no longer managed.
        self.launches.add(launch.step, placement).order(at)

    def _handle(self, event: dg.DagsterEvent, record: dg.EventLogRecord, launch: ContainerLaunch) -> None:
        key, timestamp = launch.step.key, record.event_log_entry.timestamp
        if event.is_step_up_for_retry:
            due = timestamp + (event.step_retry_data.seconds_to_wait or 0)
            is_over = record.storage_id < self.last.get(key, 0) or due <= time.time()
            self.active.mark_up_for_retry(key, None if is_over else due)
        elif event.is_step_success or event.is_step_failure or event.is_successful_output:
            self.active.handle_event(event)
        if event.is_step_up_for_retry or event.is_step_success or event.is_step_failure:
            launch.close(event)


def _last_launches(records: Iterable[dg.EventLogRecord]) -> dict[str, int]:
    """Return the storage id of the last launch of each step."""
    last: dict[str, int] = {}
    for record in records:
        event = record.event_log_entry.dagster_event
        if event is not None and event.event_type is dg.DagsterEventType.STEP_WORKER_STARTING and event.step_key:
            last[event.step_key] = record.storage_id
    return last

"""Handling of a run's events: each event updates the execution and the launches."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import dagster as dg

from ml_assets.dagster_internals import ActiveExecution
from ml_assets.executors import run_events
from ml_assets.executors.event_tail import EventTail, launch_of_event
from ml_assets.executors.failures import REPLACED_EXIT
from ml_assets.executors.launches import ContainerLaunch, Launches, LaunchState
from ml_assets.executors.pool_slots import PoolSlots
from ml_assets.executors.resume import resume_run
from ml_assets.executors.run_events import FailOrRetry

if TYPE_CHECKING:
    from ml_assets.dagster_internals import PlanOrchestrationContext

__all__ = ["EventHandler"]


@dataclass
class EventHandler:
    """Reads the events of a run, and updates execution and launches accordingly."""

    context: "PlanOrchestrationContext"
    active: ActiveExecution
    launches: Launches
    slots: PoolSlots
    fail_or_retry: FailOrRetry

    def __post_init__(self) -> None:
        """Start at the run's first event."""
        self.worker = uuid4().hex
        """Unique name of this run worker."""
        self.has_news = False
        """True if an event requires an immediate query of the engine; the reader resets it."""
        self._tail = EventTail(self.context.instance, self.context.dagster_run.run_id)

    def resume(self) -> Iterator[dg.DagsterEvent]:
        """Take over from a predecessor: handle and yield all of its valid events."""
        yield from resume_run(self.active, self._tail.new(), self.launches)
        for launch in self.launches:
            if launch.has_container:
                self.slots.adopt(launch.step.key)
        run_events.resumed(self.context, [launch.name for launch in self.launches.under_way()])

    def new(self) -> Iterator[dg.DagsterEvent]:
        """Handle and yield the new events, except those of launches that are over.

        The process ends at once if a newer run worker has started: two must not manage the same step.
        """
        for record in self._tail.new():
            event = record.event_log_entry.dagster_event
            if event is None or self._is_late(event):
                continue
            self._leave_to_successor(event)
            yield event
            self._handle(event)

    def close(self, event: dg.DagsterEvent, launch: ContainerLaunch) -> None:
        """End the attempt of a launch with its last event; its container may run on for a moment."""
        self.active.handle_event(event)
        launch.close(event)
        if launch.state is LaunchState.ENDING:
            self.has_news = True
        else:
            self.slots.free(launch.step.key)

    def _leave_to_successor(self, event: dg.DagsterEvent) -> None:
        if run_events.begun_by(event) not in (None, self.worker):
            run_events.superseded(self.context)
            os._exit(REPLACED_EXIT)  # any other end of a run worker also ends its run

    def _is_late(self, event: dg.DagsterEvent) -> bool:
        number = launch_of_event(event)
        if number is None:
            return False
        launch = self.launches.find(event.step_key or "", number)
        return launch is None or not launch.has_container or launch.is_disowned

    def _handle(self, event: dg.DagsterEvent) -> None:
        launch = self.launches.open(event.step_key or "")
        if launch is None or event.is_step_skipped:
            return
        if event.is_resource_init_failure:
            if launch.was_ordered and launch.state is not LaunchState.FAILED:
                launch.fail()
                step_context = self.context.for_step(launch.step)
                run_events.not_initialized(step_context, event, self.active.get_known_state(), self.fail_or_retry)
        elif event.is_successful_output:
            self.active.handle_event(event)
        elif event.is_step_success and launch.was_ordered and not launch.container.image_checked:
            self.has_news = True
            if launch.is_at_work:  # A launch that was given up has not succeeded: its image is unknown.
                launch.succeed(event)
        elif event.is_step_success or event.is_step_failure or event.is_step_up_for_retry:
            self.close(event, launch)

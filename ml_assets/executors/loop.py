"""The loop that launches a run's steps as containers and manages them until each has ended.

Dagster's `ActiveExecution` decides which steps may run. The loop does everything else, because a step handler in
Dagster's own loop does not learn why a container ended, and cannot launch the same attempt twice. The loop also
enforces the limits (of the run, of tags, of pools), so that a run worker's successor can resume without them.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from ml_assets.dagster_internals import ActiveExecution, forget_outputs
from ml_assets.executors import run_events
from ml_assets.executors.diagnosis import Diagnostics, next_placement
from ml_assets.executors.engine import ContainerRequest, ContainerStatus
from ml_assets.executors.event_handler import EventHandler
from ml_assets.executors.failures import Failure, FailureCause
from ml_assets.executors.launches import ContainerLaunch, LaunchState
from ml_assets.executors.scheduling import LaunchScheduler
from ml_assets.resources.errors import EngineRefused, EngineUnreachable

if TYPE_CHECKING:
    from ml_assets.dagster_internals import KnownExecutionState, PlanOrchestrationContext

__all__ = ["RunLoop"]

_EVENTS_SECONDS = 0.5
_LOOK_SECONDS = 1.5
"""Interval of engine queries. The documentation promises causes within ten seconds after the engine knows them."""
_WIND_UP_SECONDS = 60
"""Time for a container to send the end of its log after its step has ended."""
_STOP_SECONDS = 25
"""Time for the containers of a canceled run to end; Kubernetes gives run workers thirty seconds."""
_EVIDENCE_LINES = 25


@dataclass
class RunLoop:
    """Launches and manages the steps of one run.

    Args:
        context: the run.
        active: determines the steps that may run.
        events: reads the run's events.
        scheduler: decides which launches may be ordered.
        diagnostics: decides which containers must be given up.
        request_of: returns the request for a launch's container.
    """

    context: "PlanOrchestrationContext"
    active: ActiveExecution
    events: EventHandler
    scheduler: LaunchScheduler
    diagnostics: Diagnostics
    request_of: "Callable[[ContainerLaunch, KnownExecutionState], ContainerRequest]"

    def __post_init__(self) -> None:
        """Schedule the first engine query for now."""
        self._engine, self._launches, self._slots = self.diagnostics.engine, self.events.launches, self.events.slots
        self._next_look = 0.0
        self._is_unreachable = False

    def run(self, unmatched: Mapping[str, str]) -> Iterator[dg.DagsterEvent]:
        """Run all steps and yield every event of the run.

        Args:
            unmatched: overrides without effect, as returned by `RunPlacements.unmatched`.
        """
        run_events.started(self.context, self._engine, unmatched, self.events.worker)
        try:
            if self.context.resume_from_failure:
                yield from self.events.resume()
            while self._is_busy():
                if self.active.check_for_interrupts():
                    self._interrupt()
                    return
                yield from self.events.new()
                list(self.active.plan_events_iterator(self.context))
                if self.events.has_news or time.monotonic() >= self._next_look:
                    yield from self._look_after()
                    self._next_look, self.events.has_news = time.monotonic() + _LOOK_SECONDS, False
                self._launch_ready()
                if self._is_busy():
                    time.sleep(_EVENTS_SECONDS)
        except Exception:
            self._stop_all()
            raise
        finally:
            for launch in self._launches:
                if launch.is_open and not launch.was_ordered:
                    self._slots.free(launch.step.key)

    def _is_busy(self) -> bool:
        return not self.active.is_complete or bool(self._launches.ending())

    # --- containers ---

    def _look_after(self) -> Iterator[dg.DagsterEvent]:
        if not any(launch.has_container for launch in self._launches):
            return
        try:
            observed = self._engine.observe(self.context.run_id)
            self._is_unreachable = False
            yield from self.events.new()  # events written before the container ended take precedence
            for launch in self._launches.under_way():
                if launch.is_open and launch.state is not LaunchState.FAILED:
                    yield from self._look_at(launch, observed.get(launch.name))
            for launch in self._launches.ending():
                self._wind_up(launch, observed.get(launch.name))
            self._end_strays(observed)
        except EngineUnreachable as error:
            if not self._is_unreachable:
                run_events.unreachable(self.context, error)
            self._is_unreachable = True

    def _look_at(self, launch: ContainerLaunch, status: ContainerStatus | None) -> Iterator[dg.DagsterEvent]:
        failure = launch.failure or self._find_failure(launch, status)
        if failure is None:
            return
        if launch.state is not LaunchState.GIVEN_UP:
            if not failure.log and not failure.events:
                failure = failure.with_evidence(*self._engine.evidence(launch.name, _EVIDENCE_LINES))
            launch.give_up(failure)
        if self._is_over(launch, status):
            yield from self.events.new()  # it may still have succeeded
            if launch.state is LaunchState.GIVEN_UP:
                self._react(launch, failure)

    def _find_failure(self, launch: ContainerLaunch, status: ContainerStatus | None) -> Failure | None:
        if launch.state is LaunchState.SUCCEEDED:
            return self._confirm(launch, status)
        if launch.state is LaunchState.ORDERED and status is None:
            return self._start(launch)
        return self.diagnostics.diagnose(launch, status, self.context.for_step(launch.step))

    def _confirm(self, launch: ContainerLaunch, status: ContainerStatus | None) -> Failure | None:
        """Accept a step's success unless its container ran another image. If the image is unknown, accept it."""
        failure = None
        if status is not None:
            failure = self.diagnostics.compare_image(launch, status, self.context.for_step(launch.step))
        may_say = status is not None and status.image_id is None and not status.has_ended
        if failure is None and not may_say and launch.end is not None:
            self.events.close(launch.end, launch)
        return failure

    def _is_over(self, launch: ContainerLaunch, status: ContainerStatus | None) -> bool:
        if status is None or not status.has_ended:
            return self._engine.stop(launch.name)
        self._engine.remove(launch.name, succeeded=False)
        return True

    def _start(self, launch: ContainerLaunch) -> Failure | None:
        try:
            self._engine.start(self.request_of(launch, self.active.get_known_state()))
        except EngineRefused as error:
            return Failure(FailureCause.CONFIGURATION, error.what)
        launch.accept()
        return None

    def _react(self, launch: ContainerLaunch, failure: Failure) -> None:
        """Launch the attempt again or mark it as failed, once the container of a given-up launch has ended."""
        placement = next_placement(launch.placement, failure, self.diagnostics.rules)
        if placement is None:
            self._fail(launch, failure)
            return
        limit = self.diagnostics.rules.pool(placement.pool).interruptions
        run_events.again(self.context.for_step(launch.step), failure, launch.placement, placement, limit)
        forget_outputs(self.active, launch.step)
        if placement.pool != launch.placement.pool:
            self._slots.free(launch.step.key)
        self._launches.relaunch(launch, placement)

    def _fail(self, launch: ContainerLaunch, failure: Failure) -> None:
        launch.fail()
        step_context = self.context.for_step(launch.step)
        run_events.failed(step_context, failure, self.active.get_known_state(), self.events.fail_or_retry)

    def _wind_up(self, launch: ContainerLaunch, status: ContainerStatus | None) -> None:
        """Free a step's slots once its container, which may still be sending the end of its log, has ended."""
        if status is not None and not status.has_ended:
            is_patient = time.monotonic() - launch.since < _WIND_UP_SECONDS
            may_go_on = is_patient and status.failure is None and status.waiting is None
            if may_go_on or not self._engine.stop(launch.name):
                return
        elif status is not None:
            self._engine.remove(launch.name, succeeded=launch.has_succeeded)
        self._slots.free(launch.step.key)
        launch.finish()

    def _end_strays(self, observed: Mapping[str, ContainerStatus]) -> None:
        """End the containers that a predecessor left: those of steps that have ended or launches that were given up."""
        for name in observed.keys() - {launch.name for launch in self._launches if launch.was_ordered}:
            self._engine.stop(name)

    # --- launching ---

    def _launch_ready(self) -> None:
        for step in self.active.get_steps_to_execute():
            self._launches.add(step)
        for launch in self.scheduler.ready():
            run_events.launching(self.context.for_step(launch.step), self._engine, launch.name, launch.placement)
            launch.order(at=time.time())
            try:
                failure = self._start(launch)
            except EngineUnreachable as error:  # retried at the next poll
                run_events.unreachable(self.context, error)
                continue
            if failure is not None:
                self._fail(launch, failure)

    # --- the end ---

    def _interrupt(self) -> None:
        self.active.mark_interrupted()
        instance, run_id = self.context.instance, self.context.run_id
        run = instance.get_run_by_id(run_id)
        is_canceled = run is None or run.status is not dg.DagsterRunStatus.STARTED
        # Dagster's own run_will_resume also returns True for a canceled run.
        if not is_canceled and instance.run_will_resume(run_id):
            run_events.left_to_successor(self.context, [launch.name for launch in self._launches.under_way()])
            return
        self._stop_all()

    def _stop_all(self) -> None:
        """End every container of the run, including failed ones that were kept."""
        try:
            names = {launch.name for launch in self._launches.under_way()}
            self._engine.stop_all(self._engine.observe(self.context.run_id).keys() | names, _STOP_SECONDS)
        except EngineUnreachable as error:  # the sweep removes the rest
            run_events.unreachable(self.context, error)
        for launch in self._launches:
            if launch.has_container:
                self._slots.free(launch.step.key)

"""The loop that launches a run's steps as containers and looks after them until each has ended.

Dagster's `ActiveExecution` says which steps may run; everything else is here, because a step handler under Dagster's
own loop hears of a container's end without its cause, and cannot launch the same attempt twice. Limits (of the run, of
tags, of pools) are kept here as well, so that a run worker's successor can replay the events without them.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dagster as dg

from ml_assets.dagster_internals import ActiveExecution, RetryMode, TagConcurrencyLimitsCounter, forget_outputs
from ml_assets.executors import run_events
from ml_assets.executors.container_request import container_name, request_of
from ml_assets.executors.database_retry import retry_database_operations
from ml_assets.executors.diagnosis import Launched, Waiting, compare_image, diagnose, placed_again
from ml_assets.executors.engine import ContainerEngine, ContainerStatus
from ml_assets.executors.event_tail import EventTail, launch_of_event
from ml_assets.executors.failures import REPLACED_EXIT, Failure, FailureCause
from ml_assets.executors.placement import PlacementRules, RunPlacements
from ml_assets.executors.pool_slots import PoolSlots, priority_of
from ml_assets.executors.resume import KnownLaunch, replay
from ml_assets.placement import Placement
from ml_assets.resources.errors import EngineRefused, EngineUnreachable, MlAssetsError
from ml_assets.resources.pools import Override

if TYPE_CHECKING:
    from ml_assets.dagster_internals import ExecutionPlan, PlanOrchestrationContext

__all__ = ["ContainerExecutor"]

_EVENTS_SECONDS = 0.5
_LOOK_SECONDS = 1.5
"""How often the engine is asked. Causes are promised within ten seconds of the engine knowing."""
_WIND_UP_SECONDS = 60
"""How long a container may go on after its step has ended, to send the last of its log."""
_BLOCKED_SECONDS = 300
_STOP_SECONDS = 25
"""How long a canceled run waits for its containers to end; run workers are given thirty seconds by Kubernetes."""
_EVIDENCE_LINES = 25


class ContainerExecutor(dg.Executor):
    """Runs each step in a container of its own.

    Args:
        engine: starts and observes the containers.
        rules: what settings say of placement.
        image_ran: whether an image id, as the runtime reports it, is the placement's image; None where nobody can say.
        variables: environment variables of every step.
        retries: whether the author's retry policies hold.
        overrides: other placements for this run, by asset key, check, op or ``*``.
        max_concurrent: steps of this run that may run at once.
        tag_concurrency_limits: Dagster's limits of steps by tag, within the run.
    """

    def __init__(
        self,
        engine: ContainerEngine,
        rules: PlacementRules,
        *,
        image_ran: Callable[[str, Placement], bool | None],
        variables: Mapping[str, str],
        retries: RetryMode = RetryMode.ENABLED,
        overrides: Mapping[str, Override] | None = None,
        max_concurrent: int | None = None,
        tag_concurrency_limits: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.engine, self.rules, self.image_ran, self.variables = engine, rules, image_ran, variables
        self._retries = retries
        self.overrides = overrides or {}
        self.max_concurrent = max_concurrent
        self.tag_concurrency_limits = list(tag_concurrency_limits)

    @property
    def retries(self) -> RetryMode:
        """Whether the author's retry policies hold."""
        return self._retries

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Iterator[dg.DagsterEvent]:
        """Run the plan's steps; yields every event that belongs to it."""
        retry_database_operations(plan_context.instance)
        with ActiveExecution(execution_plan, retry_mode=self._retries) as active:
            yield from _Loop(self, plan_context, active).run()


@dataclass
class _Loop:
    executor: ContainerExecutor
    context: "PlanOrchestrationContext"
    active: ActiveExecution
    waiting: dict[str, Waiting] = field(default_factory=dict)
    launched: dict[str, Launched] = field(default_factory=dict)
    ending: dict[str, Launched] = field(default_factory=dict)
    """Steps that have ended, and whose containers have not."""
    launches: dict[str, int] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    """Containers that this worker has looked after; those that failed may stay for a while."""

    def __post_init__(self) -> None:
        instance, run = self.context.instance, self.context.dagster_run
        self.engine = self.executor.engine
        self.instance, self.run_id = instance, run.run_id
        self.tail = EventTail(instance, run.run_id)
        self.slots = PoolSlots(instance, run, self.executor.rules.pools)
        self.placements = RunPlacements(
            self.executor.rules, self.context.job.get_definition(), instance, run, self.executor.overrides
        )
        self.next_look = 0.0
        self.unreachable: str | None = None
        self.worker = uuid4().hex

    def run(self) -> Iterator[dg.DagsterEvent]:
        unmatched = self.placements.unmatched(self.context.plan_data.execution_plan)
        run_events.started(self.context, self.engine, unmatched, self.worker)
        try:
            if self.context.resume_from_failure:
                yield from self._resume()
            while not self.active.is_complete or self.ending:
                if self.active.check_for_interrupts():
                    self._interrupt()
                    return
                yield from self._take_events()
                list(self.active.plan_events_iterator(self.context))
                if time.monotonic() >= self.next_look:
                    yield from self._look_after()
                    self.next_look = time.monotonic() + _LOOK_SECONDS
                self._launch_ready()
                if not self.active.is_complete or self.ending:
                    time.sleep(_EVENTS_SECONDS)
        except Exception:
            self._stop_all()
            raise
        finally:
            for key in self.waiting:
                self.slots.free(key)

    # --- events ---

    def _take_events(self) -> Iterator[dg.DagsterEvent]:
        for record in self.tail.new():
            event = record.event_log_entry.dagster_event
            if event is None or self._is_late(event):
                continue
            self._leave_to_successor(event)
            yield event
            self._handle(event)

    def _leave_to_successor(self, event: dg.DagsterEvent) -> None:
        """End at once if another run worker has begun after this one: nobody may look after a step in two ways."""
        if run_events.begun_by(event) not in (None, self.worker):
            run_events.superseded(self.context)
            os._exit(REPLACED_EXIT)  # whatever else ends a run worker ends its run, too

    def _is_late(self, event: dg.DagsterEvent) -> bool:
        number, key = launch_of_event(event), event.step_key or ""
        current = self.launched.get(key) or self.ending.get(key)
        is_current = current is not None and current.placement.number == number and not current.is_disowned
        return number is not None and not is_current

    def _handle(self, event: dg.DagsterEvent) -> None:
        key = event.step_key or ""
        if event.is_step_skipped or (key not in self.launched and key not in self.waiting):
            return
        if event.is_resource_init_failure:
            if key in self.launched and not self.launched[key].reported:
                self.launched[key].reported = True
                step_context = self.context.for_step(self.launched[key].step)
                run_events.not_initialized(self.executor, step_context, event, self.active.get_known_state())
            return
        if event.is_successful_output:
            self.active.handle_event(event)
        elif event.is_step_success and key in self.launched and not self.launched[key].verified:
            self.launched[key].success = event
            self.next_look = 0.0
        elif event.is_step_success or event.is_step_failure or event.is_step_up_for_retry:
            self._close(event, key)

    def _close(self, event: dg.DagsterEvent, key: str) -> None:
        """An attempt has ended; its container may go on for a moment."""
        self.active.handle_event(event)
        self.waiting.pop(key, None)
        launched = self.launched.pop(key, None)
        if launched is None:
            self.slots.free(key)
        else:
            launched.ended_at, launched.succeeded = time.monotonic(), event.is_step_success
            self.ending[key] = launched
            self.next_look = 0.0

    def _resume(self) -> Iterator[dg.DagsterEvent]:
        state = replay(self.active, self.tail.new())
        yield from state.events
        self.launches = dict(state.launches)
        self.waiting = {key: Waiting(step) for key, step in state.waiting.items()}
        self.launched = {key: self._known(launch) for key, launch in state.launched.items()}
        self.ending = {key: self._known(launch) for key, launch in state.ended.items()}
        for key in (*self.launched, *self.ending):
            self.slots.adopt(key)
        run_events.resumed(self.context, [launched.name for launched in self.launched.values()])

    def _known(self, launch: KnownLaunch) -> Launched:
        name = container_name(self.run_id, launch.step.key, launch.placement.number)
        self.names.add(name)
        return Launched(
            launch.step,
            launch.placement,
            name,
            launch.since,
            accepted=launch.heard,
            ended_at=time.monotonic(),
            succeeded=launch.succeeded,
        )

    # --- containers ---

    def _look_after(self) -> Iterator[dg.DagsterEvent]:
        if not self.launched and not self.ending:
            return
        try:
            observed = self.engine.observe(self.run_id)
            self.unreachable = None
            yield from self._take_events()  # what was written before a container ended counts first
            for launched in list(self.launched.values()):
                if not launched.reported:
                    yield from self._look_at(launched, observed.get(launched.name))
            for launched in list(self.ending.values()):
                self._wind_up(launched, observed.get(launched.name))
            self._end_strays(observed)
        except EngineUnreachable as error:
            if self.unreachable is None:
                run_events.unreachable(self.context, error)
            self.unreachable = str(error)

    def _look_at(self, launched: Launched, seen: ContainerStatus | None) -> Iterator[dg.DagsterEvent]:
        failure = launched.given_up
        if failure is None and launched.success is not None:
            failure = self._accept(launched, launched.success, seen)
        elif failure is None and seen is None and not launched.accepted:
            failure = self._request(launched)
        elif failure is None:
            failure = diagnose(launched, seen, self.executor, self.context.for_step(launched.step))
        if failure is None:
            return
        if launched.given_up is None and not failure.log and not failure.events:
            failure = failure.with_evidence(*self.engine.evidence(launched.name, _EVIDENCE_LINES))
        launched.given_up = failure
        if self._is_over(launched, seen):
            yield from self._take_events()  # it may have ended well after all
            if self.launched.get(launched.step.key) is launched:
                self._react(launched, failure)

    def _accept(self, launched: Launched, success: dg.DagsterEvent, seen: ContainerStatus | None) -> Failure | None:
        """A step has succeeded: that counts unless its container ran another image. Where nobody can say, it counts."""
        failure = None
        if seen is not None:
            failure = compare_image(launched, seen, self.executor, self.context.for_step(launched.step))
        may_say = seen is not None and seen.image_id is None and not seen.has_ended
        if failure is None and not may_say:
            self._close(success, launched.step.key)
        return failure

    def _is_over(self, launched: Launched, seen: ContainerStatus | None) -> bool:
        if seen is None or not seen.has_ended:
            return self.engine.stop(launched.name)
        self.engine.remove(launched.name, succeeded=False)
        return True

    def _request(self, launched: Launched) -> Failure | None:
        request = request_of(
            self.executor, self.context, launched.step, launched.placement, self.active.get_known_state(), launched.name
        )
        try:
            self.engine.start(request)
        except EngineRefused as error:
            return Failure(FailureCause.CONFIGURATION, error.what)
        launched.accepted = True
        return None

    def _react(self, launched: Launched, failure: Failure) -> None:
        """Do what a failure calls for, once its container has ended."""
        key = launched.step.key
        again = placed_again(launched.placement, failure, self.executor.rules)
        if again is None:
            launched.reported = True
            run_events.failed(
                self.executor, self.context.for_step(launched.step), failure, self.active.get_known_state()
            )
            return
        run_events.again(self.context.for_step(launched.step), failure, launched.placement, again)
        forget_outputs(self.active, launched.step)
        del self.launched[key]
        if again.pool != launched.placement.pool:
            self.slots.free(key)
        self.waiting[key] = Waiting(launched.step, again)

    def _wind_up(self, launched: Launched, seen: ContainerStatus | None) -> None:
        """Free what a step held once its container, which may be sending the last of its log, has ended."""
        if seen is not None and not seen.has_ended:
            is_patient = time.monotonic() - launched.ended_at < _WIND_UP_SECONDS
            if (is_patient and seen.failure is None and seen.waiting is None) or not self.engine.stop(launched.name):
                return
        elif seen is not None:
            self.engine.remove(launched.name, succeeded=launched.succeeded)
        self.slots.free(launched.step.key)
        del self.ending[launched.step.key]

    def _end_strays(self, observed: Mapping[str, ContainerStatus]) -> None:
        """End what a predecessor left: containers of steps that have ended, or of launches that were given up."""
        current = {launched.name for launched in (*self.launched.values(), *self.ending.values())}
        for name in observed.keys() - current - self.names:
            self.engine.stop(name)

    # --- launching ---

    def _launch_ready(self) -> None:
        self.waiting.update((step.key, Waiting(step)) for step in self.active.get_steps_to_execute())
        limit = self.executor.max_concurrent
        busy = [launched.step for launched in (*self.launched.values(), *self.ending.values())]
        counter = TagConcurrencyLimitsCounter(self.executor.tag_concurrency_limits, busy)
        for key, waiting in sorted(self.waiting.items(), key=lambda item: -priority_of(item[1].step.tags)):
            if limit is not None and len(self.launched) + len(self.ending) >= limit:
                return
            # An attempt starts only when the one before it is surely over.
            if key in self.ending or waiting.reported or counter.is_blocked(waiting.step):
                continue
            if self._launch(waiting):
                counter.update_counters_with_launched_item(waiting.step)

    def _launch(self, waiting: Waiting) -> bool:
        step, key = waiting.step, waiting.step.key
        step_context = self.context.for_step(step)
        try:
            if waiting.placement is None:
                waiting.placement = self.placements.place(step).model_copy(update={"number": self.launches.get(key, 0)})
        except MlAssetsError as error:
            waiting.reported = True
            run_events.misplaced(step_context, error)
            return False
        # Its author may have given it a pool for another reason, such as a database.
        own = [step.pool] if step.pool and step.pool not in self.executor.rules.pools else []
        full = self.slots.claim([waiting.placement.pool, *own], key, priority_of(step.tags))
        if full is not None:
            if waiting.said_at is None or time.monotonic() - waiting.said_at > _BLOCKED_SECONDS:
                dg.DagsterEvent.step_concurrency_blocked(step_context, full, initial=waiting.said_at is None)
                waiting.said_at = time.monotonic()
            return False
        placement = waiting.placement
        name = container_name(self.run_id, key, placement.number)
        run_events.launching(step_context, self.engine, name, placement)
        del self.waiting[key]
        self.launches[key] = placement.number + 1
        launched = self.launched[key] = Launched(step, placement, name, time.time())
        self.names.add(name)
        try:
            failure = self._request(launched)
        except EngineUnreachable as error:  # asked again with the next look
            run_events.unreachable(self.context, error)
            return True
        if failure is not None:
            launched.reported = True
            run_events.failed(self.executor, step_context, failure, self.active.get_known_state())
        return True

    # --- the end ---

    def _interrupt(self) -> None:
        self.active.mark_interrupted()
        run = self.instance.get_run_by_id(self.run_id)
        is_canceled = run is None or run.status is not dg.DagsterRunStatus.STARTED
        # Dagster's own run_will_resume says yes to a canceled run as well.
        if not is_canceled and self.instance.run_will_resume(self.run_id):
            run_events.left_to_successor(self.context, [launched.name for launched in self.launched.values()])
            return
        self._stop_all()

    def _stop_all(self) -> None:
        """End every container of the run, those that failed and were kept as well."""
        try:
            names = self.engine.observe(self.run_id).keys() | {each.name for each in self.launched.values()}
            self.engine.stop_all(names, _STOP_SECONDS)
        except EngineUnreachable as error:  # the sweep finds what is left
            run_events.unreachable(self.context, error)
        for key in (*self.launched, *self.ending):
            self.slots.free(key)

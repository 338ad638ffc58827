"""Whether there is hope for a step's container, from what the engine says of it."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from ml_assets.executors import run_events
from ml_assets.executors.engine import ContainerState, ContainerStatus
from ml_assets.executors.failures import Failure, FailureCause, Reaction
from ml_assets.executors.placement import PlacementRules
from ml_assets.placement import Placement
from ml_assets.resources.usage import LaunchTimes

if TYPE_CHECKING:
    from ml_assets.dagster_internals import ExecutionStep, IStepContext
    from ml_assets.executors.launch import ContainerExecutor

__all__ = ["Launched", "Waiting", "compare_image", "diagnose", "placed_again"]


@dataclass
class Waiting:
    """A step that may be launched as soon as the limits allow."""

    step: "ExecutionStep"
    placement: Placement | None = None
    reported: bool = False
    said_at: float | None = None


@dataclass
class Launched:
    """A step whose container was ordered."""

    step: "ExecutionStep"
    placement: Placement
    name: str
    since: float
    """When it was ordered, in seconds of the epoch."""
    accepted: bool = False
    """Whether the engine has taken the request."""
    identity: str | None = None
    verified: bool = False
    said: str | None = None
    """What was last reported of its waiting."""
    success: dg.DagsterEvent | None = None
    """That it has succeeded, which counts once it is known in which image."""
    given_up: Failure | None = None
    """Why it is being ended; what follows waits until it has."""
    reported: bool = False
    """Whether its failure stands in the event log already, to be read from there."""
    ended_at: float = 0.0
    succeeded: bool = False

    @property
    def is_disowned(self) -> bool:
        """Whether nothing counts that it says: it ran in another image than was asked for."""
        return self.given_up is not None and self.given_up.cause is FailureCause.WRONG_IMAGE


def diagnose(
    launched: Launched, seen: ContainerStatus | None, executor: "ContainerExecutor", step: "IStepContext"
) -> Failure | None:
    """Why a container has to be given up; None as long as there is hope."""
    if seen is None:
        return executor.engine.why_gone(launched.name)
    launched.accepted = True
    if launched.identity is not None and seen.identity not in (None, launched.identity):
        return executor.engine.why_gone(launched.name) or Failure(FailureCause.DELETED, "another took its place")
    launched.identity = seen.identity or launched.identity
    mismatch = compare_image(launched, seen, executor, step)
    if mismatch is not None or seen.failure is not None:
        return mismatch or seen.failure
    limit = executor.rules.pool(launched.placement.pool).pending_seconds
    if seen.waiting is not None and seen.waiting != launched.said:
        launched.said = seen.waiting
        run_events.waiting(step, launched.name, seen.waiting, limit if seen.state is ContainerState.PENDING else None)
    if seen.state is ContainerState.SUCCEEDED:
        return Failure.of_exit(0)
    if seen.state is ContainerState.PENDING:
        return _pending(launched, seen, limit)
    return _running(launched, seen)


def compare_image(
    launched: Launched, seen: ContainerStatus, executor: "ContainerExecutor", step: "IStepContext"
) -> Failure | None:
    """Compare the image that runs, once it is known, with the one that was asked for; a failure if it is another."""
    if seen.image_id is None or launched.verified:
        return None
    times = _times(launched, seen, executor)  # asked again with the next look where the engine does not answer
    launched.verified = True
    ran = executor.image_ran(seen.image_id, launched.placement)
    run_events.image_ran(step, seen.image_id, ran, times)
    if ran is not False:
        return None
    return Failure(
        FailureCause.WRONG_IMAGE, f"asked for {launched.placement.image}, and the runtime runs {seen.image_id}"
    )


def placed_again(placement: Placement, failure: Failure, rules: PlacementRules) -> Placement | None:
    """Where to launch the same attempt once more; None where the author's policy decides, or nothing would help."""
    reaction, pool = failure.cause.reaction, rules.pool(placement.pool)
    if reaction is Reaction.MORE_MEMORY:
        return placement.with_more_memory(pool)
    if reaction is Reaction.RUN_AGAIN and placement.interruptions < pool.interruptions:
        return placement.again(interruptions=placement.interruptions + 1)
    if reaction in (Reaction.RUN_AGAIN, Reaction.FALL_BACK) and pool.fallback is not None:
        return placement.on(pool.fallback, rules.pool(pool.fallback))
    return None


def _times(launched: Launched, seen: ContainerStatus, executor: "ContainerExecutor") -> LaunchTimes:
    return LaunchTimes(
        number=launched.placement.number,
        ordered_at=launched.since,
        scheduled_at=seen.scheduled_at,
        pull_seconds=executor.engine.pull_seconds(launched.name),
        started_at=seen.started_at,
    )


def _pending(launched: Launched, seen: ContainerStatus, limit: int) -> Failure | None:
    if time.time() - launched.since <= limit:
        return None
    cause = FailureCause.UNSCHEDULABLE if seen.unschedulable else FailureCause.NOT_STARTED
    return Failure(cause, f"not started within {limit} seconds" + (f": {seen.waiting}" if seen.waiting else ""))


def _running(launched: Launched, seen: ContainerStatus) -> Failure | None:
    limit = launched.placement.run_seconds
    if limit is None or time.time() - (seen.started_at or launched.since) <= limit:
        return None
    return Failure(FailureCause.DEADLINE, f"still running after {limit} seconds")

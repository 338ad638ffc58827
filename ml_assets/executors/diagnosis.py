"""Diagnosis of a step's container: decides whether to give it up, and the placement of the next launch."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml_assets.executors import run_events
from ml_assets.executors.engine import ContainerEngine, ContainerState, ContainerStatus
from ml_assets.executors.failures import Failure, FailureCause, Reaction
from ml_assets.executors.launches import ContainerLaunch
from ml_assets.executors.placement import PlacementRules
from ml_assets.placement import Placement
from ml_assets.resources.usage import LaunchTimes

if TYPE_CHECKING:
    from ml_assets.dagster_internals import IStepContext

__all__ = ["Diagnostics", "next_placement"]


@dataclass(frozen=True)
class Diagnostics:
    """Decides which containers must be given up.

    Args:
        engine: reports why a container is gone, and how long the pull of its image took.
        rules: pools with their limits.
        image_ran: returns True if an image id reported by the runtime is the placement's image; None if unknown.
    """

    engine: ContainerEngine
    rules: PlacementRules
    image_ran: Callable[[str, Placement], bool | None]

    def diagnose(self, launch: ContainerLaunch, status: ContainerStatus | None, step: "IStepContext") -> Failure | None:
        """Return the failure for which the container of a launch at work must be given up; None if there is none.

        Args:
            launch: is updated from the status.
            status: status that the engine reports; None if it does not know the container.
            step: the findings are recorded as events of this step.
        """
        if status is None:
            return self.engine.why_gone(launch.name)
        seen = launch.container
        if seen.identity is not None and status.identity not in (None, seen.identity):
            return self.engine.why_gone(launch.name) or Failure(FailureCause.DELETED, "another container replaced it")
        launch.observe(status)
        mismatch = self.compare_image(launch, status, step)
        if mismatch is not None or status.failure is not None:
            return mismatch or status.failure
        limit = self.rules.pool(launch.placement.pool).pending_seconds
        if status.waiting is not None and status.waiting != seen.wait_reason:
            seen.wait_reason = status.waiting
            is_pending = status.state is ContainerState.PENDING
            run_events.waiting(step, launch.name, status.waiting, limit if is_pending else None)
        if status.state is ContainerState.SUCCEEDED:
            return Failure.of_exit(0)
        if status.state is ContainerState.PENDING:
            return _pending_too_long(launch, status, limit)
        return _running_too_long(launch, status)

    def compare_image(self, launch: ContainerLaunch, status: ContainerStatus, step: "IStepContext") -> Failure | None:
        """Compare the running image, once it is known, with the requested one.

        Returns:
            A failure if it is another image.
        """
        if status.image_id is None or launch.container.image_checked:
            return None
        times = self._times(launch, status)  # retried at the next poll if the engine does not answer
        launch.container.image_checked = True
        ran = self.image_ran(status.image_id, launch.placement)
        run_events.image_ran(step, status.image_id, ran, times)
        if ran is not False:
            return None
        detail = f"requested {launch.placement.image}, but the runtime runs {status.image_id}"
        return Failure(FailureCause.WRONG_IMAGE, detail)

    def _times(self, launch: ContainerLaunch, status: ContainerStatus) -> LaunchTimes:
        return LaunchTimes(
            number=launch.number,
            ordered_at=launch.ordered_at or 0.0,
            scheduled_at=status.scheduled_at,
            pull_seconds=self.engine.pull_seconds(launch.name),
            started_at=status.started_at,
        )


def next_placement(placement: Placement, failure: Failure, rules: PlacementRules) -> Placement | None:
    """Return the placement of the attempt's next launch; None if the executor must not launch it again."""
    reaction, pool = failure.cause.reaction, rules.pool(placement.pool)
    if reaction is Reaction.MORE_MEMORY:
        return placement.with_more_memory(pool)
    if reaction is Reaction.RUN_AGAIN and placement.interruptions < pool.interruptions:
        return placement.again(interruptions=placement.interruptions + 1)
    if reaction in (Reaction.RUN_AGAIN, Reaction.FALL_BACK) and pool.fallback is not None:
        return placement.on(pool.fallback, rules.pool(pool.fallback))
    return None


def _pending_too_long(launch: ContainerLaunch, status: ContainerStatus, limit: int) -> Failure | None:
    if time.time() - (launch.ordered_at or 0.0) <= limit:
        return None
    cause = FailureCause.UNSCHEDULABLE if status.unschedulable else FailureCause.NOT_STARTED
    return Failure(cause, f"not started within {limit} seconds" + (f": {status.waiting}" if status.waiting else ""))


def _running_too_long(launch: ContainerLaunch, status: ContainerStatus) -> Failure | None:
    limit = launch.placement.run_seconds
    if limit is None or time.time() - (status.started_at or launch.ordered_at or 0.0) <= limit:
        return None
    return Failure(FailureCause.DEADLINE, f"still running after {limit} seconds")

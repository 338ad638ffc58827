"""Limits on concurrent steps: selection of the waiting launches that may be ordered now."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.dagster_internals import TagConcurrencyLimitsCounter
from ml_assets.executors import run_events
from ml_assets.executors.launches import ContainerLaunch, Launches, LaunchState
from ml_assets.executors.placement import RunPlacements
from ml_assets.executors.pool_slots import PoolSlots, priority_of
from ml_assets.resources.errors import MlAssetsError

if TYPE_CHECKING:
    from ml_assets.dagster_internals import PlanOrchestrationContext

__all__ = ["LaunchScheduler"]

_BLOCKED_SECONDS = 300


class LaunchScheduler:
    """Selects the waiting launches of a run that may be ordered.

    Args:
        context: the run.
        launches: its launches.
        placements: placements of the run's steps.
        slots: slots of the pools.
        max_concurrent: maximum number of concurrent steps of this run.
        tag_limits: Dagster's limits on concurrent steps by tag, within the run.
    """

    def __init__(
        self,
        context: "PlanOrchestrationContext",
        launches: Launches,
        placements: RunPlacements,
        slots: PoolSlots,
        *,
        max_concurrent: int | None,
        tag_limits: Sequence[Mapping[str, Any]],
    ) -> None:
        self._context, self._launches, self._placements, self._slots = context, launches, placements, slots
        self._max_concurrent, self._tag_limits = max_concurrent, list(tag_limits)
        self._blocked_at: dict[str, float] = {}
        """Time at which a launch was last reported to wait for a slot, by container name."""

    def ready(self) -> Iterator[ContainerLaunch]:
        """Yield the launches that may be ordered now, highest priority first.

        Each launch has its placement and its slots. The caller must order it before it requests the next one. A step
        that cannot be placed fails here.
        """
        busy = [launch.step for launch in self._launches if launch.has_container]
        counter, count = TagConcurrencyLimitsCounter(self._tag_limits, busy), len(busy)
        waiting = [launch for launch in self._launches if launch.state is LaunchState.WAITING]
        for launch in sorted(waiting, key=lambda each: -priority_of(each.step.tags)):
            if self._max_concurrent is not None and count >= self._max_concurrent:
                return
            # An attempt starts only after the container of the previous attempt has ended.
            if self._launches.ending(launch.step.key) or counter.is_blocked(launch.step):
                continue
            if self._has_placement(launch) and self._has_slots(launch):
                yield launch
                count += 1
                counter.update_counters_with_launched_item(launch.step)

    def _has_placement(self, launch: ContainerLaunch) -> bool:
        if launch.where is not None:
            return True
        try:
            launch.place(self._placements.place(launch.step))
        except MlAssetsError as error:
            launch.fail()
            run_events.misplaced(self._context.for_step(launch.step), error)
            return False
        return True

    def _has_slots(self, launch: ContainerLaunch) -> bool:
        step = launch.step
        # The author may have assigned a pool for another reason, such as a database.
        own = [step.pool] if step.pool and step.pool not in self._placements.rules.pools else []
        full = self._slots.claim([launch.placement.pool, *own], step.key, priority_of(step.tags))
        if full is None:
            return True
        said_at = self._blocked_at.get(launch.name)
        if said_at is None or time.monotonic() - said_at > _BLOCKED_SECONDS:
            dg.DagsterEvent.step_concurrency_blocked(self._context.for_step(step), full, initial=said_at is None)
            self._blocked_at[launch.name] = time.monotonic()
        return False

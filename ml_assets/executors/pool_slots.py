"""Slots of Dagster's concurrency pools, claimed for the pool that a step actually runs on.

Dagster fixes a step's pool in its definition. This module instead claims a slot in the fallback pool, or in the pool
chosen at launch, so that every pool keeps its limit.
"""

import time
from collections.abc import Mapping, Sequence

import dagster as dg
from sqlalchemy.exc import IntegrityError

from ml_assets.dagster_internals import PRIORITY_TAG, PoolGranularity
from ml_assets.resources.errors import DatabaseUnreachable
from ml_assets.resources.pools import Pool

__all__ = ["PoolSlots", "priority_of"]

_FIRST_WAIT, _LONGEST_WAIT, _GROWTH = 1.0, 15.0, 1.1


class PoolSlots:
    """The slots of one run.

    Args:
        instance: its event log storage counts the slots, across runs.
        run: the run that claims.
        pools: pools of the settings; ``concurrency`` becomes the limit of the Dagster pool of the same name.
    """

    def __init__(self, instance: dg.DagsterInstance, run: dg.DagsterRun, pools: Mapping[str, Pool]) -> None:
        self._storage, self._run_id = instance.event_log_storage, run.run_id
        self._counted = (
            self._storage.supports_global_concurrency_limits
            and self._storage.get_pool_config().pool_granularity != PoolGranularity.RUN
        )
        self._run_priority = priority_of(run.tags)
        self._held: dict[str, set[str]] = {}
        self._waits: dict[str, tuple[float, float]] = {}
        if self._counted:
            self._set_limits(pools)

    def claim(self, pools: Sequence[str], step_key: str, priority: int) -> str | None:
        """Claim a slot in each pool; return the name of a full one, or None if the step has all of its slots.

        A waiting step retries at growing intervals of up to 15 seconds.
        """
        if not self._counted:
            return None
        at, wait = self._waits.get(step_key, (0.0, _FIRST_WAIT))
        missing = sorted(set(pools) - self._held.setdefault(step_key, set()))
        if missing and time.monotonic() < at:
            return missing[0]
        for pool in missing:  # The same order for all steps avoids deadlocks between steps that need two pools.
            if self._is_limited(pool):
                status = self._storage.claim_concurrency_slot(
                    pool, self._run_id, step_key, self._run_priority + priority
                )
                if not status.is_claimed:
                    self._waits[step_key] = (time.monotonic() + wait, min(wait * _GROWTH, _LONGEST_WAIT))
                    return pool
            self._held[step_key].add(pool)
        self._waits.pop(step_key, None)
        return None

    def adopt(self, step_key: str) -> None:
        """Take over the slots that a predecessor has claimed for a step, so that they are freed later."""
        self._held.setdefault(step_key, set())

    def free(self, step_key: str) -> None:
        """Free the slots that a step has claimed, and its places in queues."""
        self._waits.pop(step_key, None)
        if self._counted and self._held.pop(step_key, None) is not None:
            try:
                self._storage.free_concurrency_slot_for_step(self._run_id, step_key)
            except DatabaseUnreachable:  # Dagster's daemon frees the slots of a run that has ended.
                self._counted = False

    def _is_limited(self, pool: str) -> bool:
        limits = {limit.name: limit for limit in self._storage.get_pool_limits()}
        default = self._storage.get_pool_config().default_pool_limit
        known = limits.get(pool)
        if default is not None and (known is None or (known.from_default and known.limit != default)):
            self._storage.initialize_concurrency_limit_to_default(pool)
            return True
        return known is not None

    def _set_limits(self, pools: Mapping[str, Pool]) -> None:
        limits = {limit.name: limit.limit for limit in self._storage.get_pool_limits()}
        for name, pool in pools.items():
            if pool.concurrency is None or limits.get(name) == pool.concurrency:
                continue
            try:
                self._storage.set_concurrency_slots(name, pool.concurrency)
            except IntegrityError:  # A concurrent run has created the row, so now it can be updated.
                self._storage.set_concurrency_slots(name, pool.concurrency)


def priority_of(tags: Mapping[str, str]) -> int:
    """Return the priority in the tags of a run or step; 0 if it is missing or not a number."""
    try:
        return int(tags.get(PRIORITY_TAG, 0))
    except ValueError:
        return 0

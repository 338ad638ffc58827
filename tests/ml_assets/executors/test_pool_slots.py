"""Slots of Dagster's own concurrency pools in a real database."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy.exc import IntegrityError

from ml_assets.dagster_internals import PRIORITY_TAG
from ml_assets.executors import pool_slots as module
from ml_assets.executors.pool_slots import PoolSlots, priority_of
from ml_assets.resources.pools import Pool
from tests.migrated import Migrated

POOLS = {"one": Pool(concurrency=1), "two": Pool(concurrency=2), "free": Pool()}


@pytest.fixture
def instance(tmp_path: Path, migrated: Migrated) -> Iterator[dg.DagsterInstance]:
    with migrated.instance(tmp_path) as found:
        yield found


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The clock of waiting steps, in seconds."""
    clock = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    return clock  # type: ignore[return-value]


def slots_of(instance: dg.DagsterInstance, run: dg.DagsterRun | None = None) -> PoolSlots:
    return PoolSlots(instance, run or dg.DagsterRun("job"), POOLS)


def test_limits_of_settings_become_those_of_dagsters_pools(instance: dg.DagsterInstance) -> None:
    slots_of(instance)
    limits = {limit.name: limit.limit for limit in instance.event_log_storage.get_pool_limits()}
    assert limits == {"one": 1, "two": 2}


def test_limit_that_another_run_makes_at_this_moment_is_set_all_the_same(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = instance.event_log_storage
    really_set, beaten = storage.set_concurrency_slots, set()

    def is_beaten(name: str, number: int) -> None:
        really_set(name, number)
        if name not in beaten:
            beaten.add(name)
            raise IntegrityError("INSERT", {}, Exception("duplicate key"))

    monkeypatch.setattr(storage, "set_concurrency_slots", is_beaten)
    slots_of(instance)
    assert {limit.name: limit.limit for limit in storage.get_pool_limits()} == {"one": 1, "two": 2}
    assert beaten == {"one", "two"}


def test_full_pool_is_named_and_freed_slot_is_claimed(instance: dg.DagsterInstance, now: list[float]) -> None:
    slots = slots_of(instance)
    assert slots.claim(["one"], "a", 0) is None
    assert slots.claim(["one"], "b", 0) == "one"
    slots.free("a")
    now[0] += 2
    assert slots.claim(["one"], "b", 0) is None


def test_waiting_step_asks_again_only_after_a_while(instance: dg.DagsterInstance, now: list[float]) -> None:
    slots = slots_of(instance)
    slots.claim(["one"], "a", 0)
    slots.claim(["one"], "b", 0)
    slots.free("a")
    assert slots.claim(["one"], "b", 0) == "one"
    now[0] += 2
    assert slots.claim(["one"], "b", 0) is None


def test_limit_holds_across_runs_and_successor_keeps_its_slot(instance: dg.DagsterInstance) -> None:
    run = dg.DagsterRun("job")
    assert slots_of(instance, run).claim(["one"], "a", 0) is None
    assert slots_of(instance).claim(["one"], "a", 0) == "one"
    successor = slots_of(instance, run)
    assert successor.claim(["one"], "a", 0) is None
    successor.free("a")
    assert instance.event_log_storage.get_concurrency_info("one").active_slot_count == 0


def test_pool_without_a_limit_takes_everybody(instance: dg.DagsterInstance) -> None:
    slots = slots_of(instance)
    assert [slots.claim(["free"], step, 0) for step in "abc"] == [None] * 3


def test_step_that_needs_two_pools_waits_for_both(instance: dg.DagsterInstance, now: list[float]) -> None:
    slots = slots_of(instance)
    assert slots.claim(["two", "one"], "a", 0) is None
    assert slots.claim(["two", "one"], "b", 0) == "one"
    slots.free("b")  # also leaves the queue
    assert instance.event_log_storage.get_concurrency_info("one").pending_step_count == 0
    assert slots.claim(["two"], "c", 0) is None


@pytest.mark.parametrize(("text", "priority"), [("5", 5), ("-1", -1), ("high", 0)])
def test_priority_that_is_no_number_counts_as_none(text: str, priority: int) -> None:
    assert priority_of({PRIORITY_TAG: text}) == priority
    assert priority_of({}) == 0


def test_priority_goes_first(instance: dg.DagsterInstance, now: list[float]) -> None:
    slots = slots_of(instance)
    assert slots.claim(["one"], "a", 0) is None
    assert slots.claim(["one"], "slow", 1) == "one"
    assert slots.claim(["one"], "fast", 5) == "one"
    slots.free("a")
    now[0] += 2
    assert slots.claim(["one"], "slow", 1) == "one"
    assert slots.claim(["one"], "fast", 5) is None


def test_nothing_is_claimed_where_the_limits_are_of_runs(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("concurrency: {pools: {granularity: run}}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        slots = slots_of(instance)
        assert [slots.claim(["one"], step, 0) for step in "abc"] == [None] * 3
        slots.free("a")


def test_default_limit_of_dagster_holds_for_pools_without_one(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("concurrency: {pools: {default_limit: 1}}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        slots = slots_of(instance)
        assert [slots.claim(["free"], step, 0) for step in "ab"] == [None, "free"]

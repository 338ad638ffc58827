import random
import sys
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from ml_assets.artifacts import record
from ml_assets.artifacts.record import _interpreter, launch_of, plant_seeds, why_not_reproducible
from ml_assets.dagster_internals import PARENT_RUN_ID_TAG, RETRY_NUMBER_TAG, SCHEDULED_EXECUTION_TIME_TAG, TICK_ID_TAG
from ml_assets.datasets import dataset
from ml_assets.resources.provenance import Launch, LaunchKind, Source, record_of

NIGHT = "2026-03-08T03:15:00-04:00"


@dg.job
def nothing() -> None: ...


@dg.schedule(job=nothing, cron_schedule="15 3 * * *")
def nightly() -> None: ...


@dg.sensor(job=nothing)
def arrivals() -> None: ...


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"user": "ada"}, Launch(kind=LaunchKind.USER, name="ada")),
        (
            {**dg.DagsterRun.tags_for_schedule(nightly), SCHEDULED_EXECUTION_TIME_TAG: NIGHT, TICK_ID_TAG: "7"},
            Launch(kind=LaunchKind.SCHEDULE, name="nightly", tick=NIGHT),
        ),
        (
            {**dg.DagsterRun.tags_for_schedule(nightly), TICK_ID_TAG: "7"},
            Launch(kind=LaunchKind.SCHEDULE, name="nightly", tick="7"),
        ),
        (
            {**dg.DagsterRun.tags_for_sensor(arrivals), TICK_ID_TAG: "8"},
            Launch(kind=LaunchKind.SENSOR, name="arrivals", tick="8"),
        ),
        (dg.DagsterRun.tags_for_backfill_id("abc"), Launch(kind=LaunchKind.BACKFILL, name="abc")),
        (
            {
                **dg.DagsterRun.tags_for_sensor(arrivals),
                **dg.DagsterRun.tags_for_backfill_id("abc"),
                **dg.DagsterRun.tags_for_tick_id("9", has_evaluations=True),
            },
            Launch(kind=LaunchKind.AUTOMATION, name="arrivals", tick="9"),
        ),
        (
            {**dg.DagsterRun.tags_for_schedule(nightly), TICK_ID_TAG: "7", PARENT_RUN_ID_TAG: "before", "user": "ada"},
            Launch(kind=LaunchKind.USER, name="ada", parent_run_id="before"),
        ),
        (
            {
                **dg.DagsterRun.tags_for_schedule(nightly),
                TICK_ID_TAG: "7",
                PARENT_RUN_ID_TAG: "before",
                RETRY_NUMBER_TAG: "1",
            },
            Launch(kind=LaunchKind.SCHEDULE, name="nightly", tick="7", parent_run_id="before"),
        ),
    ],
    ids=["user", "schedule", "unscheduled tick", "sensor", "backfill", "automation", "re-execution", "Dagster's retry"],
)
def test_launch_is_read_from_the_tags_that_dagster_writes(tags: dict[str, str], expected: Launch) -> None:
    assert launch_of(tags) == expected


def test_launch_by_nobody_named_is_by_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "operating_system_user", lambda: "grace")
    assert launch_of({}) == Launch(kind=LaunchKind.USER, name="grace")


def test_seed_of_the_factory_is_planted() -> None:
    assert plant_seeds(3, {}) == {"random": 3, "numpy": 3}
    drawn = random.random(), np.random.rand()
    plant_seeds(3, {})
    assert (random.random(), np.random.rand()) == drawn


def test_seed_in_the_run_config_goes_first() -> None:
    assert plant_seeds(3, {"seed": 5, "split_seed": 6}) == {"seed": 5, "split_seed": 6, "random": 5, "numpy": 5}


def test_seed_beyond_what_numpy_takes_is_recorded_as_it_was_planted() -> None:
    assert plant_seeds(-1, {}) == {"random": -1, "numpy": 2**32 - 1}


def test_nothing_is_planted_without_a_seed() -> None:
    random.seed(1)
    before = random.getstate()
    assert plant_seeds(None, {"seed": None, "use_seed": True, "seeds": 4}) == {}
    assert random.getstate() == before


@pytest.mark.parametrize(
    ("source", "reasons"),
    [
        (Source(commit="a" * 40, dirty=False), []),
        (
            Source(commit="a" * 40, dirty=True, diff_digest="sha256:0"),
            ["the checkout had changes on top of commit aaaaaaaaaaaa"],
        ),
        (Source(), ["not in a git repository"]),
    ],
)
def test_only_a_clean_commit_is_reproducible(source: Source, reasons: list[str]) -> None:
    found = why_not_reproducible(source)
    assert len(found) == len(reasons)
    assert all(reason in why for reason, why in zip(reasons, found, strict=True))


def test_interpreter_is_named_with_its_version() -> None:
    assert _interpreter().endswith(f" {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}")


class Nested(dg.Config):
    rate: float = 0.1


class Training(dg.Config):
    rounds: int = 10
    name: str | None = None
    nested: Nested = Nested()


FRAME = pd.DataFrame({"x": [1]})


@dataset()
def typed(config: Training) -> pd.DataFrame:
    return FRAME


@dataset(config_schema={"rounds": dg.Field(int, default_value=10), "name": dg.Noneable(str)})
def untyped(context: dg.AssetExecutionContext) -> pd.DataFrame:
    return FRAME


@dataset()
def without() -> pd.DataFrame:
    return FRAME


@pytest.mark.parametrize(
    ("asset", "config", "expected"),
    [
        (typed, {"rounds": 3}, {"rounds": 3, "name": None, "nested": {"rate": 0.1}}),
        (untyped, {"name": "x"}, {"rounds": 10, "name": "x"}),
        (without, None, {}),
    ],
    ids=["typed", "schema", "none"],
)
def test_parameters_are_the_run_config_with_defaults(
    resources: dict[str, Any],
    instance: dg.DagsterInstance,
    asset: dg.AssetsDefinition,
    config: dict[str, Any] | None,
    expected: dict[str, Any],
) -> None:
    name = asset.key.to_user_string()
    run_config = {"ops": {name: {"config": config}}} if config else None
    result = dg.materialize([asset], instance=instance, resources=resources, run_config=run_config)
    (event,) = result.asset_materializations_for_node(name)
    assert record_of(event.metadata).parameters == expected

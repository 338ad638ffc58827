"""Usage of materializations, read back from real event logs. `test_launch` tests that executors record it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ml_assets.dagster_internals import EngineEventData
from ml_assets.datasets import dataset
from ml_assets.placement import placed
from ml_assets.resources.errors import UnknownReference
from ml_assets.resources.provenance import LAUNCH_TIMES_METADATA
from ml_assets.resources.usage import LaunchTimes
from ml_assets.usage.history import MeasuredMaterialization, read_history
from tests.ml_assets.artifacts.test_meter import PLACEMENT
from tests.postgres import postgres

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataset()
def frame() -> pd.DataFrame:
    return pd.DataFrame({"x": [1.0]})


@dg.asset
def foreign() -> None: ...


def write_times(instance: dg.DagsterInstance, run_id: str, step: str, times: LaunchTimes) -> None:
    """Write the event that the executor writes when a container runs."""
    metadata = {LAUNCH_TIMES_METADATA: dg.MetadataValue.json(times.model_dump(mode="json"))}
    event = dg.DagsterEvent(
        dg.DagsterEventType.ENGINE_EVENT.value,
        "job",
        step_key=step,
        message="runs",
        event_specific_data=EngineEventData(metadata=metadata),
    )
    instance.report_dagster_event(event, run_id)


def only(instance: dg.DagsterInstance) -> MeasuredMaterialization:
    (history,) = read_history(instance, ["frame"], LONG_AGO, 10)
    (taken,) = history.taken
    return taken


def in_container(instance: dg.DagsterInstance, resources: dict[str, Any], *before: float) -> MeasuredMaterialization:
    """Materialize in a container and return the measurement.

    The container was ordered and scheduled this many seconds before its process began; the pull took the last number.
    """
    with placed(PLACEMENT):
        result = dg.materialize([frame], instance=instance, resources=resources)
    began = only(instance).usage.process_started_at
    assert began is not None
    ordered, scheduled, pull = before
    times = LaunchTimes(
        number=PLACEMENT.number,
        ordered_at=began.timestamp() - ordered,
        scheduled_at=began.timestamp() - scheduled,
        pull_seconds=pull,
    )
    write_times(instance, result.run_id, "frame", times.model_copy(update={"number": 1, "ordered_at": 0.0}))
    write_times(instance, result.run_id, "another", times.model_copy(update={"ordered_at": 0.0}))
    write_times(instance, result.run_id, "frame", times)
    write_times(instance, result.run_id, "frame", times.model_copy(update={"pull_seconds": None}))
    return only(instance)


def test_what_only_the_executor_knows_is_found_by_run_step_and_launch(
    instance: dg.DagsterInstance, resources: dict[str, Any]
) -> None:
    taken = in_container(instance, resources, 20, 12, 9)
    assert list(taken.seconds) == ["scheduling", "pull", "start", "import", "input", "compute", "output"]
    assert [taken.seconds[name] for name in ("scheduling", "pull", "start")] == pytest.approx([8, 9, 3], abs=0.01)


def test_time_on_a_machine_costs_and_time_in_the_queue_does_not(
    instance: dg.DagsterInstance, resources: dict[str, Any]
) -> None:
    taken = in_container(instance, resources, 20, 12, 9)
    assert taken.cost == pytest.approx(36.0 * (taken.step_seconds + 12) / 3600, rel=1e-3)


def test_clocks_that_differ_make_nothing_negative(instance: dg.DagsterInstance, resources: dict[str, Any]) -> None:
    taken = in_container(instance, resources, -5, -3, 9)
    assert [taken.seconds[name] for name in ("pull", "start")] == [0.0, 0.0]
    assert min(taken.seconds.values()) >= 0


def test_a_plain_process_has_no_time_before_it_began(instance: dg.DagsterInstance, resources: dict[str, Any]) -> None:
    dg.materialize([frame], instance=instance, resources=resources)
    taken = only(instance)
    assert list(taken.seconds) == ["import", "input", "compute", "output"]
    assert taken.cost is None


def test_all_are_counted_and_the_newest_are_read(instance: dg.DagsterInstance, resources: dict[str, Any]) -> None:
    runs = [dg.materialize([frame], instance=instance, resources=resources).run_id for _ in range(3)]
    (history,) = read_history(instance, [], LONG_AGO, 2)
    assert (history.asset, history.count) == ("frame", 3)
    assert [taken.record.dagster_run for taken in history.taken] == [runs[2], runs[1]]


def test_what_was_made_before_is_left_out(instance: dg.DagsterInstance, resources: dict[str, Any]) -> None:
    dg.materialize([frame], instance=instance, resources=resources)
    assert read_history(instance, [], datetime.now(UTC) + timedelta(minutes=1), 10) == []


def test_an_asset_that_no_factory_made_has_nothing_measured(instance: dg.DagsterInstance) -> None:
    dg.materialize([foreign], instance=instance)
    (history,) = read_history(instance, [], LONG_AGO, 10)
    assert (history.count, history.taken) == (1, ())


def test_an_asset_that_was_never_materialized_is_told_with_what_may_be_meant(
    instance: dg.DagsterInstance, resources: dict[str, Any]
) -> None:
    dg.materialize([frame], instance=instance, resources=resources)
    with pytest.raises(UnknownReference, match=r"frames was never materialized \(did you mean frame\?\)"):
        read_history(instance, ["frames"], LONG_AGO, 10)


def test_postgresql_answers_like_sqlite(tmp_path: Path, resources: dict[str, Any]) -> None:
    with postgres() as server:
        (tmp_path / "dagster.yaml").write_text(f"storage: {{postgres: {{postgres_url: '{server.url}'}}}}\n")
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            taken = in_container(instance, resources, 20, 12, 9)
            assert [taken.seconds[name] for name in ("scheduling", "pull", "start")] == pytest.approx(
                [8, 9, 3], abs=0.01
            )
            assert read_history(instance, [], datetime.now(UTC) + timedelta(minutes=1), 10) == []

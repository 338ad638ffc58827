"""Checks and events of a step's process, run in this process against a real database."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.dagster_internals import EngineEventData, ExecuteStepArgs
from ml_assets.executors import step_process
from ml_assets.executors.container_request import packed
from ml_assets.executors.event_tail import launch_of_event
from ml_assets.executors.failures import REPLACED_EXIT
from ml_assets.placement import Placement
from ml_assets.resources.machine.hardware import hardware
from ml_assets.resources.provenance import PLACEMENT_METADATA
from tests.migrated import Migrated
from tests.ml_assets.executors.process_jobs import IMAGE, once
from tests.ml_assets.executors.runs import Run

ENDS = (dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_UP_FOR_RETRY)
MATERIALIZATION, SUCCESS = dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.STEP_SUCCESS
STARTED = dg.DagsterEventType.STEP_START
STEP = "reports__model"


@pytest.fixture
def run(tmp_path: Path, migrated: Migrated) -> Iterator[Run]:
    """A started run whose step has not started."""
    job = dg.reconstructable(once)
    with migrated.instance(tmp_path) as instance:
        created = instance.create_run_for_job(
            job.get_definition(), job_code_origin=job.get_python_origin(), status=dg.DagsterRunStatus.STARTED
        )
        yield Run(instance, created.run_id)


def placement(**said: Any) -> Placement:
    given = {"step": STEP, "image": IMAGE, "pool": "gpu", "cpus": 1, "memory": "1Gi", **said}
    return Placement.model_validate(given)


def execute(run: Run, **said: Any) -> None:
    """Run the code of one launch's process."""
    origin = dg.reconstructable(once).get_python_origin()
    arguments = ExecuteStepArgs(origin, run.id, [STEP], run.instance.get_ref())
    step_process.run([packed(arguments), placement(**said).model_dump_json()])


def written(run: Run) -> list[dg.DagsterEvent]:
    """Return the step's events, except the event of its planning, which was written earlier."""
    planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    return [event for event in run.events(STEP) if event.event_type is not planned]


def test_each_event_says_of_which_launch_it_is(run: Run) -> None:
    execute(run, number=3)
    assert {launch_of_event(event) for event in written(run)} == {3}
    assert {MATERIALIZATION, SUCCESS, STARTED} <= {event.event_type for event in written(run)}


def test_code_that_is_expected_runs(run: Run) -> None:
    execute(run, code_versions={"reports/model": "7"})
    assert run.succeeded(STEP)


@pytest.mark.parametrize(
    ("expected", "has", "what"),
    [
        ({"reports/model": "8"}, "has code version 7", "materialize images/train"),
        ({"reports/other": "8"}, "does not contain the asset", "materialize images/train"),
        ({"images/serve": "8"}, "does not contain the asset", "run ml-assets images bootstrap train"),
    ],
)
def test_other_code_is_refused_with_the_image_to_make(run: Run, expected: dict[str, str], has: str, what: str) -> None:
    execute(run, code_versions=expected, image_asset="images/train")
    assert run.failure(STEP) == (
        f"{next(iter(expected))}: the code location expects code version 8, but the image {IMAGE} {has}. "
        f"Next: {what}, then run the step again; or reload the code location."
    )
    assert run.events(STEP, STARTED) == []
    (failure,) = written(run)
    assert launch_of_event(failure) == 0


def test_devices_that_are_not_there_end_the_step_before_user_code(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = hardware().model_copy(update={"accelerators": ("Some GPU",)})
    monkeypatch.setattr(step_process, "hardware", lambda: found)
    execute(run, accelerators=2)
    assert run.failure(STEP) == (
        f"{STEP}: pool gpu promises 2 accelerators, but the container has Some GPU. Next: check the node's driver and "
        "device plugin, or set check_accelerators = false to skip this check."
    )
    assert run.events(STEP, STARTED) == []
    execute(run, accelerators=1, number=1)
    assert run.succeeded(STEP)


def test_devices_are_not_looked_for_where_the_pool_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_process, "hardware", lambda: pytest.fail("looked"))
    execute(run, accelerators=2, check_accelerators=False)
    assert run.succeeded(STEP)


def test_second_container_of_one_launch_leaves_the_step_alone(run: Run) -> None:
    execute(run)
    with pytest.raises(SystemExit) as ended:
        execute(run)
    assert ended.value.code == REPLACED_EXIT
    assert len(run.events(STEP, SUCCESS)) == 1
    execute(run, number=1)
    assert len(run.events(STEP, SUCCESS)) == 2


def test_launch_that_was_given_up_records_nothing_final(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {PLACEMENT_METADATA: dg.MetadataValue.json(placement(number=1).model_dump(mode="json"))}
    event = dg.DagsterEvent(
        dg.DagsterEventType.STEP_WORKER_STARTING.value,
        "once",
        step_key=STEP,
        event_specific_data=EngineEventData(facts),
    )
    run.instance.report_dagster_event(event, run.id)

    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(step_process.os, "_exit", leave)  # it would end pytest's process
    with pytest.raises(SystemExit) as ended:
        execute(run, number=0)
    assert ended.value.code == REPLACED_EXIT
    assert run.events(STEP, STARTED) != []
    assert run.events(STEP, MATERIALIZATION, *ENDS) == []


def test_run_that_was_deleted_is_told(run: Run) -> None:
    run.instance.delete_run(run.id)
    with pytest.raises(SystemExit, match="is no longer in Dagster's database"):
        execute(run)

"""Runs and events during an outage of a real PostgreSQL that holds Dagster's database."""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import StepMaterializationData
from dagster._core.execution.api import execute_run_iterator
from sqlalchemy import create_engine, event, text

from ml_assets.dagster_internals import EngineEventData
from ml_assets.executors import database_retry, step_process
from ml_assets.executors.database_retry import call_with_retries, retry_database_operations
from ml_assets.executors.failures import REPLACED_EXIT
from ml_assets.executors.pool_slots import PoolSlots
from ml_assets.resources.errors import DatabaseUnreachable
from ml_assets.resources.provenance import PLACEMENT_METADATA
from tests.ml_assets.executors import process_jobs
from tests.ml_assets.executors.runs import Run, Scene, scene, until
from tests.ml_assets.executors.test_step_process import STEP, execute, placement
from tests.postgres import Postgres, postgres

START, STARTED = dg.DagsterEventType.STEP_WORKER_STARTING, dg.DagsterEventType.STEP_WORKER_STARTED
BEGUN, MATERIALIZED = dg.DagsterEventType.STEP_START, dg.DagsterEventType.ASSET_MATERIALIZATION
COMPLAINT, RELIEF = "Dagster's database does not answer; waiting at most", "Dagster's database answers again"
KEY = dg.AssetKey("kept")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as found:
        yield found


@pytest.fixture(scope="module")
def stage(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("database"), storage(server)) as found:
        yield found


@pytest.fixture
def instance(stage: Scene) -> Iterator[dg.DagsterInstance]:
    """An instance whose operations are retried; the test itself uses the stage's."""
    with dg.DagsterInstance.from_config(str(stage.home)) as found:
        retry_database_operations(found)
        yield found


def storage(server: Postgres) -> str:
    return f"storage: {{postgres: {{postgres_url: '{server.url}'}}}}\n"


@contextmanager
def outage(server: Postgres) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


def end_step(stage: Scene, run: Run) -> None:
    (stage.home / f"go-{run.id}").touch()


def log_of_step(stage: Scene) -> str:
    return "".join(file.read_text() for file in stage.engine.folder.glob("step-outliving-*/log"))


def log_of_worker(stage: Scene) -> str:
    return (stage.home / "worker.log").read_text()


def launches_of(run: Run) -> dict[str, tuple[int, int, int, bool]]:
    return {
        step: (
            len(run.placements(step)),
            len(run.events(step, STARTED)),
            len(run.events(step, MATERIALIZED)),
            run.succeeded(step),
        )
        for step in ("outliving", "afterwards")
    }


ONCE = {"outliving": (1, 1, 1, True), "afterwards": (1, 1, 1, True)}
"""Result of `launches_of` for an undisturbed run."""


def test_run_rides_out_an_outage_in_which_its_step_ends(stage: Scene, server: Postgres) -> None:
    run = stage.create("outage")
    with stage.worker(run, "execute") as worker:
        until(lambda: run.events("outliving", BEGUN), "the step's start")
        with outage(server):
            end_step(stage, run)
            until(lambda: COMPLAINT in log_of_worker(stage), "the run worker's complaint")
            until(lambda: COMPLAINT in log_of_step(stage), "the step's complaint")
        assert worker.wait(480) == 0
    assert run.stored.is_success
    assert launches_of(run) == ONCE
    assert len([record for record in run.records() if record.event_log_entry.user_message == "going on"]) == 1
    assert log_of_worker(stage).count(COMPLAINT) == log_of_worker(stage).count(RELIEF) == 1
    limits = stage.instance.event_log_storage.get_concurrency_info("narrow")
    assert (limits.active_slot_count, limits.pending_step_count) == (0, 0)


def test_worker_that_is_asked_to_end_in_an_outage_leaves_its_step_to_a_successor(
    stage: Scene, server: Postgres
) -> None:
    run = stage.create("outage")
    told = log_of_worker(stage).count(COMPLAINT)
    with stage.worker(run, "execute") as first:
        until(lambda: run.events("outliving", BEGUN), "the step's start")
        with outage(server):
            until(lambda: log_of_worker(stage).count(COMPLAINT) > told, "the run worker's complaint")
            first.send_signal(signal.SIGTERM)
            first.wait(480)
    assert run.stored.status is dg.DagsterRunStatus.STARTED
    with stage.worker(run, "resume") as second:
        end_step(stage, run)
        assert second.wait(480) == 0
    assert run.stored.is_success
    assert launches_of(run) == ONCE


def test_run_fails_with_one_clear_error_where_the_outage_is_long(
    stage: Scene, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_retry, "OUTAGE_SECONDS", 1)
    run = stage.create("outage")
    try:
        with pytest.raises(
            DatabaseUnreachable, match=r"has not answered for 1 seconds: .*\. Next: restore the database"
        ):
            execute_and_stop(run, server)
    finally:
        server.start()
    assert stage.engine.observe(run.id) == {}
    # Dagster's daemon does this.
    stage.instance.report_run_failed(run.stored)
    stage.instance.event_log_storage.free_concurrency_slots_for_run(run.id)


def execute_and_stop(run: Run, server: Postgres) -> None:
    """Execute a run in this process and stop the server once its step has begun."""
    job = dg.reconstructable(process_jobs.outage)
    with dg.DagsterInstance.from_ref(run.instance.get_ref()) as instance:
        for happened in execute_run_iterator(job, run.stored, instance):
            if happened.step_key == "outliving" and happened.event_type is BEGUN:
                server.stop()


# --- one operation ---


def the_run(instance: dg.DagsterInstance) -> str:
    return instance.create_run_for_job(dg.reconstructable(process_jobs.once).get_definition()).run_id


def materialization() -> dg.DagsterEvent:
    made = dg.AssetMaterialization(KEY, tags={"dagster/data_version": "7"})
    data = StepMaterializationData(made)
    return dg.DagsterEvent(MATERIALIZED.value, "once", step_key="kept", event_specific_data=data)


def cut_once(
    instance: dg.DagsterInstance, moment: str, statement: str, also: Callable[[], None] = lambda: None
) -> None:
    """Make the server close the connection once, before or after a statement with this beginning."""
    engine = instance.event_log_storage._engine  # type: ignore[attr-defined]
    cuts: list[int] = []

    def cut(connection: Any, cursor: Any, given: str, *others: Any) -> None:
        if given.startswith(statement) and not cuts:
            cuts.append(cursor.connection.info.backend_pid)
            also()
            with engine.connect() as other:
                other.execute(text(f"SELECT pg_terminate_backend({cuts[0]}, 5000)"))

    event.listen(engine, f"{moment}_cursor_execute", cut)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    "statement", ["INSERT INTO event_logs", "NOTIFY", "INSERT INTO asset_event_tags", "INSERT INTO asset_keys"]
)
def test_event_is_written_once_and_whole_wherever_its_connection_breaks(
    instance: dg.DagsterInstance, stage: Scene, moment: str, statement: str
) -> None:
    run = the_run(instance)
    cut_once(instance, moment, statement)
    instance.report_dagster_event(materialization(), run)
    (record,) = stage.instance.get_records_for_run(run, of_type=MATERIALIZED).records
    latest = stage.instance.get_latest_materialization_event(KEY)
    assert latest is not None
    assert latest.run_id == run
    tags = stage.instance.event_log_storage.get_event_tags_for_asset(KEY, filter_event_id=record.storage_id)
    assert tags == [{"dagster/data_version": "7"}]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_slot_is_claimed_and_freed_once_wherever_the_connection_breaks(
    instance: dg.DagsterInstance, stage: Scene, moment: str
) -> None:
    run = stage.instance.get_run_by_id(the_run(instance))
    assert run is not None
    slots = PoolSlots(instance, run, {"narrow": process_jobs.POOLS["narrow"]})
    counted = stage.instance.event_log_storage
    for statement in ("INSERT INTO pending_steps", "UPDATE concurrency_slots"):
        cut_once(instance, moment, statement)
    assert slots.claim(["narrow"], "a", 0) is None
    assert counted.get_concurrency_info("narrow").active_slot_count == 1
    cut_once(instance, moment, "UPDATE concurrency_slots")
    slots.free("a")
    limits = counted.get_concurrency_info("narrow")
    assert (limits.active_slot_count, limits.pending_step_count) == (0, 0)


def test_launch_that_was_given_up_in_the_outage_records_nothing_final(
    stage: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = dg.reconstructable(process_jobs.once)
    created = stage.instance.create_run_for_job(
        origin.get_definition(), job_code_origin=origin.get_python_origin(), status=dg.DagsterRunStatus.STARTED
    )
    run = Run(stage.instance, created.run_id)

    def launch_again() -> None:
        facts = {PLACEMENT_METADATA: dg.MetadataValue.json(placement(number=1).model_dump(mode="json"))}
        data = EngineEventData(facts)
        stage.instance.report_dagster_event(
            dg.DagsterEvent(START.value, "once", step_key=STEP, event_specific_data=data), run.id
        )

    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(step_process.os, "_exit", leave)  # it would end pytest's process
    opened = step_process.retry_database_operations

    def retry(instance: dg.DagsterInstance) -> None:
        opened(instance)
        cut_at_materialization(instance, launch_again)

    monkeypatch.setattr(step_process, "retry_database_operations", retry)
    with pytest.raises(SystemExit) as ended:
        execute(run, number=0)
    assert ended.value.code == REPLACED_EXIT
    assert len(run.placements(STEP)) == 1
    assert run.events(STEP, MATERIALIZED) == []


def cut_at_materialization(instance: dg.DagsterInstance, also: Callable[[], None]) -> None:
    """Cut the connection immediately before the materialization is written."""
    store = instance.event_log_storage.store_event

    def store_event(entry: Any) -> None:
        if entry.dagster_event_type is MATERIALIZED:
            cut_once(instance, "before", "INSERT INTO event_logs", also)
        store(entry)

    vars(instance.event_log_storage)["store_event"] = store_event


def test_what_is_no_outage_is_raised_at_once(instance: dg.DagsterInstance) -> None:
    with pytest.raises(Exception, match="LIMIT must not be negative"):
        instance.event_log_storage.get_records_for_run("some", limit=-1)


def test_database_that_never_answers_is_named_with_what_to_do() -> None:
    engine = create_engine("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnreachable, match=r"has not answered for 0 seconds: .*[Cc]onnection .*refused"):
        call_with_retries(engine.connect, 0)


def test_database_in_a_file_is_left_alone(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as found:
        retry_database_operations(found)
        assert not [name for name in vars(found.event_log_storage) if re.match("store|get|fetch", name)]

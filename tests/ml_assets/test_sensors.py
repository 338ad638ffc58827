import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorStatus, ScheduleInstigatorData, TickData
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from ml_assets.artifacts.io_manager import STORAGE_KEY, ArtifactStorage
from ml_assets.dagster_internals import InstigatorState, InstigatorType, SerializableErrorInfo, TickStatus
from ml_assets.resources.alerts import Alerts
from ml_assets.resources.errors import AlertError, InputError
from ml_assets.resources.tracking.store import open_store
from ml_assets.resources.tracking.tags import RunTags
from ml_assets.sensors import alert_on_failed_tick, alert_on_failure, close_abandoned_runs, step_has_ended

NIGHT = datetime(2026, 6, 2, 7, 15, tzinfo=UTC)


class Told(Alerts):
    """Stores the alerts that it receives; `broken` alerts cannot be delivered."""

    broken: bool = False

    def send(self, text: str, details: Mapping[str, object]) -> list[str]:
        if self.broken:
            raise AlertError("not delivered", next_step="repair it")
        TOLD.append((text, dict(details)))
        return ["test"]


TOLD: list[tuple[str, dict[str, object]]] = []


@pytest.fixture(autouse=True)
def _nothing_told() -> None:
    TOLD.clear()


def tags_of(run_id: str, step: str) -> dict[str, str]:
    return {RunTags.DAGSTER_RUN: run_id, RunTags.DAGSTER_STEP: step}


@dg.op
def begins(context: dg.OpExecutionContext) -> None:
    """Query this op's own state while it runs."""
    assert not step_has_ended(context.instance, tags_of(context.run.run_id, "begins"))


@dg.op(ins={"after": dg.In(dg.Nothing)})
def asks(context: dg.OpExecutionContext) -> None:
    """Query the state of the previous step, in a run that continues."""
    assert step_has_ended(context.instance, tags_of(context.run.run_id, "begins"))
    assert not step_has_ended(context.instance, tags_of(context.run.run_id, "fails"))


@dg.op
def fails() -> None:
    raise InputError("there is no input", next_step="deliver it", asset="flights")


@dg.op(ins={"after": dg.In(dg.Nothing)}, retry_policy=dg.RetryPolicy(max_retries=1))
def tries_again(context: dg.OpExecutionContext) -> None:
    if context.retry_number == 0:
        raise ValueError("once more")
    assert not step_has_ended(context.instance, tags_of(context.run.run_id, "tries_again"))


@dg.job(executor_def=dg.in_process_executor)
def succeeding() -> None:
    tries_again(asks(begins()))


@dg.job
def failing() -> None:
    fails()


def test_a_step_that_began_or_waits_for_its_retry_has_not_ended(instance: dg.DagsterInstance) -> None:
    result = succeeding.execute_in_process(instance=instance)
    assert result.success
    assert step_has_ended(instance, tags_of(result.run_id, "tries_again"))


def test_a_failed_step_has_ended_though_its_run_goes_on(instance: dg.DagsterInstance) -> None:
    run_id = failing.execute_in_process(instance=instance, raise_on_error=False).run_id
    run_storage: Any = instance.run_storage
    started = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, "failing")
    run_storage.handle_run_event(run_id, started, datetime.now(UTC))
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert not run.is_finished
    assert step_has_ended(instance, tags_of(run_id, "fails"))
    assert not step_has_ended(instance, tags_of(run_id, "another"))


def test_every_step_of_a_finished_run_has_ended(instance: dg.DagsterInstance) -> None:
    run_id = failing.execute_in_process(instance=instance, raise_on_error=False).run_id
    assert step_has_ended(instance, tags_of(run_id, "never_begun"))


def test_a_run_of_another_instance_is_not_judged(instance: dg.DagsterInstance) -> None:
    assert not step_has_ended(instance, tags_of("11112222-0000-0000-0000-000000000000", "train"))


def test_only_runs_whose_step_has_ended_are_closed(storage: ArtifactStorage, instance: dg.DagsterInstance) -> None:
    client, experiment = open_store(storage.tracking.tracking_uri, storage.tracking.experiment, None)
    dead = failing.execute_in_process(instance=instance, raise_on_error=False).run_id
    closed, left = (
        client.create_run(experiment, tags=tags_of(run_id, "fails")).info.run_id
        for run_id in (dead, "of another instance")
    )
    with dg.build_sensor_context(instance=instance, resources={STORAGE_KEY: storage}) as context:
        skipped = close_abandoned_runs(context)
    assert skipped.skip_message == f"closed {closed}"  # type: ignore[union-attr]
    assert [client.get_run(found).info.status for found in (closed, left)] == ["KILLED", "RUNNING"]


def failure_of(instance: dg.DagsterInstance) -> dg.RunFailureSensorContext:
    result = failing.execute_in_process(
        instance=instance, raise_on_error=False, tags={"dagster/partition": "2013-03-01", "user": "ada"}
    )
    (event,) = [event for event in result.all_events if event.event_type == dg.DagsterEventType.RUN_FAILURE]
    return dg.build_run_status_sensor_context(
        sensor_name="ml_assets_alert_on_failure",
        dagster_run=result.dagster_run,
        dagster_event=event,
        dagster_instance=instance,
    ).for_run_failure()


def test_a_failed_run_is_told_with_its_cause_in_one_line(instance: dg.DagsterInstance) -> None:
    context = failure_of(instance)
    alert_on_failure(Told(), "http://dagster.example")(context)
    ((text, details),) = TOLD
    run = context.dagster_run.run_id
    assert text.startswith("Dagster run of failing for 2013-03-01 failed: fails: ")
    assert text.endswith("InputError: flights: there is no input. Next: deliver it.")
    assert "\n" not in text
    assert details["url"] == f"http://dagster.example/runs/{run}"
    assert details["launched_by"]["name"] == "ada"  # type: ignore[index]


def test_a_failed_run_is_told_without_link_if_the_ui_has_no_address(instance: dg.DagsterInstance) -> None:
    alert_on_failure(Told(), None)(failure_of(instance))
    assert TOLD[0][1]["url"] is None


def schedule_state(instance: dg.DagsterInstance, name: str) -> InstigatorState:
    origin = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="somewhere"))
    instigator = RemoteInstigatorOrigin(RemoteRepositoryOrigin(origin, "__repository__"), name)
    data = ScheduleInstigatorData("15 3 * * *", NIGHT.timestamp())
    return instance.add_instigator_state(
        InstigatorState(instigator, InstigatorType.SCHEDULE, InstigatorStatus.RUNNING, data)
    )


def tick(instance: dg.DagsterInstance, state: InstigatorState, status: TickStatus, error: str | None = None) -> None:
    instance.create_tick(
        TickData(
            instigator_origin_id=state.instigator_origin_id,
            instigator_name=state.instigator_name,
            instigator_type=InstigatorType.SCHEDULE,
            status=status,
            timestamp=NIGHT.timestamp(),
            selector_id=state.selector_id,
            error=SerializableErrorInfo(error, [], "InputError") if error else None,
            run_ids=[],
        )
    )


def watch_ticks(instance: dg.DagsterInstance, cursor: str | None, alerts: Alerts) -> str:
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    alert_on_failed_tick(alerts)(context)
    assert context.cursor is not None
    return context.cursor


def test_failed_ticks_of_another_code_location_are_left_to_its_own_sensor(instance: dg.DagsterInstance) -> None:
    state = schedule_state(instance, "nightly")
    own = state.origin.repository_origin.code_location_origin
    other = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="elsewhere"), location_name="other")
    sensor, cursors = alert_on_failed_tick(Told()), {}
    for message in ("old news", "new"):
        tick(instance, state, TickStatus.FAILURE, message)
        for location in (other, own):
            name = location.location_name
            context = dg.build_sensor_context(instance=instance, cursor=cursors.get(name))
            context._code_location_origin = location
            with context:
                sensor(context)
                cursors[name] = context.cursor
    assert len(TOLD) == 1


def test_a_failed_tick_is_told_once(instance: dg.DagsterInstance) -> None:
    state = schedule_state(instance, "nightly")
    tick(instance, state, TickStatus.FAILURE, "old news")
    cursor = watch_ticks(instance, None, Told())
    tick(instance, state, TickStatus.SUCCESS)
    tick(instance, state, TickStatus.FAILURE, "InputError: there is no landing directory\n  more")
    cursor = watch_ticks(instance, cursor, Told())
    watch_ticks(instance, cursor, Told())
    assert TOLD == [
        (
            "Dagster schedule nightly failed at its tick of 2026-06-02T07:15:00+00:00: "
            "InputError: there is no landing directory",
            {"schedule": "nightly", "tick": "2026-06-02T07:15:00+00:00"},
        )
    ]


def test_the_first_failed_tick_of_a_new_schedule_is_told(instance: dg.DagsterInstance) -> None:
    cursor = watch_ticks(instance, None, Told())
    assert json.loads(cursor) == {}
    tick(instance, schedule_state(instance, "nightly"), TickStatus.FAILURE, "broken")
    watch_ticks(instance, cursor, Told())
    assert len(TOLD) == 1


def test_a_failed_tick_is_told_again_if_the_alert_was_not_delivered(instance: dg.DagsterInstance) -> None:
    cursor = watch_ticks(instance, None, Told())
    tick(instance, schedule_state(instance, "nightly"), TickStatus.FAILURE, "broken")
    with pytest.raises(AlertError):
        watch_ticks(instance, cursor, Told(broken=True))
    watch_ticks(instance, cursor, Told())
    assert len(TOLD) == 1

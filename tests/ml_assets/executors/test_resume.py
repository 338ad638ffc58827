"""A run worker's successor resumes a real, interrupted run at the state that its events record."""

import signal
from collections.abc import Iterator, Sequence

import dagster as dg
import pytest
from dagster._core.execution.api import create_execution_plan

from ml_assets.dagster_internals import ActiveExecution, RetryMode
from ml_assets.executors.event_tail import launch_of_event
from ml_assets.executors.failures import REPLACED_EXIT
from ml_assets.executors.launches import Launches, LaunchState
from ml_assets.executors.resume import placement_of, resume_run
from tests.ml_assets.executors import process_jobs
from tests.ml_assets.executors.process_engine import UNREACHABLE
from tests.ml_assets.executors.runs import Run, Scene, scene, until
from tests.ml_assets.executors.sample_requests import RUN

START, STARTED = dg.DagsterEventType.STEP_WORKER_STARTING, dg.DagsterEventType.STEP_START
RESTARTED, SUCCESS = dg.DagsterEventType.STEP_RESTARTED, dg.DagsterEventType.STEP_SUCCESS
ENDS = (SUCCESS, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_UP_FOR_RETRY)
MORE_THAN_A_PAGE = 1000


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("resume")) as found:
        yield found


@pytest.fixture(scope="module")
def run(stage: Scene) -> Run:
    """A run of `process_jobs.resumed` with three workers: one killed, one asked to end, and one that completes it.

    While the third worker runs, the engine is unreachable for a while.
    """
    run = stage.create("resumed")

    def is_under_way() -> bool:
        return bool(
            run.events("holds_a_slot", STARTED)
            and run.events("waits_in_its_second_attempt", RESTARTED)
            and run.events("skipped_too", dg.DagsterEventType.STEP_SKIPPED)
            and run.succeeded("logs_much")
            and not any(name.startswith("step-logs-much") for name in stage.engine.observe(run.id))
        )

    with stage.worker(run, "execute") as first:
        until(is_under_way, "the run's middle")
        first.kill()
    with stage.worker(run, "resume") as second:
        until(lambda: any(text.startswith("Took over step-") for text in run.said(None)), "the taking over")
        second.send_signal(signal.SIGTERM)
        second.wait(480)
    with stage.worker(run, "resume") as third:
        until(lambda: len([text for text in run.said(None) if text.startswith("Took over ")]) == 2, "the taking over")
        (stage.engine.folder / UNREACHABLE).touch()
        until(lambda: any("Retrying; running steps continue" in text for text in run.said(None)), "the complaint")
        (stage.engine.folder / UNREACHABLE).unlink()
        (stage.home / "go").touch()
        third.wait(480)
    return run


def test_run_ends_well_under_its_third_worker_and_leaves_nothing(stage: Scene, run: Run) -> None:
    assert run.stored.is_success
    assert stage.engine.observe(run.id) == {}
    limits = stage.instance.event_log_storage.get_concurrency_info("narrow")
    assert (limits.active_slot_count, limits.pending_step_count) == (0, 0)


def test_steps_go_on_in_the_processes_that_they_had(run: Run) -> None:
    for step, launches in {"holds_a_slot": 1, "waits_in_its_second_attempt": 2, "wants_that_slot": 1}.items():
        assert len(run.placements(step)) == launches
        assert len(run.events(step, dg.DagsterEventType.STEP_WORKER_STARTED)) == launches
        assert run.succeeded(step)


def test_worker_that_is_asked_to_end_leaves_its_steps_to_a_successor(run: Run) -> None:
    (text,) = [text for text in run.said(None) if text.startswith("The run worker was asked to end. ")]
    assert "Steps left running for its successor: step-holds-a-slot" in text


def test_worker_that_was_given_up_for_lost_leaves_all_to_its_successor(stage: Scene) -> None:
    run = stage.create("resumed")
    (stage.home / "go").unlink(missing_ok=True)
    with stage.worker(run, "execute") as first:
        until(lambda: run.events("holds_a_slot", STARTED), "the step's start")
        with stage.worker(run, "resume") as second:
            assert first.wait(480) == REPLACED_EXIT
            (stage.home / "go").touch()
            assert second.wait(480) == 0
    assert run.stored.is_success
    assert len(run.placements("holds_a_slot")) == 1
    assert [text for text in run.said(None) if text.startswith("Another run worker has taken over ")]


def test_pool_limit_is_kept_across_workers(run: Run) -> None:
    ended = storage_id(run, "holds_a_slot", SUCCESS)
    assert storage_id(run, "wants_that_slot", START) > ended


def test_what_was_skipped_or_done_is_not_done_again(run: Run) -> None:
    assert len(run.records()) > MORE_THAN_A_PAGE
    assert len(run.events("logs_much", STARTED)) == len(run.events("yields_nothing", STARTED)) == 1
    for step in ("skipped", "skipped_too"):
        assert len(run.events(step, dg.DagsterEventType.STEP_SKIPPED)) == 1


def test_engine_that_does_not_answer_is_complained_of_once_and_loses_nothing(run: Run) -> None:
    complaints = [text for text in run.said(None) if "Retrying; running steps continue" in text]
    assert complaints == ["the engine does not answer. Next: wait. Retrying; running steps continue"]


def storage_id(run: Run, step: str, of_type: dg.DagsterEventType) -> int:
    (found,) = [
        record.storage_id
        for record in run.records()
        if (event := record.event_log_entry.dagster_event) and event.step_key == step and event.event_type is of_type
    ]
    return found


def resumed(records: Sequence[dg.EventLogRecord]) -> tuple[ActiveExecution, Launches]:
    plan = create_execution_plan(dg.reconstructable(process_jobs.resumed))
    active = ActiveExecution(plan, retry_mode=RetryMode.ENABLED)
    active._context_guard = True  # suppresses the complaint that it is not run to its end
    launches = Launches(RUN)
    resume_run(active, records, launches)
    return active, launches


def running(records: Sequence[dg.EventLogRecord]) -> dict[str, int]:
    """Return the steps whose last launch has not ended, by a simpler rule than that of `resume_run`."""
    found: dict[str, int] = {}
    for record in records:
        event = record.event_log_entry.dagster_event
        if event is None or event.step_key is None:
            continue
        placement = placement_of(event)
        if placement is not None:
            found[event.step_key] = placement.number
        elif event.event_type in ENDS:
            del found[event.step_key]
    return found


def test_worker_may_be_killed_after_any_event(stage: Scene, run: Run) -> None:
    records = [record for record in run.records() if record.event_log_entry.dagster_event is not None]
    complete = set(process_jobs.resumed.graph.node_dict)
    for count in range(len(records) + 1):
        active, launches = resumed(records[:count])
        open_launches = {launch.step.key: launch.placement.number for launch in launches.under_way()}
        assert open_launches == running(records[:count])
        # Every step has a state: the loop never waits for a lost step.
        assert active._in_flight == {launch.step.key for launch in launches if launch.is_open}
        list(active.get_steps_to_execute())
    assert active.is_complete
    assert active._success | active._skipped == complete


def test_launch_that_was_heard_of_is_told_from_one_that_was_only_ordered(stage: Scene, run: Run) -> None:
    records = run.records()
    ordered = next(at for at, record in enumerate(records) if is_launch_of(record, "holds_a_slot"))
    heard = next(
        at
        for at, record in enumerate(records)
        if (event := record.event_log_entry.dagster_event)
        and event.step_key == "holds_a_slot"
        and launch_of_event(event) == 0
    )
    before = resumed(records[: ordered + 1])[1].open("holds_a_slot")
    after = resumed(records[: heard + 1])[1].open("holds_a_slot")
    assert before is not None
    assert after is not None
    assert before.state is LaunchState.ORDERED
    assert after.state is LaunchState.RUNNING
    assert after.ordered_at == records[ordered].event_log_entry.timestamp


def is_launch_of(record: dg.EventLogRecord, step: str) -> bool:
    event = record.event_log_entry.dagster_event
    return event is not None and event.step_key == step and event.event_type is START


def test_delay_of_a_retry_goes_on_under_the_successor(stage: Scene, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    step = "waits_in_its_second_attempt"
    records = run.records()
    asked = next(
        record
        for record in records
        if (event := record.event_log_entry.dagster_event)
        and event.step_key == step
        and event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY
    )
    before_launch = records[: records.index(asked) + 1]
    monkeypatch.setattr("ml_assets.executors.resume.time.time", lambda: asked.event_log_entry.timestamp + 0.1)
    active, launches = resumed(before_launch)
    assert launches.open(step) is None
    assert active.retry_state.get_attempt_count(step) == 1
    monkeypatch.setattr("ml_assets.executors.resume.time.time", lambda: asked.event_log_entry.timestamp + 0.6)
    again = resumed(before_launch)[1].open(step)
    assert again is not None
    assert again.state is LaunchState.WAITING
    assert again.number == 1


def test_slot_of_a_step_that_had_just_ended_is_freed_by_the_successor(stage: Scene) -> None:
    run = stage.create("lingering")
    with stage.worker(run, "execute") as first:
        until(lambda: run.succeeded("lingers"), "the success")
        first.kill()
    with stage.worker(run, "resume"):
        until(lambda: any(text.startswith("No step was running") for text in run.said(None)), "the taking over")
        (stage.home / "leave").touch()
        until(lambda: run.placements("wants_that_slot"), "the next step's launch")

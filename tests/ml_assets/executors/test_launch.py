"""The whole loop on an engine of plain processes: the outcomes of steps in every situation."""

import json
import signal
from collections.abc import Iterator
from itertools import pairwise

import dagster as dg
import pytest

from ml_assets.resources.provenance import LAUNCH_TIMES_METADATA, OVERRIDES_TAG
from ml_assets.resources.usage import LaunchTimes
from tests.ml_assets.executors import process_jobs
from tests.ml_assets.executors.runs import Run, Scene, scene, until

START, END = (
    dg.DagsterEventType.STEP_WORKER_STARTING,
    (
        dg.DagsterEventType.STEP_SUCCESS,
        dg.DagsterEventType.STEP_FAILURE,
        dg.DagsterEventType.STEP_UP_FOR_RETRY,
    ),
)
SUCCEEDING = (
    "succeeds",
    "fails_once",
    "delays_itself",
    "preempted",
    "asked_to_end",
    "unschedulable",
    "unchecked_accelerator",
    "narrow_one",
    "narrow_two",
    "yields_nothing",
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("launch")) as found:
        yield found


@pytest.fixture(scope="module")
def run(stage: Scene) -> Run:
    """A completed run of `process_jobs.everything`."""
    return stage.execute(
        "everything",
        config={
            "max_concurrent": 6,
            "tag_concurrency_limits": [{"key": process_jobs.TAG, "value": "one", "limit": 1}],
            "overrides": {"succeeds": {"memory": "3Gi"}},
        },
        tags={OVERRIDES_TAG: json.dumps({"succeeds": {"pool": "big", "memory": "2Gi"}, "refuses": {"cpus": 2}})},
    )


def test_run_fails_because_steps_failed_and_nothing_is_left_of_it(stage: Scene, run: Run) -> None:
    assert run.stored.status is dg.DagsterRunStatus.FAILURE
    assert stage.engine.observe(run.id) == {}
    limits = stage.instance.event_log_storage.get_concurrency_info("narrow")
    assert (limits.slot_count, limits.active_slot_count, limits.pending_step_count) == (1, 0, 0)


@pytest.mark.parametrize("step", SUCCEEDING)
def test_step_succeeds_whatever_its_first_containers_met_with(run: Run, step: str) -> None:
    assert run.succeeded(step)


def test_override_at_launch_goes_before_that_of_the_runs_tag(run: Run) -> None:
    (placement,) = run.placements("succeeds")
    assert (placement.pool, placement.cpus, placement.memory) == ("big", 2, "3Gi")


def test_override_that_no_step_matches_is_told_with_what_may_be_meant(run: Run) -> None:
    assert "Overrides that match no step of this run: refuses (did you mean refused?)" in run.said(None)


def test_step_knows_where_it_runs(run: Run) -> None:
    (said,) = [
        record.event_log_entry.user_message
        for record in run.records()
        if record.event_log_entry.user_message.startswith("placed: ")
    ]
    assert said == f"placed: {run.placements('succeeds')[0].model_dump_json()}"


def test_how_a_container_came_up_is_written_once_for_each_launch(run: Run) -> None:
    events = run.events("fails_once", dg.DagsterEventType.ENGINE_EVENT)
    written = [event.engine_event_data.metadata.get(LAUNCH_TIMES_METADATA) for event in events]
    first, second = [LaunchTimes.model_validate(entry.value) for entry in written if entry is not None]
    assert (first.number, second.number) == (0, 1)
    assert first.started_at is not None
    assert first.ordered_at <= first.started_at <= second.ordered_at
    assert first.pull_seconds == 0.0


def test_retry_of_the_author_is_a_new_attempt_in_a_new_container(run: Run) -> None:
    assert [placement.number for placement in run.placements("fails_once")] == [0, 1]
    assert len(run.events("fails_once", dg.DagsterEventType.STEP_UP_FOR_RETRY)) == 1


def test_delay_that_the_author_asks_for_is_kept(run: Run) -> None:
    (asked,) = [each for each in run.records() if is_of(each, "delays_itself", dg.DagsterEventType.STEP_UP_FOR_RETRY)]
    first, again = [each for each in run.records() if is_of(each, "delays_itself", START)]
    assert again.event_log_entry.timestamp - asked.event_log_entry.timestamp >= 0.5
    assert first.storage_id < asked.storage_id < again.storage_id


def is_of(record: object, step: str, of_type: dg.DagsterEventType) -> bool:
    event = record.event_log_entry.dagster_event  # type: ignore[attr-defined]
    return event is not None and event.step_key == step and event.event_type is of_type


def test_crash_counts_as_an_attempt_and_shows_signal_and_log(run: Run) -> None:
    (retry,) = run.events("crashes", dg.DagsterEventType.STEP_UP_FOR_RETRY)
    text = run.failure("crashes")
    assert retry.step_retry_data.error is not None
    for message in (retry.step_retry_data.error.message, text):
        assert message.startswith("crashed: exit status 139 (SIGSEGV). Next: read the last lines of the log")
        assert "  about to crash" in message
    (failure,) = run.events("crashes", dg.DagsterEventType.STEP_FAILURE)
    user_failure = failure.step_failure_data.user_failure_data
    assert user_failure is not None
    assert user_failure.metadata["cause"] == dg.MetadataValue.text("crashed")
    assert "last lines of the log" in user_failure.metadata


def test_step_after_a_failed_one_is_not_launched(run: Run) -> None:
    assert run.placements("after_crash") == []


def test_end_without_a_word_is_told_from_success(run: Run) -> None:
    assert run.failure("says_nothing").startswith("ended without a word: the process exited with status 0")


def test_step_out_of_memory_gets_more_up_to_the_pools_cap(run: Run) -> None:
    assert [placement.memory for placement in run.placements("eats_all_memory")] == ["1Gi", "1536Mi"]
    assert any(
        text.startswith("Relaunching with 1536Mi of memory instead of 1Gi: out of")
        for text in run.said("eats_all_memory")
    )
    assert run.failure("eats_all_memory").startswith("out of memory: ")


def test_preempted_step_goes_to_the_fallback_pool_and_uses_up_no_attempt(run: Run) -> None:
    placements = run.placements("preempted")
    assert [(each.number, each.pool, each.interruptions) for each in placements] == [
        (0, "spot", 0),
        (1, "spot", 1),
        (2, "cpu", 0),
    ]
    assert run.events("preempted", dg.DagsterEventType.STEP_UP_FOR_RETRY) == []


def test_process_that_is_asked_to_end_is_run_again_and_no_failure_of_the_author(run: Run) -> None:
    assert [placement.interruptions for placement in run.placements("asked_to_end")] == [0, 1]
    assert run.events("asked_to_end", dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_UP_FOR_RETRY) == []


def test_step_that_finds_no_room_goes_on_on_the_fallback_pool(run: Run) -> None:
    assert [placement.pool for placement in run.placements("unschedulable")] == ["crowded", "cpu"]
    assert any("is waiting (at most 1 seconds): no node has its labels" in text for text in run.said("unschedulable"))


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("never_scheduled", "unschedulable: not started within 1 seconds: no node has its labels. Next: compare"),
        ("refused", "configuration: it will not have this image. Next: check"),
        ("misplaced", "misplaced: pool 'nowhere' does not exist. Next: name a pool of settings.toml: big, cpu,"),
        ("without_accelerator", "without_accelerator: pool gpu promises 1 accelerators, but the container has none"),
        ("needs_what_is_broken", "ValueError: this resource is broken"),
    ],
)
def test_step_that_cannot_run_fails_once_with_its_cause(run: Run, step: str, expected: str) -> None:
    message = run.failure(step)
    assert expected in message
    assert run.events(step, dg.DagsterEventType.STEP_START) == []
    assert len(run.placements(step)) <= 1


def test_step_in_another_image_is_ended_as_soon_as_the_runtime_tells(run: Run) -> None:
    """The runtime reports the image after the container has begun, possibly after the function has begun."""
    message = run.failure("wrong_image")
    assert f"wrong image: requested {process_jobs.MOVED}, but the runtime runs registry.example/other@" in message
    assert run.events("wrong_image", dg.DagsterEventType.STEP_OUTPUT, dg.DagsterEventType.STEP_SUCCESS) == []
    assert len(run.placements("wrong_image")) == 1


def test_step_that_had_ended_in_another_image_by_then_has_failed_all_the_same(run: Run) -> None:
    assert "wrong image: requested" in run.failure("short_in_wrong_image")
    assert len(run.placements("short_in_wrong_image")) == 1
    assert run.placements("after_wrong_image") == []


def test_step_that_takes_too_long_fails_once_with_its_cause(run: Run) -> None:
    assert run.failure("takes_too_long").startswith(
        "run time limit: still running after 1 seconds. Next: raise run_seconds"
    )
    assert len(run.placements("takes_too_long")) == 1


def test_output_that_never_came_skips_what_needs_it(run: Run) -> None:
    for step in ("skipped", "skipped_too"):
        assert len(run.events(step, dg.DagsterEventType.STEP_SKIPPED)) == 1
        assert run.placements(step) == []


@pytest.mark.parametrize("steps", [("narrow_one", "narrow_two"), ("fails_once", "delays_itself")])
def test_limits_of_pools_and_tags_hold(run: Run, steps: tuple[str, str]) -> None:
    busy = 0
    for record in run.records():
        event = record.event_log_entry.dagster_event
        if event is not None and event.step_key in steps:
            busy += (event.event_type is START) - (event.event_type in END)
            assert busy <= 1


def test_limit_of_the_run_holds(run: Run) -> None:
    busy, most = set(), 0
    for record in run.records():
        event = record.event_log_entry.dagster_event
        if event is not None and event.event_type is START:
            busy.add(event.step_key)
        if event is not None and (event.event_type in END or is_relaunch(event)):
            busy.discard(event.step_key)
        most = max(most, len(busy))
    assert 2 <= most <= 6


def is_relaunch(event: dg.DagsterEvent) -> bool:
    return bool(event.step_key) and (event.message or "").startswith("Relaunching")


def test_attempts_of_a_step_never_overlap(run: Run) -> None:
    for step in (*SUCCEEDING, "crashes", "eats_all_memory"):
        numbers = [placement.number for placement in run.placements(step)]
        assert all(later == earlier + 1 for earlier, later in pairwise(numbers))


def test_dynamic_outputs_of_a_deleted_container_are_forgotten(stage: Scene) -> None:
    run = stage.execute("split")
    assert run.stored.is_success
    assert [placement.number for placement in run.placements("splits")] == [0, 1]
    said = [record.event_log_entry.user_message for record in run.records()]
    assert [text for text in said if text.startswith("sum: ")] == ["sum: 6"]


def test_run_with_a_secret_in_its_config_launches_nothing(stage: Scene) -> None:
    run = stage.execute("with_password", ops={"connects": {"config": {"password": "hunter2"}}})
    assert run.stored.status is dg.DagsterRunStatus.FAILURE
    assert run.placements("connects") == []
    written = [record.event_log_entry.to_json() for record in run.records()]
    assert any("the run config contains a secret in ops.connects.config.password" in text for text in written)


def test_canceled_run_leaves_no_container_behind(stage: Scene) -> None:
    run = stage.create("waiting")
    with stage.worker(run, "execute") as worker:
        until((stage.home / "waits").exists, "the step's start")
        stage.instance.report_run_canceling(run.stored)
        worker.send_signal(signal.SIGTERM)
        worker.wait(480)
    assert run.stored.status is dg.DagsterRunStatus.CANCELED
    assert stage.engine.observe(run.id) == {}

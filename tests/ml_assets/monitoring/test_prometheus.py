"""Metrics of real instances, as a scrape returns them."""

import socket
import threading
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from prometheus_client.parser import text_string_to_metric_families

from ml_assets.dagster_internals import (
    SCHEDULE_NAME_TAG,
    EngineEventData,
    RemoteJobOrigin,
    SerializableErrorInfo,
    StepFailureData,
    UserFailureData,
)
from ml_assets.datasets import dataset
from ml_assets.executors.failures import FailureCause
from ml_assets.monitoring.prometheus import DagsterCollector, serve
from ml_assets.monitoring.steps import StepCounts
from ml_assets.placement import placed
from ml_assets.resources.errors import SettingsError
from tests.ml_assets.artifacts.test_meter import PLACEMENT
from tests.ml_assets.test_sensors import schedule_state
from tests.ports import free_port


@dataset()
def frame() -> pd.DataFrame:
    return pd.DataFrame({"x": [1.0]})


@dg.op
def fails() -> None:
    raise ValueError("as it should")


@dg.job
def failing() -> None:
    fails()


def scraped(collector: DagsterCollector) -> dict[tuple[str, ...], float]:
    """Return the values by name and labels."""
    found = {}
    for family in collector.collect():
        for sample in family.samples:
            found[(sample.name.removeprefix("ml_assets_"), *sample.labels.values())] = sample.value
    return found


def test_runs_and_ends_of_steps_are_counted_once(instance: dg.DagsterInstance, resources: dict[str, Any]) -> None:
    failing.execute_in_process(instance=instance, raise_on_error=False)
    collector = DagsterCollector(instance)
    assert scraped(collector)[("step_ends_total", "failure")] == 0, "what was before does not count"
    failing.execute_in_process(instance=instance, raise_on_error=False)
    dg.materialize([frame], instance=instance, resources=resources)
    for found in (scraped(collector), scraped(collector)):
        assert found[("up",)] == 1
        assert (found[("runs", "failure")], found[("runs", "success")]) == (2, 1)
        assert (found[("step_ends_total", "failure")], found[("step_ends_total", "success")]) == (1, 1)
        assert found[("step_failures_total", "error")] == 1
        assert [value for key, value in found.items() if key[0] == "steps_running"] == []


def test_a_run_that_is_touched_long_after_its_end_is_not_counted_again(instance: dg.DagsterInstance) -> None:
    steps = StepCounts(instance, datetime.now(UTC))
    result = failing.execute_in_process(instance=instance, raise_on_error=False)
    steps.update()
    steps.looked = datetime.now(UTC) + timedelta(days=1)
    steps.update()
    instance.add_run_tags(result.run_id, {"touched": "yes"})
    steps.looked = steps.since
    steps.update()
    assert steps.ends["failure"] == 1


def test_usage_and_cost_are_those_of_materializations(instance: dg.DagsterInstance, resources: dict[str, Any]) -> None:
    collector = DagsterCollector(instance)
    with placed(PLACEMENT):
        for _ in range(2):
            dg.materialize([frame], instance=instance, resources=resources)
    found = scraped(collector)
    assert found[("asset_memory_asked_bytes", "frame")] == 4 * 2**30
    assert found[("asset_memory_needed_bytes", "frame")] > 2**20
    assert found[("asset_cost_total", "frame", "gpu")] > 0
    assert ("asset_gpu_utilization_ratio", "frame") not in found


def report(instance: dg.DagsterInstance, run: dg.DagsterRun, kind: dg.DagsterEventType, data: Any) -> None:
    event = dg.DagsterEvent(kind.value, run.job_name, step_key="fails", event_specific_data=data)
    instance.report_dagster_event(event, run.run_id)


def test_causes_are_told_apart_and_begin_at_zero(instance: dg.DagsterInstance) -> None:
    collector = DagsterCollector(instance)
    before = scraped(collector)
    for name in ("step_failures_total", "step_restarts_total"):
        assert {before[(name, cause.value)] for cause in FailureCause} == {0}
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    cause = {"cause": dg.MetadataValue.text(FailureCause.PREEMPTED.value)}
    report(instance, run, dg.DagsterEventType.ENGINE_EVENT, EngineEventData(metadata=cause))
    error = SerializableErrorInfo("it was killed", [], FailureCause.OUT_OF_MEMORY.name)
    label = UserFailureData(FailureCause.OUT_OF_MEMORY.value, None, {})
    report(instance, run, dg.DagsterEventType.STEP_FAILURE, StepFailureData(error, label))
    found = scraped(collector)
    assert found[("step_restarts_total", "preempted")] == 1
    assert found[("step_failures_total", "out of memory")] == 1
    assert found[("step_failures_total", "error")] == 0


def test_queue_and_pools_show_what_waits(instance: dg.DagsterInstance) -> None:
    place = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="somewhere"))
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(place, "__repository__"), "job")
    create_run_for_test(instance, status=dg.DagsterRunStatus.QUEUED, remote_job_origin=origin)
    storage = instance.event_log_storage
    storage.set_concurrency_slots("gpu", 1)
    storage.claim_concurrency_slot("gpu", "a run", "first")
    storage.claim_concurrency_slot("gpu", "a run", "second")
    found = scraped(DagsterCollector(instance))
    assert found[("runs", "queued")] == 1
    assert found[("queue_oldest_seconds",)] >= 0
    names = ("pool_slots", "pool_slots_claimed", "pool_steps_waiting")
    assert [found[(name, "gpu")] for name in names] == [1, 1, 1]


def test_a_schedule_shows_its_last_run_and_its_last_success(instance: dg.DagsterInstance) -> None:
    schedule_state(instance, "nightly")
    collector = DagsterCollector(instance)
    assert ("schedule_last_run_failed", "nightly") not in scraped(collector)
    tags = {SCHEDULE_NAME_TAG: "nightly"}
    create_run_for_test(instance, status=dg.DagsterRunStatus.SUCCESS, tags=tags)
    found = scraped(collector)
    assert found[("schedule_last_run_failed", "nightly")] == 0
    assert found[("schedule_last_success_timestamp_seconds", "nightly")] > 0
    create_run_for_test(instance, status=dg.DagsterRunStatus.FAILURE, tags=tags)
    create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, tags=tags)
    assert scraped(collector)[("schedule_last_run_failed", "nightly")] == 1


def test_a_database_that_cannot_be_read_is_told(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(*_: Any) -> None:
        raise ConnectionError("gone")

    collector = DagsterCollector(instance)
    monkeypatch.setattr(instance, "get_runs_count", gone)
    assert scraped(collector) == {("up",): 0}
    assert "cannot read" in caplog.text


def test_a_scrape_is_answered_over_http(instance: dg.DagsterInstance) -> None:
    said: list[str] = []
    told = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        told.set()

    threading.Thread(target=serve, args=(DagsterCollector(instance), "127.0.0.1", 0, say), daemon=True).start()
    assert told.wait(480)
    address = said[0].split()[1]
    with urllib.request.urlopen(address, timeout=480) as answer:
        families = {family.name for family in text_string_to_metric_families(answer.read().decode())}
    assert {"ml_assets_up", "ml_assets_runs", "ml_assets_step_failures"} <= families


def test_an_address_that_is_taken_is_told(instance: dg.DagsterInstance) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(SettingsError, match="cannot bind"):
        serve(DagsterCollector(instance), "127.0.0.1", port, lambda _: None)

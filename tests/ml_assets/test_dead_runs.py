"""Runs whose process was killed are failed, and no others."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import dagster as dg
import pytest

from ml_assets.dagster_internals import EngineEventData
from ml_assets.dead_runs import dead_runs, fail_dead_runs
from ml_assets.resources.machine.process_identity import ProcessIdentity
from ml_assets.resources.provenance import PROCESS_TAG

HERE = ProcessIdentity.current()
GONE = replace(HERE, started="1")
ELSEWHERE = replace(HERE, host="another", pid=1, started="1")


@dg.job
def nothing() -> None:
    """Do nothing."""


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def started(instance: dg.DagsterInstance, process: ProcessIdentity | str | None) -> str:
    tags = {PROCESS_TAG: str(process)} if process else {}
    run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED, tags=tags)
    return run.run_id


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run
    return run.status


def test_only_a_run_whose_process_is_certainly_gone_is_failed(instance: dg.DagsterInstance) -> None:
    others = [started(instance, process) for process in (HERE, ELSEWHERE, None, "nonsense")]
    gone = started(instance, GONE)
    assert [run.run_id for run in dead_runs(instance)] == [gone]
    assert status(instance, gone) is dg.DagsterRunStatus.STARTED
    assert fail_dead_runs(instance) == [gone]
    assert status(instance, gone) is dg.DagsterRunStatus.FAILURE
    assert {status(instance, run) for run in others} == {dg.DagsterRunStatus.STARTED}
    assert fail_dead_runs(instance) == []


def test_run_with_a_living_step_is_not_dead(instance: dg.DagsterInstance) -> None:
    step = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    run_id = started(instance, GONE)
    instance.report_dagster_event(
        dg.DagsterEvent(
            dg.DagsterEventType.STEP_WORKER_STARTED.value,
            "nothing",
            step_key="step",
            event_specific_data=EngineEventData({"pid": dg.MetadataValue.text(str(step.pid))}),
        ),
        run_id,
    )
    assert dead_runs(instance) == []
    step.kill()
    step.communicate()
    assert fail_dead_runs(instance) == [run_id]

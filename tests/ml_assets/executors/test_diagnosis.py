"""Reasons for giving up a container. `test_launch` tests the messages and everything around them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ml_assets.executors import diagnosis
from ml_assets.executors.diagnosis import Diagnostics
from ml_assets.executors.engine import ContainerEngine, ContainerRequest, ContainerState, ContainerStatus
from ml_assets.executors.failures import Failure, FailureCause
from ml_assets.executors.launches import ContainerLaunch, LaunchState
from ml_assets.executors.placement import PlacementRules
from ml_assets.placement import Placement
from ml_assets.resources.pools import Pool
from ml_assets.resources.sections import ContainerSettings
from tests.ml_assets.executors.sample_requests import IMAGE

ORDERED = 1000.0
NONE: Any = None
"""Context of a step: nothing is reported in these tests."""


class GoneEngine(ContainerEngine):
    """A fake that only stores why a container is gone."""

    name, noun = "Memory", "container"
    reason: Failure | None = None

    def pull_seconds(self, name: str) -> float | None:
        raise NotImplementedError

    def why_gone(self, name: str) -> Failure | None:
        return self.reason

    def start(self, request: ContainerRequest) -> None:
        raise NotImplementedError

    def observe(self, run_id: str) -> Mapping[str, ContainerStatus]:
        raise NotImplementedError

    def evidence(self, name: str, lines: int) -> tuple[Sequence[str], Sequence[str]]:
        raise NotImplementedError

    def stop(self, name: str) -> bool:
        raise NotImplementedError

    def remove(self, name: str, *, succeeded: bool) -> None:
        raise NotImplementedError

    def all_runs(self) -> Mapping[str, Sequence[str]]:
        raise NotImplementedError


@pytest.fixture
def diagnostics() -> Diagnostics:
    rules = PlacementRules(ContainerSettings(), {"cpu": Pool(pending_seconds=60)})
    return Diagnostics(GoneEngine(), rules, image_ran=lambda image_id, placement: None)


def launched(*, limit: int | None = None, state: LaunchState = LaunchState.ORDERED) -> ContainerLaunch:
    placement = Placement(step="s", image=IMAGE, pool="cpu", cpus=1, memory="1Gi", run_seconds=limit)
    return ContainerLaunch(NONE, 0, "step-s-0", state, where=placement, ordered_at=ORDERED)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [ORDERED]
    monkeypatch.setattr(diagnosis.time, "time", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("unschedulable", "cause"), [(True, FailureCause.UNSCHEDULABLE), (False, FailureCause.NOT_STARTED)]
)
def test_pending_container_has_a_deadline(
    diagnostics: Diagnostics, clock: list[float], unschedulable: bool, cause: FailureCause
) -> None:
    seen, one = ContainerStatus(ContainerState.PENDING, unschedulable=unschedulable), launched()
    clock[0] += 60
    assert diagnostics.diagnose(one, seen, NONE) is None
    clock[0] += 1
    assert diagnostics.diagnose(one, seen, NONE) == Failure(cause, "not started within 60 seconds")


def test_run_time_counts_from_the_start_of_the_process(diagnostics: Diagnostics, clock: list[float]) -> None:
    seen, one = ContainerStatus(ContainerState.RUNNING, started_at=ORDERED + 500), launched(limit=100)
    clock[0] += 600
    assert diagnostics.diagnose(one, seen, NONE) is None
    clock[0] += 1
    assert diagnostics.diagnose(one, seen, NONE) == Failure(FailureCause.DEADLINE, "still running after 100 seconds")


def test_running_container_without_a_limit_may_go_on(diagnostics: Diagnostics, clock: list[float]) -> None:
    clock[0] += 10**7
    assert diagnostics.diagnose(launched(), ContainerStatus(ContainerState.RUNNING), NONE) is None


def test_end_without_an_event_is_silent(diagnostics: Diagnostics, clock: list[float]) -> None:
    found = diagnostics.diagnose(launched(), ContainerStatus(ContainerState.SUCCEEDED), NONE)
    assert found is not None
    assert found.cause is FailureCause.SILENT


def test_what_the_engine_says_is_taken_over(diagnostics: Diagnostics, clock: list[float]) -> None:
    failure = Failure(FailureCause.EVICTED, "the node was low on memory")
    assert diagnostics.diagnose(launched(), ContainerStatus(ContainerState.FAILED, failure=failure), NONE) is failure
    hopeless = Failure(FailureCause.IMAGE_PULL, "not found")
    assert diagnostics.diagnose(launched(), ContainerStatus(ContainerState.PENDING, failure=hopeless), NONE) is hopeless


def test_container_that_is_gone_is_asked_after(
    diagnostics: Diagnostics, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert diagnostics.diagnose(launched(state=LaunchState.ACCEPTED), None, NONE) is None
    preempted = Failure(FailureCause.PREEMPTED, "for another")
    monkeypatch.setattr(diagnostics.engine, "reason", preempted)
    assert diagnostics.diagnose(launched(state=LaunchState.ACCEPTED), None, NONE) is preempted


def test_another_process_under_the_same_name_is_not_ours(diagnostics: Diagnostics, clock: list[float]) -> None:
    one = launched()
    assert diagnostics.diagnose(one, ContainerStatus(ContainerState.RUNNING, identity="first"), NONE) is None
    assert diagnostics.diagnose(one, ContainerStatus(ContainerState.RUNNING), NONE) is None
    assert diagnostics.diagnose(one, ContainerStatus(ContainerState.RUNNING, identity="first"), NONE) is None
    found = diagnostics.diagnose(one, ContainerStatus(ContainerState.RUNNING, identity="second"), NONE)
    assert found == Failure(FailureCause.DELETED, "another container replaced it")

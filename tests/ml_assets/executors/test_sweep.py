"""What is left of runs that have ended is removed, on a fake engine: real ones cannot be asked to keep leftovers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg
import pytest

from ml_assets.executors.engine import ContainerEngine, Observation, Order, State
from ml_assets.executors.failures import Failure
from ml_assets.executors.sweep import sweep


@dataclass
class LeftoverEngine(ContainerEngine):
    """A fake: it has containers, and forgets them when they are stopped or removed."""

    containers: dict[str, tuple[str, State]]
    stops: int = 1
    """How often each has to be stopped until it is gone."""
    removed: list[tuple[str, bool]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    name, noun = "Leftovers", "leftover"

    def start(self, order: Order) -> None:
        raise NotImplementedError

    def observe(self, run_id: str) -> Mapping[str, Observation]:
        return {name: Observation(state) for name, (run, state) in self.containers.items() if run == run_id}

    def evidence(self, name: str, lines: int) -> tuple[Sequence[str], Sequence[str]]:
        raise NotImplementedError

    def why_gone(self, name: str) -> Failure | None:
        raise NotImplementedError

    def stop(self, name: str) -> bool:
        self.asked.append(name)
        return self.asked.count(name) >= self.stops

    def remove(self, name: str, *, succeeded: bool) -> None:
        self.removed.append((name, succeeded))

    def all_runs(self) -> Mapping[str, Sequence[str]]:
        runs: dict[str, list[str]] = {}
        for name, (run, _) in self.containers.items():
            runs.setdefault(run, []).append(name)
        return runs


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def a_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> str:
    run = instance.add_run(dg.DagsterRun("job", status=status))
    return run.run_id


def test_containers_of_ended_runs_go_and_all_others_stay(instance: dg.DagsterInstance) -> None:
    failed, succeeded = a_run(instance, dg.DagsterRunStatus.FAILURE), a_run(instance, dg.DagsterRunStatus.SUCCESS)
    engine = LeftoverEngine(
        {
            "running": (failed, State.RUNNING),
            "pending": (failed, State.PENDING),
            "ended": (failed, State.FAILED),
            "well": (succeeded, State.SUCCEEDED),
            "at-work": (a_run(instance, dg.DagsterRunStatus.STARTED), State.RUNNING),
            "of-another-instance": ("a2fb6c1e-0000-4000-8000-000000000000", State.RUNNING),
        }
    )
    assert sorted(sweep(engine, instance)) == ["pending", "running"]
    assert sorted(engine.asked) == ["pending", "running"]
    assert sorted(engine.removed) == [("ended", False), ("well", True)]


def test_container_is_stopped_until_it_is_gone(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_assets.executors.sweep.time.sleep", lambda seconds: None)
    engine = LeftoverEngine({"slow": (a_run(instance, dg.DagsterRunStatus.CANCELED), State.RUNNING)}, stops=3)
    assert sweep(engine, instance) == ["slow"]
    assert engine.asked == ["slow"] * 3


def test_sweep_of_nothing_finds_nothing(instance: dg.DagsterInstance) -> None:
    assert sweep(LeftoverEngine({}), instance) == []

"""The removal of containers of ended runs, on a fake engine, by the sensor's function and by the command."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from ml_assets import cli
from ml_assets.executors.engine import ContainerState
from ml_assets.executors.sweep import SweepOutcome, find_leftovers, sweep
from ml_assets.target import Target
from tests.migrated import Migrated
from tests.ml_assets.executors.leftover_engine import LeftoverEngine

CANCELED, FAILURE, SUCCESS = dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def instance(tmp_path: Path, migrated: Migrated) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(migrated.dagster(tmp_path))) as found:
        yield found


@pytest.fixture
def engine(instance: dg.DagsterInstance) -> LeftoverEngine:
    """An engine with containers in every state."""
    failed, succeeded = a_run(instance, FAILURE), a_run(instance, SUCCESS)
    return LeftoverEngine(
        {
            "running": (failed, ContainerState.RUNNING),
            "pending": (failed, ContainerState.PENDING),
            "failed": (failed, ContainerState.FAILED),
            "well": (succeeded, ContainerState.SUCCEEDED),
            "at-work": (a_run(instance, dg.DagsterRunStatus.STARTED), ContainerState.RUNNING),
            "of-another-instance": ("a2fb6c1e-0000-4000-8000-000000000000", ContainerState.RUNNING),
        }
    )


@pytest.fixture
def command(
    tmp_path: Path, engine: LeftoverEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """A function that runs the program's entry point in this process with that engine: status, output, errors."""
    monkeypatch.delenv("ML_ASSETS_TARGET", raising=False)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setattr(Target, "engine", engine)
    return command_of(monkeypatch, capsys)


def command_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run_main(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ml-assets", *arguments])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return run_main


def a_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> str:
    run = instance.add_run(dg.DagsterRun("job", status=status))
    return run.run_id


def outcomes(engine: LeftoverEngine, instance: dg.DagsterInstance) -> dict[str, SweepOutcome | None]:
    return {leftover.name: leftover.outcome for leftover in sweep(engine, instance)}


def test_containers_of_ended_runs_go_and_all_others_stay(instance: dg.DagsterInstance, engine: LeftoverEngine) -> None:
    assert outcomes(engine, instance) == {
        "running": SweepOutcome.ENDED,
        "pending": SweepOutcome.ENDED,
        "failed": SweepOutcome.REMOVED,
        "well": SweepOutcome.REMOVED,
    }
    assert sorted(engine.asked) == ["pending", "running"]
    assert sorted(engine.removed) == [("failed", False), ("well", True)]
    assert sorted(engine.containers) == ["at-work", "of-another-instance"]


def test_container_that_failed_is_kept_by_an_engine_that_keeps_it(
    instance: dg.DagsterInstance, engine: LeftoverEngine
) -> None:
    engine.keeps_failed = True
    assert outcomes(engine, instance)["failed"] is SweepOutcome.KEPT
    assert outcomes(engine, instance) == {"failed": SweepOutcome.KEPT}


def test_container_is_stopped_until_it_is_gone(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_assets.executors.engine.time.sleep", lambda seconds: None)
    engine = LeftoverEngine({"slow": (a_run(instance, CANCELED), ContainerState.RUNNING)}, stops=3)
    assert outcomes(engine, instance) == {"slow": SweepOutcome.ENDED}
    assert engine.asked == ["slow"] * 3


def test_sweep_of_nothing_finds_nothing(instance: dg.DagsterInstance) -> None:
    assert sweep(LeftoverEngine({}), instance) == []


def test_leftovers_are_found_without_touching_them(instance: dg.DagsterInstance, engine: LeftoverEngine) -> None:
    found = {leftover.name: leftover.was_running for leftover in find_leftovers(engine, instance)}
    assert found == {"running": True, "pending": True, "failed": False, "well": False}
    assert (engine.asked, engine.removed) == ([], [])


# --- the command ---


def test_command_says_what_it_ended_and_what_it_only_removed(command: Command, engine: LeftoverEngine) -> None:
    failed, succeeded = engine.containers["failed"][0], engine.containers["well"][0]
    code, out, _ = command("sweep")
    assert code == 0
    assert sorted(out.splitlines()) == [
        f"failed (run {failed}, failure): already stopped, removed",
        f"pending (run {failed}, failure): stopped",
        f"running (run {failed}, failure): stopped",
        f"well (run {succeeded}, success): already stopped, removed",
    ]
    assert command("sweep") == (0, "no leftover containers\n", "")


def test_dry_run_says_what_would_be_done_and_does_nothing(command: Command, engine: LeftoverEngine) -> None:
    code, out, _ = command("sweep", "--dry-run")
    assert code == 0
    said = dict(re.findall(r"(\S+) \(run .*\): (.*)", out))
    assert said == dict.fromkeys(("running", "pending"), "would be stopped") | dict.fromkeys(
        ("failed", "well"), "already stopped, would be removed"
    )
    assert (engine.asked, engine.removed) == ([], [])


def test_command_for_machines_has_the_promised_form(command: Command, engine: LeftoverEngine) -> None:
    failed = engine.containers["failed"][0]
    engine.keeps_failed = True
    planned = json.loads(command("sweep", "--dry-run", "--json")[1])
    done = json.loads(command("sweep", "--json")[1])
    assert (planned["dry_run"], done["dry_run"]) == (True, False)
    assert {each["name"]: each["outcome"] for each in planned["containers"]} == dict.fromkeys(
        ("running", "pending", "failed", "well")
    )
    assert {each["name"]: each["outcome"] for each in done["containers"]} == {
        "running": "ended",
        "pending": "ended",
        "failed": "kept",
        "well": "removed",
    }
    (row,) = [each for each in done["containers"] if each["name"] == "failed"]
    assert row == {
        "name": "failed",
        "dagster_run": failed,
        "run_status": "FAILURE",
        "was_running": False,
        "outcome": "kept",
    }


def test_container_that_takes_its_time_makes_the_command_fail(
    command: Command, engine: LeftoverEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_assets.executors.sweep._PATIENCE_SECONDS", 0)
    code, out, _ = command("sweep")
    assert code == 1
    assert re.search(r"^running \(run .*\): stopping, not stopped yet$", out, re.MULTILINE)


def test_target_without_containers_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ML_ASSETS_TARGET", raising=False)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    code, out, errors = command_of(monkeypatch, capsys)("sweep")
    assert (code, out) == (2, "")
    assert errors == (
        "error: steps of target local are plain processes, not containers. "
        "Next: set ML_ASSETS_TARGET to a target with a container engine, such as docker.\n"
    )
    assert not (tmp_path / "home").exists()

"""MLflow runs and the store after real steps are killed, cancelled, repeated or duplicated."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.workspace.load_target import ModuleTarget

from ml_assets.artifacts.io_manager import STORAGE_KEY
from ml_assets.resources.identity import Digest
from ml_assets.resources.machine.process_identity import ProcessIdentity
from ml_assets.resources.provenance import ProvenanceRecord, record_of
from ml_assets.resources.tracking.tags import RunTags
from ml_assets.target import Target
from tests.dagster_daemon import PROJECT, Daemons, daemons, own_settings
from tests.graphql import LAUNCH, TERMINATE
from tests.ml_assets.waiting_assets import FIRST_ATTEMPT_FAILS, defs, retried_model, waiting_model


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemons]:
    """The daemons on the code location of `tests.ml_assets.waiting_assets`."""
    module = waiting_model.op.compute_fn.decorated_fn.__module__  # type: ignore[union-attr]
    target = ModuleTarget(module, attribute=None, working_directory=str(PROJECT), location_name="waiting")
    with pytest.MonkeyPatch.context() as patch:
        own_settings(tmp_path_factory.mktemp("kill"), patch)
        with daemons(target, patch) as found:
            yield found


def launch(started: Daemons, asset: dg.AssetsDefinition, directory: Path | None = None) -> str:
    """Launch a materialization as the UI does and return the id of its run."""
    repository = started.repository
    selector = {
        "repositoryLocationName": repository.handle.location_name,
        "repositoryName": repository.name,
        "pipelineName": "__ASSET_JOB",
        "assetSelection": [{"path": asset.key.path}],
    }
    config = {"ops": {asset.key.path[-1]: {"config": {"directory": str(directory)}}}} if directory else {}
    answer = started.ask(LAUNCH, {"params": {"selector": selector, "mode": "default", "runConfigData": config}})
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return str(answer["run"]["runId"])


def run_until_it_trains(started: Daemons, directory: Path, *runs: str) -> None:
    def trains() -> bool:
        assert not any(found.is_finished for found in started.instance.get_runs(dg.RunsFilter(run_ids=list(runs))))
        return all((directory / run).exists() for run in runs)

    started.run_queue(until=trains)


def status(started: Daemons, run: str) -> dg.DagsterRunStatus:
    found = started.instance.get_run_by_id(run)
    assert found is not None
    return found.status


def mlflow_runs(run: str) -> list[Any]:
    """Return MLflow's runs of a Dagster run, by attempt."""
    from mlflow import MlflowClient

    settings = Target.from_environment().settings
    client = MlflowClient(tracking_uri=settings.location(settings.mlflow.tracking_uri))
    experiment = client.get_experiment_by_name(settings.mlflow.experiment)
    found = client.search_runs([experiment.experiment_id], f"tags.`{RunTags.DAGSTER_RUN}` = '{run}'")
    return sorted(found, key=lambda one: int(one.data.tags[RunTags.ATTEMPT]))


def mlflow_statuses(run: str) -> list[str]:
    return [found.info.status for found in mlflow_runs(run)]


def stored() -> set[Path]:
    """Return every file of the remote."""
    settings = Target.from_environment().settings
    return {file for file in Path(settings.location(settings.dvc.remote)).rglob("*") if file.is_file()}


def recorded(started: Daemons, run: str) -> ProvenanceRecord:
    events = started.instance.get_records_for_run(run, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    (found,) = [record.asset_materialization for record in events]
    assert found is not None
    return record_of(found.metadata)


def assert_intact(record: ProvenanceRecord) -> None:
    """Fetch and verify the model that a run recorded."""
    assert record.content is not None
    storage = defs().resources[STORAGE_KEY]  # type: ignore[index]
    assert (storage.store.fetch(Digest.parse(record.content.version)) / "model.json").is_file()


def test_the_mlflow_run_of_a_killed_step_is_closed_by_the_sensor(started: Daemons, tmp_path: Path) -> None:
    before = stored()
    run = launch(started, waiting_model, tmp_path)
    run_until_it_trains(started, tmp_path, run)
    (tracked,) = mlflow_runs(run)
    os.kill(ProcessIdentity.parse(tracked.data.tags[RunTags.PROCESS]).pid, signal.SIGKILL)
    started.run_queue()
    assert status(started, run) == dg.DagsterRunStatus.FAILURE
    (failure,) = started.instance.get_records_for_run(run, of_type=dg.DagsterEventType.STEP_FAILURE).records
    assert failure.event_log_entry.step_key == "waiting_model"
    assert mlflow_statuses(run) == ["RUNNING"]
    assert stored() == before

    started.sense()
    assert mlflow_statuses(run) == ["KILLED"]

    (tmp_path / "go").touch()
    again = launch(started, waiting_model, tmp_path)
    started.run_queue()
    assert status(started, again) == dg.DagsterRunStatus.SUCCESS
    assert (mlflow_statuses(run), mlflow_statuses(again)) == (["KILLED"], ["FINISHED"])
    assert_intact(recorded(started, again))


def test_a_running_step_is_left_alone_and_a_cancelled_one_ends_as_killed(started: Daemons, tmp_path: Path) -> None:
    run = launch(started, waiting_model, tmp_path)
    run_until_it_trains(started, tmp_path, run)
    started.sense()
    assert mlflow_statuses(run) == ["RUNNING"]
    answer = started.ask(TERMINATE, {"run": run})
    assert answer["__typename"] == "TerminateRunSuccess", answer
    started.run_queue()
    assert status(started, run) == dg.DagsterRunStatus.CANCELED
    assert mlflow_statuses(run) == ["KILLED"]


def test_a_retry_names_the_attempt_that_it_repeats(started: Daemons) -> None:
    run = launch(started, retried_model)
    started.run_queue()
    assert status(started, run) == dg.DagsterRunStatus.SUCCESS
    first, second = mlflow_runs(run)
    assert (first.info.status, second.info.status) == ("FAILED", "FINISHED")
    assert FIRST_ATTEMPT_FAILS in first.data.tags["mlflow.note.content"]
    assert second.data.tags[RunTags.REPEATS] == first.info.run_id
    record = recorded(started, run)
    assert record.attempt == 1
    assert record.mlflow is not None
    assert record.mlflow.run_id == second.info.run_id


def test_two_materializations_at_once_both_succeed(started: Daemons, tmp_path: Path) -> None:
    runs = [launch(started, waiting_model, tmp_path) for _ in range(2)]
    run_until_it_trains(started, tmp_path, *runs)
    (tmp_path / "go").touch()
    started.run_queue()
    assert [status(started, run) for run in runs] == [dg.DagsterRunStatus.SUCCESS] * 2
    assert [mlflow_statuses(run) for run in runs] == [["FINISHED"]] * 2
    first, second = (recorded(started, run) for run in runs)
    assert first.data_version == second.data_version
    assert_intact(first)
    versions = {record.mlflow.model_version for record in (first, second) if record.mlflow}
    assert len(versions) == 2

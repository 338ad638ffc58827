"""What a function does with MLflow's own functions never moves its step's run or model, nor those of the next step."""

import json
import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS

from ml_assets.resources.models.flavors import SavedModel, save_model
from ml_assets.resources.tracking.runs import MlflowTracking
from ml_assets.resources.tracking.tags import RunTags
from ml_assets.resources.tracking.user_code import contained
from tests.migrated import Migrated

TAGS = {RunTags.ASSET: "delay_model", RunTags.DAGSTER_RUN: "r", RunTags.DAGSTER_STEP: "s", RunTags.ATTEMPT: "0"}


def autolog(other: str) -> None:
    mlflow.autolog()
    mlflow.sklearn.autolog(registered_model_name="theirs")


def end_and_log(other: str) -> None:
    mlflow.end_run()
    mlflow.log_metric("theirs", 1.0)


def end_twice(other: str) -> None:
    mlflow.end_run()
    mlflow.start_run()
    mlflow.end_run()
    mlflow.log_metric("theirs", 1.0)


def leave_nested_open(other: str) -> None:
    mlflow.start_run(nested=True)
    mlflow.start_run(nested=True)


def start_elsewhere(other: str) -> None:
    mlflow.end_run()
    mlflow.set_tracking_uri(other)
    mlflow.set_experiment("theirs")
    mlflow.start_run()


def variables(other: str) -> None:
    os.environ.update(
        MLFLOW_TRACKING_URI=other,
        MLFLOW_REGISTRY_URI=other,
        MLFLOW_EXPERIMENT_NAME="theirs",
        MLFLOW_RUN_ID="0" * 32,
        MLFLOW_TRACKING_TOKEN="theirs",
        MLFLOW_ENABLE_ASYNC_LOGGING="true",
    )


def fork(other: str) -> None:
    process = os.fork()
    if process == 0:
        mlflow.set_registry_uri(other)
        mlflow.end_run()
        mlflow.start_run()
        raise SystemExit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 3


def pool(other: str) -> None:
    process = multiprocessing.get_context("fork").Process(target=mlflow.start_run)
    process.start()
    process.join()


def thread(other: str) -> None:
    started = threading.Thread(target=mlflow.log_metric, args=("theirs", 1.0))
    started.start()
    started.join()


CASES: list[Callable[[str], Any]] = [
    mlflow.set_tracking_uri,
    mlflow.set_registry_uri,
    lambda _: mlflow.set_experiment("theirs"),
    lambda _: mlflow.end_run(),
    lambda _: mlflow.end_run("FAILED"),
    lambda _: mlflow.set_active_model(name="theirs"),
    end_and_log,
    end_twice,
    leave_nested_open,
    start_elsewhere,
    autolog,
    variables,
    fork,
    pool,
    thread,
]
MOVING = (mlflow.set_tracking_uri, mlflow.set_registry_uri, start_elsewhere, variables)
"""Cases after which a model is registered, which takes most of the time."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    import pandas as pd
    from sklearn.linear_model import LinearRegression

    rows = pd.DataFrame({"x": [1.0, 2.0]})
    folder = tmp_path_factory.mktemp("model") / "model"
    return save_model(LinearRegression().fit(rows, [1.0, 2.0]), folder, input_example=rows)


def test_nothing_that_a_function_does_moves_its_run_or_the_next_one(
    tmp_path: Path, migrated: Migrated, saved: SavedModel
) -> None:
    ours, other = (migrated.mlflow(tmp_path / name / "mlflow.db") for name in ("ours", "other"))
    tracking = MlflowTracking(tracking_uri=ours, experiment="flights")
    client, theirs = MlflowClient(ours, ours), MlflowClient(other, other)
    variables_before = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    for number, act in enumerate(CASES, 1):
        with tracking.run(name=str(number), tags=TAGS, parameters={"p": number}) as run:
            with contained(run):
                mlflow.log_metric("loss", 1.0)
                act(other)
            run.log_metrics({"ours": 2.0})
            if act in MOVING:
                run.log_model(saved, "delay")
        recorded = client.get_run(run.identity.run_id)
        assert recorded.info.status == "FINISHED"
        assert recorded.data.metrics == {"loss": 1.0, "ours": 2.0}
        assert recorded.data.tags.items() >= TAGS.items()
        versions = client.search_model_versions(f"run_id = '{run.identity.run_id}'")
        assert [each.name for each in versions] == ["delay"] * (act in MOVING)
        assert (mlflow.active_run(), AUTOLOGGING_INTEGRATIONS.get("xgboost")) == (None, None)
    everywhere = [each.experiment_id for each in client.search_experiments()]
    assert client.search_runs(everywhere, "attributes.status = 'RUNNING'") == []
    started = [run for run in client.search_runs(everywhere) if RunTags.ASSET not in run.data.tags]
    assert len(started) == 8
    assert {json.dumps([run.info.status, "mlflow.parentRunId" in run.data.tags]) for run in started} == {
        '["FINISHED", true]'
    }
    assert theirs.search_registered_models() == []
    found = [each.experiment_id for each in theirs.search_experiments()]
    assert [run.info.status for run in theirs.search_runs(found)] == ["FINISHED"]
    assert {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")} == variables_before


def test_function_without_a_run_of_its_own_leaves_nothing_behind(tmp_path: Path, migrated: Migrated) -> None:
    other = migrated.mlflow(tmp_path / "mlflow.db")
    started = []

    def act() -> None:
        with contained(None):
            mlflow.set_tracking_uri(other)
            mlflow.set_registry_uri(other)
            started.append(mlflow.start_run().info.run_id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        act()
    assert mlflow.active_run() is None
    assert mlflow.get_tracking_uri() != other
    assert MlflowClient(other).get_run(started[0]).info.status == "FAILED"

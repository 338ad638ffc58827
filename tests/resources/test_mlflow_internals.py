"""Contract with MLflow: its private state that `resources.mlflow_internals` reads and sets."""

import inspect
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import fluent
from mlflow.tracking._model_registry import utils as registry
from mlflow.tracking._tracking_service import utils as service
from mlflow.utils import autologging_utils, import_hooks, requirements_utils

from ml_assets.resources.mlflow_internals import (
    active_run_ids,
    create_tables,
    fluent_state_kept,
    forget_run,
    no_map_of_all_packages,
)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    create_tables(uri, f"{tmp_path}/artifacts")
    return uri


@pytest.fixture
def other_uri(tmp_path: Path) -> Iterator[str]:
    """Another store, at which MLflow's own functions point."""
    uri = f"sqlite:///{tmp_path}/other.db"
    create_tables(uri, f"{tmp_path}/artifacts")
    before = service._tracking_uri, fluent._active_experiment_id
    mlflow.set_tracking_uri(uri)
    yield uri
    mlflow.set_tracking_uri(before[0])
    fluent._active_experiment_id = before[1]
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)


def test_tables_that_were_created_can_be_used_at_once(uri: str) -> None:
    assert mlflow.MlflowClient(uri, uri).create_experiment("experiment")


def test_runs_experiment_and_store_of_somebody_else_are_put_back(uri: str, other_uri: str) -> None:
    mlflow.set_experiment("theirs")
    theirs = fluent._active_experiment_id
    with mlflow.start_run() as outer:
        with fluent_state_kept():
            mlflow.set_tracking_uri(uri)
            mlflow.set_experiment("ours")
            inner = mlflow.start_run(nested=True)
            assert active_run_ids() == {outer.info.run_id, inner.info.run_id}
            assert fluent._active_experiment_id == mlflow.get_experiment_by_name("ours").experiment_id
        assert (active_run_ids(), fluent._active_experiment_id) == ({outer.info.run_id}, theirs)
        assert mlflow.get_tracking_uri() == other_uri
    assert active_run_ids() == set()


def test_settings_that_nobody_had_made_are_unset_again(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_tracking_uri", None)
    monkeypatch.setattr(registry, "_registry_uri", None)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "ours")
    with fluent_state_kept():
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        os.environ.update(MLFLOW_RUN_ID="0" * 32, MLFLOW_TRACKING_TOKEN="theirs")
        mlflow.autolog()
        assert "xgboost" in import_hooks._post_import_hooks
    assert (service._tracking_uri, registry._registry_uri) == (None, None)
    found = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    assert (found.pop("MLFLOW_TRACKING_TOKEN"), found.keys() & {"MLFLOW_RUN_ID", "MLFLOW_REGISTRY_URI"}) == (
        "ours",
        set(),
    )
    assert not [name for name in ("sklearn", "xgboost") if not autologging_utils.autologging_is_disabled(name)]
    assert "xgboost" not in import_hooks._post_import_hooks


def test_run_of_another_thread_is_found_and_forgotten(other_uri: str) -> None:
    started = []
    thread = threading.Thread(target=lambda: started.append(mlflow.start_run().info.run_id))
    thread.start()
    thread.join()
    assert active_run_ids() == set(started)
    forget_run(started[0])
    assert active_run_ids() == set()
    assert mlflow.get_run(started[0]).info.status == "RUNNING"


def test_metadata_of_packages_is_not_read_where_there_is_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements_utils, "_MODULES_TO_PACKAGES", None)
    with no_map_of_all_packages():
        assert requirements_utils._MODULES_TO_PACKAGES == {}
    assert requirements_utils._MODULES_TO_PACKAGES is None
    assert "_MODULES_TO_PACKAGES is None" in inspect.getsource(requirements_utils)

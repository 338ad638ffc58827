"""Contract with MLflow: its private state that `resources.mlflow_internals` reads and sets."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import fluent
from mlflow.tracking._model_registry import utils as registry
from mlflow.tracking._tracking_service import utils as service
from mlflow.utils import requirements_utils

from ml_assets.resources.mlflow_internals import (
    active_run_ids,
    create_tables,
    fluent_state_kept,
    no_map_of_all_packages,
    registry_at,
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
            assert active_run_ids() == [outer.info.run_id, inner.info.run_id]
            assert fluent._active_experiment_id == mlflow.get_experiment_by_name("ours").experiment_id
        assert (active_run_ids(), fluent._active_experiment_id) == ([outer.info.run_id], theirs)
        assert mlflow.get_tracking_uri() == other_uri
    assert active_run_ids() == []


def test_store_that_nobody_had_set_is_unset_again(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_tracking_uri", None)
    with fluent_state_kept():
        mlflow.set_tracking_uri(uri)
    assert service._tracking_uri is None


def test_registry_goes_before_a_variable_and_is_unset_again(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registry_uri", None)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://elsewhere")
    with registry_at(uri):
        assert mlflow.get_registry_uri() == uri
    assert (registry._registry_uri, mlflow.get_registry_uri()) == (None, "http://elsewhere")


def test_metadata_of_packages_is_not_read_where_there_is_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements_utils, "_MODULES_TO_PACKAGES", None)
    with no_map_of_all_packages():
        assert requirements_utils._MODULES_TO_PACKAGES == {}
    assert requirements_utils._MODULES_TO_PACKAGES is None
    assert "_MODULES_TO_PACKAGES is None" in inspect.getsource(requirements_utils)

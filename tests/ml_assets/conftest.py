"""Real storage in a temporary directory: a DVC remote, an MLflow database, a Dagster instance."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.addresses import Addresses
from ml_assets.artifacts.io_manager import STORAGE_KEY, ArtifactStorage
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.image_builders.environment import InterpreterEnvironment
from ml_assets.resources.tracking.runs import MlflowTracking
from tests.migrated import Migrated

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def storage(tmp_path: Path, migrated: Migrated) -> ArtifactStorage:
    return ArtifactStorage(
        store=DvcStore(remote=str(tmp_path / "remote"), cache=str(tmp_path / "cache")),
        tracking=MlflowTracking(tracking_uri=migrated.mlflow(tmp_path / "mlflow" / "mlflow.db"), experiment="tests"),
        image_builder=InterpreterEnvironment(PROJECT),
        target="local",
        addresses=Addresses("http://dagster.example"),
    )


@pytest.fixture
def resources(storage: ArtifactStorage) -> dict[str, Any]:
    return {STORAGE_KEY: storage}


@pytest.fixture
def instance(tmp_path: Path, migrated: Migrated) -> Iterator[dg.DagsterInstance]:
    with migrated.instance(tmp_path / "dagster") as found:
        yield found

"""Fixtures and helpers for all tests."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.migrated import Migrated
from tests.mlflow_server import Server
from tests.oci_registry import OciRegistry

# Declared here because pytest accepts plug-ins only from the topmost conftest; both folders share one set of servers.
pytest_plugins = ["tests.containers.fixtures", "tests.containers.longest_first"]

# Machines that build images often disable bytecode. Recompiling Dagster or MLflow takes two thirds of the import time
# of each of the many interpreters.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

COMPLETE_VARIABLE = "ML_ASSETS_TESTS_COMPLETE"

FOLDER = Path(__file__).parent
LONGEST_FIRST = (
    "projects/test_projects.py",
    "ml_assets/flight_delays/test_nightly.py",
    "ui/test_dagster_ui.py",
    "ml_assets/test_kill.py",
    "ml_assets/reproduction/test_local.py",
    "resources/tracking/test_runs.py",
    "ml_assets/serving/test_tracking.py",
    "ml_assets/executors/test_resume.py",
    "ml_assets/lineage/index/test_completeness.py",
    "ml_assets/serving/test_openapi.py",
    "ml_assets/executors/test_database_retry.py",
    "ml_assets/reproduction/test_reproduce.py",
    "ml_assets/test_cli.py",
    "resources/dvc/test_store.py",
    "resources/models/test_estimators.py",
    "resources/models/test_served.py",
    "resources/models/test_flavors.py",
    "ml_assets/retention/test_garbage_collector.py",
)
"""The slowest files start first, so that no process runs alone at the end. Requires --no-loadscope-reorder."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the slowest files to the front and keep the order of the rest."""
    places = {FOLDER / name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def require_program(name: str, debian_package: str) -> str:
    """Return the path of a program that a test needs; without it, skip the test, or fail it if all tests must run."""
    path = shutil.which(name)
    if not path:
        unavailable(f"{name} is not installed; on Debian: apt-get install {debian_package}")
    return path


def unavailable(reason: str) -> NoReturn:
    """Skip a test because something outside the project is missing, or fail it if all tests must run."""
    if os.environ.get(COMPLETE_VARIABLE) == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Migrated:
    """New databases of Dagster and MLflow, copied to save the time of their migrations."""
    return Migrated(tmp_path_factory.mktemp("migrated"))


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real MLflow server."""
    running = Server(tmp_path_factory.mktemp("mlflow-server"))
    yield running
    running.stop()


@pytest.fixture
def oci_registry(tmp_path: Path) -> Iterator[OciRegistry]:
    """A real registry on a loopback address, without authentication."""
    program = require_program("docker-registry", "docker-registry")
    with OciRegistry.started(program, tmp_path / "registry") as registry:
        yield registry

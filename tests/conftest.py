"""What every test may use."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.migrated import Migrated
from tests.oci_registry import OciRegistry

# Here, because pytest takes plug-ins from the topmost conftest alone, and both folders share one set of servers.
pytest_plugins = ["tests.containers.fixtures", "tests.containers.longest_first"]

# Machines that build images often forbid bytecode. Compiling Dagster or MLflow anew takes two thirds of the time that
# each of the many interpreters needs for its imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

COMPLETE_VARIABLE = "ML_ASSETS_TESTS_COMPLETE"

FOLDER = Path(__file__).parent
LONGEST_FIRST = (
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
    "resources/models/test_flavors.py",
    "ml_assets/retention/test_garbage_collector.py",
)
"""Files that take longest go first, so that no process works alone in the end; it takes --no-loadscope-reorder."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the longest files to the front, and leave everything else as it was."""
    places = {FOLDER / name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def require_program(name: str, debian_package: str) -> str:
    """Path of a program that a test runs; without it the test is skipped, or fails where all tests have to run."""
    path = shutil.which(name)
    if not path:
        unavailable(f"{name} is not installed; on Debian: apt-get install {debian_package}")
    return path


def unavailable(reason: str) -> NoReturn:
    """Skip a test for want of something outside the project, or fail it where all tests have to run."""
    if os.environ.get(COMPLETE_VARIABLE) == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Migrated:
    """New databases of Dagster and MLflow, without the time that migrating them takes."""
    return Migrated(tmp_path_factory.mktemp("migrated"))


@pytest.fixture
def oci_registry(tmp_path: Path) -> Iterator[OciRegistry]:
    """A real registry on a loopback address, without authentication."""
    program = require_program("docker-registry", "docker-registry")
    with OciRegistry.started(program, tmp_path / "registry") as registry:
        yield registry

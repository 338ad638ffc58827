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
pytest_plugins = ["tests.containers.fixtures"]

# Machines that build images often forbid bytecode. Compiling Dagster or MLflow anew takes two thirds of the time that
# each of the many interpreters needs for its imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

COMPLETE_VARIABLE = "ML_ASSETS_TESTS_COMPLETE"


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

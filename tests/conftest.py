"""What every test may use."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.oci_registry import OciRegistry

# Here, because pytest takes plug-ins from the topmost conftest alone, and both folders share one set of servers.
pytest_plugins = ["tests.containers.fixtures", "tests.containers.longest_first"]

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


@pytest.fixture
def oci_registry(tmp_path: Path) -> Iterator[OciRegistry]:
    """A real registry on a loopback address, without authentication."""
    program = require_program("docker-registry", "docker-registry")
    with OciRegistry.started(program, tmp_path / "registry") as registry:
        yield registry

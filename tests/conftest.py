"""What every test may use."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oci_registry import OciRegistry

COMPLETE_VARIABLE = "ML_ASSETS_TESTS_COMPLETE"


def require_program(name: str, debian_package: str) -> str:
    """Path of a program that a test runs; without it the test is skipped, or fails where all tests have to run."""
    path = shutil.which(name)
    if path:
        return path
    reason = f"{name} is not installed; on Debian: apt-get install {debian_package}"
    if os.environ.get(COMPLETE_VARIABLE) == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def oci_registry(tmp_path: Path) -> Iterator[OciRegistry]:
    """A real registry on a loopback address, without authentication."""
    program = require_program("docker-registry", "docker-registry")
    with OciRegistry.started(program, tmp_path / "registry") as registry:
        yield registry

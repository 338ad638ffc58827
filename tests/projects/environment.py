"""Environments of other projects: new, with the wheel and what the project asks for, without a lock."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import unavailable

ROOT = Path(__file__).parents[2]
PROJECTS = Path(__file__).parent
HOME = Path("var", "dagster")


def built(source: Path, form: str, folder: Path) -> Path:
    """Return the wheel or the source distribution of a folder, built into another."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", form, "--directory", str(folder)]
    subprocess.run(command, cwd=source, capture_output=True, check=True)
    (file,) = folder.iterdir()
    return file


@dataclass(frozen=True)
class Environment:
    """A virtual environment without this checkout."""

    folder: Path

    @classmethod
    def with_newest(cls, folder: Path, *requirements: str) -> "Environment":
        """Install the newest packages that fit; a package index must be reachable. Files are linked from uv's cache."""
        python = ["--python", str(folder / "bin" / "python")]
        _uv(folder.parent, "venv", "--python", sys.executable, str(folder))
        _uv(folder.parent, "pip", "install", *python, *requirements)
        _uv(folder.parent, "pip", "check", *python)
        return cls(folder)

    def run(self, project: Path, program: str, *arguments: str, succeeds: bool = True, **variables: str) -> str:
        """Return what a program prints in a project: its output, or the errors of one that must fail."""
        variables |= {"PYTHONPATH": str(project), "DAGSTER_HOME": str(project / HOME)}
        variables |= {"MLFLOW_DISABLE_TELEMETRY": "true", "COLUMNS": "200"}
        done = subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=project,
            env=_inherited() | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) is succeeds, done.stdout + done.stderr
        return done.stdout if succeeds else done.stderr


def copy_of(project: str, folder: Path) -> Path:
    """Return a copy of one of these projects, outside of the checkout, whose Dagster instance sends no telemetry."""
    shutil.copytree(PROJECTS / project, folder, ignore=shutil.ignore_patterns("__pycache__", "var"))
    (folder / HOME).mkdir(parents=True)
    shutil.copy(ROOT / "deployments" / "local" / "dagster.yaml", folder / HOME)
    return folder


def _uv(folder: Path, *arguments: str) -> None:
    command = [str(Path(sys.prefix) / "bin" / "uv"), "--quiet", "--no-config", *arguments]
    done = subprocess.run(command, cwd=folder, env=_inherited(), capture_output=True, text=True, check=False)
    if "error sending request" in done.stderr or "dns error" in done.stderr:
        unavailable(f"no package index answers: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


def _inherited() -> dict[str, str]:
    own = ("ML_ASSETS", "DAGSTER", "PYTHON", "PYTEST", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)}

"""The locked environment in use: the programs of Dagster, dg and DVC, and the lock itself."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = Path(sys.prefix) / "bin"
PIPELINE = ["delay_model", "departures", "flights", "predictions", "weather"]


def program(name: str, *arguments: str, cwd: Path = ROOT, **environment: str) -> str:
    """Return the output of a program of the environment."""
    done = subprocess.run(
        [PROGRAMS / name, *arguments],
        cwd=cwd,
        env=os.environ | {"DVC_NO_ANALYTICS": "1", "COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def dagster_home(tmp_path: Path) -> str:
    """A home with the committed settings of the instance, which send no telemetry."""
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(ROOT / "deployments" / "local" / "dagster.yaml", home)
    return str(home)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [("group:flight_delays", PIPELINE), ("+delay_model", ["delay_model", "departures", "images/train"])],
)
def test_dagsters_selections_work(selection: str, expected: list[str], dagster_home: str) -> None:
    printed = program(
        "dagster", "asset", "list", "-m", "ml_assets.definitions", "--select", selection, DAGSTER_HOME=dagster_home
    )
    assert printed.split() == expected


def test_dg_lists_what_the_project_defines(dagster_home: str) -> None:
    found = json.loads(program("dg", "list", "defs", "--json", DAGSTER_HOME=dagster_home))
    assert {asset["asset_key"] for asset in found["assets"]} >= {*PIPELINE, "images/train", "images/serve"}
    assert {job["name"] for job in found["jobs"]} >= {"flight_delays", "images"}
    assert [schedule["name"] for schedule in found["schedules"]] == ["nightly_retraining"]


def test_dvc_stores_and_restores(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "folder").mkdir(parents=True)
    (repository / "folder" / "one.txt").write_text("one")
    (repository / "two.txt").write_text("two")

    def dvc(*arguments: str) -> None:
        program("dvc", *arguments, "--quiet", cwd=repository, DVC_SITE_CACHE_DIR=str(tmp_path / "site"))

    dvc("init", "--no-scm")
    dvc("remote", "add", "--default", "store", str(tmp_path / "remote"))
    dvc("add", "folder", "two.txt")
    dvc("push")
    (repository / "two.txt").unlink()
    for folder in ("folder", ".dvc/cache"):
        shutil.rmtree(repository / folder)
    dvc("pull")
    assert (repository / "folder" / "one.txt").read_text() == "one"
    assert (repository / "two.txt").read_text() == "two"


def test_lock_names_no_address_and_fits_the_project() -> None:
    assert "://" not in (ROOT / "uv.lock").read_text()
    program("uv", "lock", "--check", "--offline", UV_PROJECT_ENVIRONMENT=sys.prefix, VIRTUAL_ENV=sys.prefix)


@pytest.mark.parametrize("package", ["dagster", "dvc", "mlflow", "pandas", "pyarrow", "sqlalchemy"])
def test_installed_packages_are_those_of_the_lock(package: str) -> None:
    locked = {entry["name"]: entry["version"] for entry in _packages() if "version" in entry}
    assert version(package) == locked[package]


def _packages() -> list[dict[str, str]]:
    lock: dict[str, list[dict[str, str]]] = tomllib.loads((ROOT / "uv.lock").read_text())
    return lock["package"]

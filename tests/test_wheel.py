"""The built wheel, installed outside of a checkout, in a project that has its own module ``resources``."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS = """
home = "var/dagster"

[dvc]
remote = "var/remote"
cache = "var/cache"

[mlflow]
tracking_uri = "sqlite:///var/mlflow.db"

[shop]
orders = 3
"""
PYPROJECT = '[tool.dagster]\nmodule_name = "shop"\n'
RESOURCES = "PRICE = 2\n"
SHOP = """
import dagster as dg
import ml_assets as ml
import pandas as pd

from resources import PRICE


class ShopSettings(ml.Section, table="shop"):
    orders: int
    currency: str = "EUR"


class Shop(dg.ConfigurableResource[None]):
    orders: int
    currency: str


@ml.dataset()
def orders(shop: Shop) -> pd.DataFrame:
    return pd.DataFrame({"pieces": range(shop.orders), "currency": shop.currency})


@ml.feature_set()
def prices(orders: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"price": orders["pieces"] * PRICE})


@dg.definitions
def defs() -> dg.Definitions:
    target = ml.Target.from_environment(ShopSettings)
    settings = target.section(ShopSettings)
    shop = Shop(orders=settings.orders, currency=settings.currency)
    return target.bind(dg.Definitions(assets=[orders, prices], resources={"shop": shop}))
"""
MATERIALIZE = """
import json, sys
import ml_assets as ml
from ml_assets.code_version.version import reached
from shop import defs, prices

with ml.Target.for_command() as target:
    job = defs().resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=target.instance)
    events = result.get_asset_materialization_events()
    found = {event.asset_key.to_user_string(): event.materialization for event in events}
print(json.dumps({
    "package": ml.__file__,
    "rows": ml.record_of(found["orders"].metadata).content.rows,
    "versions": {name: ml.record_of(each.metadata).data_version for name, each in found.items()},
    "code": sorted(reached(prices.op.compute_fn.decorated_fn.__wrapped__)),
    "resources": sys.modules["resources"].__file__,
}))
"""


@dataclass(frozen=True)
class Installed:
    """A project in an environment that contains the wheel and references this environment for everything else."""

    environment: Path
    project: Path

    def run(self, program: str, *arguments: str, **variables: str) -> Any:
        """Return the parsed JSON output of a program of the environment."""
        own = {
            name: value for name, value in os.environ.items() if not name.startswith(("ML_ASSETS", "DAGSTER", "PYTHON"))
        }
        done = subprocess.run(
            [self.environment / "bin" / program, *arguments],
            cwd=self.project,
            env=own | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


def built(source: Path, form: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", form, "--directory", str(folder)]
    subprocess.run(command, cwd=source, capture_output=True, check=True)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    environment, project = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("users") / "shop"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    uv = [Path(sys.prefix) / "bin" / "uv", "--quiet", "--offline", "--no-cache", "pip", "install", "--no-deps"]
    subprocess.run([*uv, "--python", environment / "bin" / "python", wheel], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    # A .pth file adds packages but processes no further .pth files, one of which leads to this checkout.
    (packages / "suite.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    files = {
        "deployments/local/settings.toml": SETTINGS,
        "pyproject.toml": PYPROJECT,
        "resources.py": RESOURCES,
        "shop.py": SHOP,
    }
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    return Installed(environment, project)


def test_wheel_holds_one_package_with_what_the_link_leads_to(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"ml_assets"}
    assert {"ml_assets/py.typed", "ml_assets/resources/settings.py", "ml_assets/lineage/page/page.js"} <= set(names)
    tracked = subprocess.run(
        ["git", "ls-files", "ml_assets", "resources"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in set(tracked.stdout.split()) - {"ml_assets/resources"}:
        assert (f"ml_assets/{name}" if name.startswith("resources/") else name) in names


def test_wheel_is_the_same_by_way_of_the_source_distribution(wheel: Path, tmp_path: Path) -> None:
    for folder in ("sdist", "unpacked", "wheel"):
        (tmp_path / folder).mkdir()
    with tarfile.open(built(ROOT, "sdist", tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    again = built(source, "wheel", tmp_path / "wheel")
    assert _contents(again) == _contents(wheel)


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_project_with_resources_of_its_own_is_materialized_and_traced(installed: Installed) -> None:
    made = installed.run("python", "-c", MATERIALIZE, PYTHONPATH=".", ML_ASSETS__SHOP__ORDERS="4")
    assert Path(made["package"]).is_relative_to(installed.environment)
    assert made["resources"] == str(installed.project / "resources.py")
    assert made["rows"] == 4
    assert made["code"] == ["resources:PRICE", "shop:prices"]
    found = installed.run("ml-assets", "trace", "prices", "--json")
    by_asset = {node["asset"]: node["data_version"] for node in found["nodes"]}
    assert by_asset == made["versions"]


def test_the_other_name_is_banned() -> None:
    for line in ("import resources", "from resources.errors import InputError"):
        command = [
            Path(sys.prefix) / "bin" / "ruff",
            "check",
            "--stdin-filename",
            "ml_assets/x.py",
            "--select",
            "TID251",
            "-",
        ]
        done = subprocess.run(command, cwd=ROOT, input=f"{line}\n", capture_output=True, text=True, check=False)
        assert "Import ml_assets.resources, because" in done.stdout

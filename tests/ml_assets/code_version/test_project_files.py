"""A project consists of its own code and the data around it, and of nothing that is installed."""

import ast
from pathlib import Path
from types import FunctionType

import pandas as pd
import pytest

import ml_assets
from ml_assets.code_version.project_files import ProjectFiles
from ml_assets.flight_delays import training

PLUGIN = Path(ml_assets.__file__).parent


def project(file: Path, module: str, apart: tuple[Path, ...] = ()) -> ProjectFiles:
    code = compile("def f(): pass", str(file), "exec").co_consts[0]
    return ProjectFiles(FunctionType(code, {"__name__": module}), apart)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return the import folder of a package ``shop`` in a repository."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "src" / "shop" / "parts").mkdir(parents=True)
    return tmp_path / "src"


@pytest.mark.parametrize(
    ("file", "is_own"),
    [
        ("src/shop/parts/a.py", True),
        ("elsewhere/b.py", True),
        (".venv/lib/python3.11/site-packages/other/c.py", False),
        (pd.__file__, False),
        (ast.__file__, False),
        (str(PLUGIN / "datasets.py"), False),
        (str(PLUGIN / "resources" / "errors.py"), False),
        (training.__file__, False),
        ("<string>", False),
        ("relative.py", False),
    ],
)
def test_code_is_judged_by_its_file(source: Path, file: str, is_own: bool) -> None:
    path = file if file.startswith(("/", "<", "relative")) else str(source.parent / file)
    assert project(source / "shop" / "assets.py", "shop.assets").owns_code(path) is is_own


@pytest.mark.parametrize(
    ("file", "is_own"),
    [
        ("src/shop/queries/a.sql", True),
        ("src/shop/__pycache__/a.pyc", False),
        ("conf/a.yaml", True),
        (".env", True),
        (".git/config", False),
        ("store/files/md5/ab/c", False),
        ("lib/site-packages/other/a.json", False),
        ("../a.csv", False),
    ],
)
def test_data_belongs_to_the_repository_of_the_code(source: Path, file: str, is_own: bool) -> None:
    own = project(source / "shop" / "assets.py", "shop.assets", (source.parent / "store",))
    assert own.owns_file(str((source.parent / file).resolve())) is is_own


def test_an_installed_package_is_its_own_project(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "site-packages"
    (packages / "shop").mkdir(parents=True)
    own = project(packages / "shop" / "assets.py", "shop.assets")
    assert own.owns_code(str(packages / "shop" / "b.py"))
    assert own.owns_file(str(packages / "shop" / "a.sql"))
    assert not own.owns_code(str(packages / "other" / "b.py"))
    assert not own.owns_file(str(packages / "other" / "a.sql"))


def test_of_the_plug_in_only_the_package_of_the_function_counts() -> None:
    own = ProjectFiles(training.predict)
    assert own.owns_code(training.__file__)
    assert not own.owns_code(str(PLUGIN / "datasets.py"))
    assert not own.owns_file(str(PLUGIN / "lineage" / "page" / "x.js"))


@pytest.mark.parametrize("module", ["shop.assets", "__main__", "named_otherwise"])
def test_names_of_files_are_found_again_in_another_checkout(source: Path, module: str) -> None:
    own = project(source / "shop" / "assets.py", module)
    name = own.name(str(source.parent / "conf" / "a.yaml"))
    assert name == ("../conf/a.yaml" if module == "shop.assets" else "../../conf/a.yaml")
    assert own.path(name) == source.parent / "conf" / "a.yaml"

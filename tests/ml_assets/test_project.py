"""The project in which a command runs: small projects as others have them, in temporary folders."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_assets.project import load_code_locations
from ml_assets.resources.errors import SettingsError

DEFINITIONS = "import dagster as dg\ndefs = dg.Definitions(assets=[dg.AssetSpec('{name}')])\n"
DG_PROJECT = '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "{name}"\n'


@pytest.fixture(autouse=True)
def _own_imports() -> Iterator[None]:
    """Forget the modules of each project, because the names repeat."""
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.split(".")[0].startswith(("shop", "outer", "present", "defs_")):
            del sys.modules[name]


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write files. The content of a Python file is given as the name of its only asset."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(DEFINITIONS.format(name=content) if file.suffix == ".py" else content)
    return folder


def assets(folder: Path, module: str | None = None) -> list[str]:
    locations = load_code_locations(folder, module)
    return [key.to_user_string() for each in locations for key in each.asset_graph.get_all_asset_keys()]


def test_project_of_dg_is_found_from_a_folder_inside(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": DG_PROJECT.format(name="shop"), "shop/definitions.py": "of_dg"})
    inside = tmp_path / "shop" / "deep"
    inside.mkdir()
    assert assets(inside) == ["of_dg"]


def test_project_names_its_module(tmp_path: Path) -> None:
    named = DG_PROJECT.format(name="shop") + 'code_location_target_module = "shop.other"\n'
    write(tmp_path, {"pyproject.toml": named, "shop/definitions.py": "wrong", "shop/other.py": "right"})
    assert assets(tmp_path) == ["right"]


def test_sources_may_be_in_a_folder_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": DG_PROJECT.format(name="shop"), "src/shop/definitions.py": "of_src"})
    assert assets(tmp_path) == ["of_src"]


def test_project_in_dg_toml_is_found(tmp_path: Path) -> None:
    project = 'directory_type = "project"\n[project]\nroot_module = "shop"\n'
    write(tmp_path, {"dg.toml": project, "shop/definitions.py": "of_dg_toml"})
    assert assets(tmp_path) == ["of_dg_toml"]


def test_all_projects_of_a_workspace_are_found_from_above_and_one_from_inside(tmp_path: Path) -> None:
    workspace = 'directory_type = "workspace"\n[workspace]\nprojects = [{path = "a"}, {path = "b"}]\n'
    write(tmp_path, {"dg.toml": workspace})
    for name in ("a", "b"):
        named = DG_PROJECT.format(name=f"shop_{name}")
        write(tmp_path / name, {"pyproject.toml": named, f"shop_{name}/definitions.py": f"of_{name}"})
    assert assets(tmp_path) == ["of_a", "of_b"]
    assert assets(tmp_path / "b") == ["of_b"]


def test_project_of_dagster_is_found(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": '[tool.dagster]\nmodule_name = "shop_defs"\n', "shop_defs.py": "of_dagster"})
    assert assets(tmp_path) == ["of_dagster"]


def test_locations_of_a_workspace_file_are_found(tmp_path: Path) -> None:
    workspace = """
load_from:
  - python_module: shop_defs
  - python_file: {relative_path: other/defs_file.py, location_name: second}
  - grpc_server: {host: localhost, port: 4266, location_name: far}
"""
    write(tmp_path, {"workspace.yaml": workspace, "shop_defs.py": "of_module", "other/defs_file.py": "of_file"})
    write(tmp_path, {"pyproject.toml": '[project]\nname = "shop"\n'})
    assert assets(tmp_path) == ["of_module", "of_file"]


def test_nearest_project_counts(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": DG_PROJECT.format(name="outer"), "outer/definitions.py": "of_outer"})
    inner = write(tmp_path / "inner", {"workspace.yaml": "load_from: [{python_file: defs_inner.py}]"})
    write(inner, {"defs_inner.py": "of_inner"})
    assert assets(inner) == ["of_inner"]


def test_module_that_is_named_counts_wherever_it_is(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": DG_PROJECT.format(name="shop"), "present.py": "of_option"})
    assert assets(tmp_path, "present") == ["of_option"]
    with pytest.raises(SettingsError, match="cannot load the code location absent: "):
        assets(tmp_path, "absent")


@pytest.mark.parametrize("content", [None, "", "[project]\nname = 'x'\n", "[tool.dg.cli]\n", "[tool.dg.project]\n"])
def test_folder_outside_of_a_project_is_told_what_to_do(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        write(tmp_path, {"pyproject.toml": content})
    with pytest.raises(SettingsError, match=r"^no project: neither .* Next: run the command inside a project with "):
        assets(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pyproject.toml", "[tool"),
        ("pyproject.toml", "tool = 1"),
        ("pyproject.toml", "[tool]\ndagster = 1"),
        ("pyproject.toml", "[tool.dg.project]\nname = 'x'"),
        ("pyproject.toml", "[[tool.dg.workspace.projects]]\nname = 'x'"),
        ("workspace.yaml", "load_from: 1"),
        ("workspace.yaml", "{"),
    ],
)
def test_malformed_file_is_told(tmp_path: Path, name: str, content: str) -> None:
    write(tmp_path, {name: content})
    with pytest.raises(SettingsError, match=rf"^cannot read .*{name}: .* Next: correct the file, or set --module"):
        assets(tmp_path)


def test_project_that_cannot_be_imported_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": DG_PROJECT.format(name="shop_gone")})
    with pytest.raises(SettingsError, match=r"cannot load the code location shop_gone\.definitions: .* Next: correct"):
        assets(tmp_path)

"""The code location that a command finds in the project of the current folder."""

from pathlib import Path

import pytest

from ml_assets.project import load_code_location
from ml_assets.resources.errors import SettingsError

DEFINITIONS = "import dagster as dg\ndefs = dg.Definitions(assets=[dg.AssetSpec('{name}')])\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[tool.dagster]\nmodule_name = "named_by_pyproject"\n')
    (tmp_path / "named_by_pyproject.py").write_text(DEFINITIONS.format(name="of_pyproject"))
    return tmp_path


def test_it_is_that_of_dagsters_own_commands(root: Path) -> None:
    (asset,) = load_code_location(root).asset_graph.get_all_asset_keys()
    assert asset.to_user_string() == "of_pyproject"


def test_another_is_named_by_its_module(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "named_by_option.py").write_text(DEFINITIONS.format(name="of_option"))
    monkeypatch.chdir(root)
    (asset,) = load_code_location(root, "named_by_option").asset_graph.get_all_asset_keys()
    assert asset.to_user_string() == "of_option"


def test_a_module_is_searched_in_the_present_working_directory(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "present.py").write_text(DEFINITIONS.format(name="of_present"))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(SettingsError, match="cannot load the code location present"):
        load_code_location(root, "present")
    monkeypatch.chdir(root)
    (asset,) = load_code_location(root, "present").asset_graph.get_all_asset_keys()
    assert asset.to_user_string() == "of_present"


@pytest.mark.parametrize(
    "content", [None, "", "[tool.dagster]\nmodule_name = 1\n", "tool = 1\n", "[tool]\ndagster = 1\n"]
)
def test_a_project_that_names_none_is_told_how(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "pyproject.toml").write_text(content)
    with pytest.raises(SettingsError, match=r"does not name the module of your definitions\. Next: set --mod"):
        load_code_location(tmp_path)


def test_a_file_that_is_not_toml_is_told(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool")
    with pytest.raises(SettingsError, match=r"cannot read .*pyproject\.toml: "):
        load_code_location(tmp_path)

"""Components: YAML and Python declare the same assets, and `dg` scaffolds, checks and lists them."""

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster.components.core.component_tree import ComponentTreeException
from dagster_dg_cli.cli import cli as dg_cli

import ml_assets as ml
from ml_assets.artifacts.io_manager import STORAGE_KEY
from ml_assets.components.artifact import asset_options

PYPROJECT = """
[project]
name = "flower_shop"
version = "0.1"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "flower_shop"
registry_modules = ["ml_assets"]

[tool.dg.cli]
suppress_warnings = ["project_and_activated_venv_mismatch"]
"""
DEFINITIONS = """
from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
FUNCTIONS = '''
import pandas as pd
from sklearn.linear_model import LinearRegression

import ml_assets as ml

FACTOR = 2.0


def flowers() -> pd.DataFrame:
    """Flowers by width and height."""
    return pd.DataFrame({"width": [1.0, 2.0, 3.0], "height": [2.0, 4.0, 6.0]})


def measures(flowers: pd.DataFrame) -> pd.DataFrame:
    return flowers * FACTOR


def height(measures: pd.DataFrame) -> ml.TrainedModel:
    return ml.TrainedModel(LinearRegression().fit(measures[["width"]], measures["height"]), measures[["width"]])
'''
YAML = {
    "flowers": "type: ml_assets.Dataset\nattributes: {function: .flowers_code.flowers}\n",
    "measures": """
type: ml_assets.FeatureSet
attributes:
  function: flower_shop.defs.flowers.flowers_code.measures
  image: images/train
  pool: cpu
  asset:
    group_name: shop
    owners: ["team:flowers"]
    tags: {tier: gold}
    kinds: [pandas]
    deps: [elsewhere]
    metadata: {colour: blue}
---
type: ml_assets.Model
attributes:
  function: flower_shop.defs.flowers.flowers_code.height
  registered_name: height
  served: false
  seed: 7
  asset:
    description: The height.
""",
    "train": """
type: ml_assets.ContainerImage
attributes:
  name: train
  dockerfile: Dockerfile.train
  sources: [ml_assets]
  arguments: {A: "3.10", B: 1}
""",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project of dg whose definitions are components."""
    package = tmp_path / "src" / "flower_shop"
    for name, text in YAML.items():
        folder = package / "defs" / name
        folder.mkdir(parents=True)
        (folder / "defs.yaml").write_text(text)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (package / "__init__.py").touch()
    (package / "definitions.py").write_text(DEFINITIONS)
    (package / "defs" / "flowers" / "flowers_code.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(package.parent)
    yield package
    for name in [name for name in sys.modules if name.split(".")[0] == "flower_shop"]:
        del sys.modules[name]


def loaded(package: Path) -> dg.Definitions:
    return dg.load_from_defs_folder(path_within_project=package)


def in_python() -> dg.Definitions:
    from flower_shop.defs.flowers import flowers_code as code

    assert isinstance(code, ModuleType)
    image = ml.container_image(
        "train", dockerfile="Dockerfile.train", sources=["ml_assets"], arguments={"A": "3.10", "B": "1"}
    )
    measures = ml.feature_set(
        code.measures,
        image=image,
        pool="cpu",
        group_name="shop",
        owners=["team:flowers"],
        tags={"tier": "gold"},
        kinds={"pandas"},
        deps=["elsewhere"],
        metadata={"colour": "blue"},
    )
    height = ml.model(code.height, registered_name="height", served=False, seed=7, description="The height.")
    return dg.Definitions(assets=[image, ml.dataset(code.flowers), measures, height])


def specs(definitions: dg.Definitions) -> dict[str, dict[str, Any]]:
    found = {}
    whole = dg.Definitions.merge(definitions, dg.Definitions(resources={STORAGE_KEY: dg.mem_io_manager}))
    for spec in whole.resolve_all_asset_specs():
        fields = {name: getattr(spec, name) for name in ("key", "code_version", "group_name", "kinds", "description")}
        metadata = {
            key: value for key, value in spec.metadata.items() if key.startswith("ml_assets") or key == "colour"
        }
        tags = {key: value for key, value in spec.tags.items() if not key.startswith("dagster/component")}
        deps = {dep.asset_key for dep in spec.deps}
        rest = {"metadata": metadata, "tags": tags, "deps": deps, "owners": list(spec.owners)}
        found[spec.key.to_user_string()] = fields | rest | {"condition": spec.automation_condition}
    return found


def versions(definitions: dg.Definitions, instance: dg.DagsterInstance, resources: dict[str, Any]) -> dict[str, str]:
    whole = dg.Definitions.merge(definitions, dg.Definitions(resources=resources))
    job = whole.resolve_implicit_global_asset_job_def()
    selection = [dg.AssetKey(name) for name in ("flowers", "measures", "height")]
    result = job.execute_in_process(instance=instance, asset_selection=selection)
    events = result.get_asset_materialization_events()
    return {
        each.asset_key.to_user_string(): ml.record_of(each.materialization.metadata).data_version for each in events
    }


def test_yaml_and_python_declare_the_same_assets(
    project: Path, instance: dg.DagsterInstance, resources: dict[str, Any]
) -> None:
    of_yaml, of_python = loaded(project), in_python()
    assert specs(of_yaml) == specs(of_python)
    assert set(specs(of_yaml)) == {"images/train", "flowers", "measures", "height", "elsewhere"}
    made = versions(of_yaml, instance, resources)
    assert len(made) == 3
    assert versions(of_python, instance, resources) == made


def test_component_declares_the_same_in_python(project: Path) -> None:
    loaded(project)
    from flower_shop.defs.flowers import flowers_code as code

    made = ml.FeatureSet(function=code.measures, pool="cpu", asset={"kinds": ["pandas"]}).declared()
    expected = ml.feature_set(code.measures, pool="cpu", kinds={"pandas"})
    assert [*made.specs] == [*expected.specs]
    assert made.op.pool == "cpu"


def test_attributes_of_an_asset_are_options_of_a_factory() -> None:
    options = asset_options({"skippable": True, "kinds": ["a", "b"], "group_name": "shop"})
    assert options == {"output_required": False, "kinds": {"a", "b"}, "group_name": "shop"}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            ".absent.flowers",
            "the function flower_shop.defs.flowers.absent.flowers cannot be imported: No module named",
        ),
        (".flowers_code.absent", "cannot be imported: module 'flower_shop.defs.flowers.flowers_code' has no attribute"),
        ("flowers", "the function flowers cannot be imported: Empty module name"),
        (".flowers_code.FACTOR", "flowers_code.FACTOR is 2.0, not a function"),
    ],
)
def test_function_that_is_none_is_told(project: Path, path: str, message: str) -> None:
    text = f"type: ml_assets.Dataset\nattributes: {{function: {path}}}\n"
    (project / "defs" / "flowers" / "defs.yaml").write_text(text)
    with pytest.raises(ComponentTreeException) as raised:
        loaded(project).resolve_all_asset_specs()
    assert message in "".join(traceback.format_exception(raised.value))


def test_dg_scaffolds_checks_and_lists_the_components(project: Path) -> None:
    runner = CliRunner()

    def run(*arguments: str) -> tuple[int, str]:
        done = runner.invoke(dg_cli, arguments)
        return done.exit_code, done.output

    for kind, name in (("Dataset", "a-b"), ("Model", "class"), ("ContainerImage", "serve")):
        assert run("scaffold", "defs", f"ml_assets.{kind}", name)[0] == 0
    assert run("check", "yaml")[0] == 0
    made = specs(loaded(project))
    assert {"a_b", "make_class", "images/serve"} <= set(made)
    wrong = project / "defs" / "flowers" / "defs.yaml"
    wrong.write_text(
        "type: ml_assets.Model\nattributes:\n  function: flowers\n  registered: x\n  asset:\n    group: y\n"
    )
    code, out = run("check", "yaml")
    assert code == 1
    assert f"{wrong}:4 - ml_assets.Model attributes" in out
    assert "'registered' was unexpected" in out
    assert f"{wrong}:5 - ml_assets.Model attributes.asset {{'group': 'y'}} is not valid" in out
    code, out = run("list", "components", "--json")
    assert code == 0
    for name in ("ContainerImage", "Dataset", "FeatureSet", "Model"):
        assert f"ml_assets.{name}" in out

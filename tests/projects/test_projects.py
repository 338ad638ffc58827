"""Small projects in environments of their own: the newest packages that pip chooses, without a lock."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.ml_assets.serving.servers import Server
from tests.ports import free_port
from tests.projects.environment import ROOT, Environment, built, copy_of

# Characters that a URL would read otherwise.
NAME = "a b#1 c%20d"
ASSETS = ["flowers", "guesses", "images/train", "petals", "species"]
SELECTIONS = """
import sys, warnings
warnings.simplefilter("ignore")
import dagster as dg
import ml_assets
from importlib.metadata import version
for text in sys.argv[1:]:
    try:
        print(text, dg.AssetSelection.from_string(text))
    except dg.DagsterError as error:
        print(text, type(error).__name__)
print(version("antlr4-python3-runtime"))
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def plain(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The environment of ``pip install ml-assets``."""
    return Environment.with_newest(tmp_path_factory.mktemp("plain") / "venv", str(wheel))


@pytest.fixture(scope="module")
def beside_dvc(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The environment of ``pip install 'ml-assets[serve]' dvc pytest``."""
    folder = tmp_path_factory.mktemp("dvc") / "venv"
    return Environment.with_newest(folder, f"ml-assets[serve] @ {wheel.as_uri()}", "dvc", "pytest")


@pytest.fixture(scope="module")
def iris(plain: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project iris, in a folder with a difficult name, completely materialized by Dagster's own program."""
    project = copy_of("iris", tmp_path_factory.mktemp("users") / NAME)
    plain.run(project, "dagster", "asset", "materialize", "-m", "iris", "--select", "*")
    return project


def test_everything_is_kept_in_the_projects_folder_whatever_its_name_is(iris: Path) -> None:
    assert list(iris.parent.iterdir()) == [iris]
    kept = {file.relative_to(iris).parts[1] for file in (iris / "var").rglob("*") if file.is_file()}
    assert kept == {"dagster", "remote", "cache", "mlflow"}
    assert list((iris / "var" / "mlflow" / "artifacts").rglob("model.onnx"))


def test_lineage_is_answered_and_content_is_fetched(plain: Environment, iris: Path) -> None:
    traced = json.loads(plain.run(iris, "ml-assets", "trace", "guesses", "--json"))
    assert {node["asset"] for node in traced["nodes"]} >= set(ASSETS)
    assert "guesses  fresh" in plain.run(iris, "ml-assets", "why", "guesses")
    plain.run(iris, "ml-assets", "data", "get", "species", "fetched")
    assert list((iris / "fetched").rglob("model.onnx"))


def test_what_an_extra_installs_is_named_where_it_is_missing(plain: Environment, iris: Path) -> None:
    said = plain.run(iris, "python", "-m", "ml_assets.serving", succeeds=False)
    assert said == "error: httptools is not installed. Next: run pip install 'ml-assets[serve]'.\n"


def test_selections_mean_the_same_with_the_antlr_of_dvc(
    plain: Environment, beside_dvc: Environment, tmp_path: Path
) -> None:
    texts = [
        "*",
        "a",
        "+a+",
        "++a",
        "a+2",
        "key:a*",
        'key:"a b/c"',
        "group:g and not tag:x=y",
        "key:é",
        "(a or b) and c",
    ]
    texts += ["roots(key:a) or sinks(*)", "kind:python or owner:me@x", "key:a and", "1+key:a+2", "code_location:a"]
    here, there = (env.run(tmp_path, "python", "-c", SELECTIONS, *texts).splitlines() for env in (plain, beside_dvc))
    assert here[:-1] == there[:-1]
    assert (here[-1] >= "4.13", there[-1].startswith("4.9.")) == (True, True)


def test_pytest_and_dagster_start_beside_dvc(beside_dvc: Environment, tmp_path: Path) -> None:
    project = copy_of("iris", tmp_path / "iris")
    assert "3 passed" in beside_dvc.run(project, "pytest", "-q", "check_iris.py")
    listed = beside_dvc.run(project, "dagster", "asset", "list", "-m", "iris", "--select", "*")
    assert listed.split() == ASSETS


def test_model_is_served(beside_dvc: Environment, iris: Path, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "server.log"
    (graph,) = (iris / "var" / "cache" / "trees").rglob("model.onnx")
    variables = {"ML_ASSETS_SERVE_MODEL": f"file:{graph.parent}", "ML_ASSETS_SERVE_PORT": str(port)}
    command = [beside_dvc.folder / "bin" / "python", "-m", "ml_assets.serving"]
    with (
        log.open("w") as file,
        subprocess.Popen(command, env=variables, stdout=file, stderr=file, text=True) as process,
    ):
        server = Server(process, port, log)
        try:
            server.wait_until_ready()
            row = {"petal_length": 1.4, "petal_width": 0.2, "petal_area": 0.28}
            status, _, answer = server.ask("/invocations", {"dataframe_records": [row]})
            assert (status, json.loads(answer)["predictions"]) == (200, [0])
        finally:
            process.terminate()


def test_a_project_with_resources_of_its_own_is_materialized_and_traced(
    beside_dvc: Environment, tmp_path: Path
) -> None:
    project = copy_of("shop", tmp_path / "shop")
    made = json.loads(beside_dvc.run(project, "python", "-c", MATERIALIZE, ML_ASSETS__SHOP__ORDERS="4"))
    assert Path(made["package"]).is_relative_to(beside_dvc.folder)
    assert made["resources"] == str(project / "resources.py")
    assert made["rows"] == 4
    assert made["code"] == ["resources:PRICE", "shop:prices"]
    found = json.loads(beside_dvc.run(project, "ml-assets", "trace", "prices", "--json"))
    assert {node["asset"]: node["data_version"] for node in found["nodes"]} == made["versions"]

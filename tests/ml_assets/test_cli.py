"""The command line on a real home: its materializations are traced, fetched and exported."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from ml_assets import cli
from ml_assets.artifacts.io_manager import STORAGE_KEY
from ml_assets.datasets import dataset
from ml_assets.features import feature_set
from ml_assets.images import container_image
from ml_assets.models import TrainedModel, model
from ml_assets.resources.identity import Digest
from ml_assets.resources.image_builders.base_images import LOCK_FILE
from ml_assets.resources.models.flavors import load_model
from ml_assets.resources.provenance import RECORD_METADATA, SCHEMA_VERSION
from ml_assets.target import Target
from tests.migrated import Migrated
from tests.oci_registry import OciRegistry

PROGRAM = Path(sys.prefix) / "bin" / "ml-assets"
FRAME = pd.DataFrame({"distance": [1.0, 2.0, 3.0, 4.0], "delay": [2.0, 4.0, 6.0, 8.0]})
parts = dg.StaticPartitionsDefinition(["a", "b"])
train_image = container_image("train", dockerfile="Dockerfile.train", sources=["ml_assets", "resources"])


@dataset(partitions_def=parts)
def flights(context: dg.AssetExecutionContext) -> pd.DataFrame:
    return FRAME * (1 if context.partition_key == "a" else 2)


@dataset()
def notes() -> Path:
    file = Path(Target.from_environment().settings.home).parent / "notes.txt"
    file.write_text("notes")
    return file


@dataset()
def noted() -> Path:
    return Path(Target.from_environment().settings.home).parent / "new.txt"


@feature_set(key_prefix="tables", image=train_image)
def distances(flights: pd.DataFrame) -> pd.DataFrame:
    return flights


@model(registered_name="delay", ins={"distances": dg.AssetIn(["tables", "distances"])})
def delay_model(distances: pd.DataFrame) -> TrainedModel:
    from xgboost import XGBRegressor

    estimator = XGBRegressor(n_estimators=2, max_depth=2, n_jobs=1)
    estimator.fit(distances[["distance"]], distances["delay"])
    return TrainedModel(estimator, distances[["distance"]], {"mae": 1.0})


definitions = dg.Definitions(
    assets=[train_image, flights, notes, distances, delay_model],
    # Nothing is materialized with these definitions, but they must be complete.
    resources={STORAGE_KEY: dg.mem_io_manager},
)


@dataclass(frozen=True)
class Home:
    """A target's home, with the Dagster run and the data version of every asset in it."""

    folder: Path
    run_id: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, migrated: Migrated) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("ML_ASSETS", "DAGSTER"))]:
            patch.delenv(name)
        patch.setenv("DAGSTER_HOME", str(folder / "dagster"))
        patch.setenv("ML_ASSETS__DVC__REMOTE", str(folder / "remote"))
        patch.setenv("ML_ASSETS__DVC__CACHE", str(folder / "cache"))
        patch.setenv("ML_ASSETS__MLFLOW__TRACKING_URI", migrated.mlflow(folder / "mlflow" / "mlflow.db"))
        patch.setenv("ML_ASSETS__MLFLOW__ARTIFACT_LOCATION", str(folder / "mlflow" / "artifacts"))
        patch.setenv("COLUMNS", "200")
        with Target.from_environment() as target:
            yield _materialized(folder, target)


def _materialized(folder: Path, target: Target) -> Home:
    instance, resources, versions = target.instance, target.resources, {}
    for partition in parts.get_partition_keys():
        result = dg.materialize([flights], partition_key=partition, instance=instance, resources=resources)
        versions[f"flights@{partition}"] = _version(result, "flights")
    result = dg.materialize(
        [train_image, flights, notes, distances, delay_model],
        selection=[train_image, notes, distances, delay_model],
        instance=instance,
        resources=resources,
    )
    for step in ("notes", "tables__distances", "delay_model", "images__train"):
        versions[step] = _version(result, step)
    return Home(folder, result.run_id, versions)


def _version(result: dg.ExecuteInProcessResult, step: str) -> str:
    (event,) = result.asset_materializations_for_node(step)
    return (event.tags or {})["dagster/data_version"]


@pytest.fixture
def run(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs the program's entry point in this process."""

    def run_main(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["ml-assets", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Done(code, *capsys.readouterr())

    return run_main


def test_program_runs_as_it_is_installed(home: Home) -> None:
    done = subprocess.run([PROGRAM, "trace", "flights@a", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    traced = {node["asset"] for node in json.loads(done.stdout)["nodes"]}
    assert traced == {"flights", "tables/distances", "delay_model"}
    failed = subprocess.run([PROGRAM, "trace", "nothing"], capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith("error: no recorded artifact matches 'nothing'. Next: ")
    assert len(failed.stderr.splitlines()) == 1


def test_trace_for_machines_has_the_promised_form(home: Home, run: Run) -> None:
    done = run("trace", "delay_model", "--json")
    graph = json.loads(done.out)
    assert list(graph) == ["nodes", "edges"]
    nodes = {node["id"]: node for node in graph["nodes"]}
    for node in nodes.values():
        assert list(node) == [
            "id",
            "kind",
            "asset",
            "partition",
            "data_version",
            "image",
            "environment",
            "mlflow_run",
            "model_version",
            "aliases",
            "is_deployed",
            "collected",
            "commit",
            "dagster_run",
            "timestamp",
        ]
    assert {tuple(edge) for edge in graph["edges"]} == {("from", "to")}
    edges = {(nodes[edge["from"]]["asset"], nodes[edge["to"]]["asset"]) for edge in graph["edges"]}
    assert edges == {
        ("flights", "tables/distances"),
        ("images/train", "tables/distances"),
        ("tables/distances", "delay_model"),
    }
    (made,) = [node for node in nodes.values() if node["asset"] == "delay_model"]
    assert (made["kind"], made["partition"], made["image"]) == ("model", None, None)
    assert made["data_version"] == home.versions["delay_model"]
    assert made["dagster_run"] == home.run_id
    assert re.fullmatch(r"[0-9a-f]{32}", made["mlflow_run"])
    assert re.fullmatch(r"[0-9a-f]{40}", made["commit"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", made["timestamp"])


def test_every_kind_of_reference_is_understood(home: Home, run: Run) -> None:
    graph = json.loads(run("trace", "delay_model", "--json").out)
    (made,) = [node for node in graph["nodes"] if node["asset"] == "delay_model"]
    references = (
        made["data_version"],
        Digest.parse(made["data_version"]).short,
        made["environment"],
        made["mlflow_run"],
        "models:/delay/1",
        made["dagster_run"],
        made["commit"],
        made["id"],
    )
    for reference in references:
        done = run("trace", reference, "--json")
        assert done.code == 0, done.err
        assert made["id"] in {node["id"] for node in json.loads(done.out)["nodes"]}, reference


def test_trace_for_people_is_a_tree(run: Run) -> None:
    done = run("trace", "tables/distances")
    came_from, _, made_from = done.out.partition("Used by")
    assert "flights@a" in came_from
    assert "images/train" in came_from
    assert "delay_model" in made_from
    assert "not containerized" in done.out


def traced_assets(run: Run, *options: str) -> set[str]:
    done = run("trace", *options, "--json")
    assert done.code == 0, done.err
    return {node["asset"] for node in json.loads(done.out)["nodes"]}


def test_trace_answers_with_what_is_asked_for(home: Home, run: Run) -> None:
    table = "tables/distances"
    assert traced_assets(run, table, "--up") == {"flights", "images/train", table}
    assert traced_assets(run, table, "--down") == {table, "delay_model"}
    assert traced_assets(run, table, "--up", "--down") == traced_assets(run, table)
    assert traced_assets(run, "flights", "--depth", "1") == {"flights", table}
    assert traced_assets(run, "flights", "--kind", "model", "--kind", "dataset") == {"flights", "delay_model"}
    assert traced_assets(run, "flights", "--since", "2100-01-01") == set()
    assert traced_assets(run, "flights", "--since", "2013-01-01T10:30") == traced_assets(run, "flights")
    listed = run("trace", "flights", "--down", "--kind", "model").out
    assert "delay_model" in listed
    assert table not in listed
    assert "Inputs" not in listed


def test_provenance_of_a_model_names_all_that_made_it(home: Home, run: Run) -> None:
    statement = json.loads(run("provenance", "models:/delay/1", "--json").out)
    (subject,) = statement["subject"]
    assert subject["name"] == "delay_model"
    assert home.versions["delay_model"] == f"md5:{subject['digest']['dvcDirectoryMd5']}.dir"
    found = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    direct = {each["name"]: each["annotations"].get("direct") for each in found if "/" in each["name"]}
    assert direct == {"tables/distances": True, "images/train": False}
    assert {each["name"] for each in found} >= {"flights@a", "flights@b", "source"}
    told = run("provenance", "models:/delay/1").out
    assert told.index("models:/delay/1") < told.index("Direct dependencies") < told.index("tables/distances")
    assert told.index("Indirect dependencies") < told.index("flights@a")
    several = run("provenance", "flights")
    assert several.code == 2
    assert "matches 2 materializations" in several.err


def test_trace_is_a_page_and_a_flowchart(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "lineage.html"
    done = run("trace", "delay_model", "--html", str(file))
    assert (done.out, done.err) == ("", f"note: wrote {file}\n")
    page = file.read_text()
    assert '"name":"tables/distances"' in page
    assert '"parameters":' in page
    drawn = run("trace", "delay_model", "--up", "--mermaid").out
    assert drawn.startswith("flowchart LR\n")
    assert drawn.count(" --> ") == len(json.loads(run("trace", "delay_model", "--up", "--json").out)["edges"])
    events = tmp_path / "events.jsonl"
    told = run("trace", "delay_model", "--up", "--openlineage", events)
    assert (told.out, told.err) == (
        "",
        f"note: wrote {len(events.read_text().splitlines())} OpenLineage events to {events}\n",
    )
    failed = run("trace", "delay_model", "--html", str(tmp_path / "nowhere" / "lineage.html"))
    assert failed.code == 1
    assert "cannot be written: No such file or directory. Next:" in failed.err


def test_trace_says_what_it_does_not_take(home: Home, run: Run) -> None:
    wrong = run("trace", "flights", "--kind", "mdoel")
    assert wrong.code == 2
    assert "'mdoel' is not one of dataset, feature set, model, image" in " ".join(wrong.err.split())
    large = run("trace", "flights", "--limit", "2")
    assert large.code == 1
    assert "more than 2 nodes. Next: narrow the question with --up or --down" in large.err


def test_impact_names_what_must_be_made_again_models_first(home: Home, run: Run) -> None:
    before = json.loads(run("impact", "flights", "--json").out)
    assert before["superseded"] == 0
    assert [(each["asset"], each["urgency"]) for each in before["affected"]] == [
        ("delay_model", "registered"),
        ("flights", "current"),
        ("flights", "current"),
        ("tables/distances", "current"),
    ]
    client = MlflowClient(f"sqlite:///{home.folder}/mlflow/mlflow.db")
    client.set_registered_model_alias("delay", "champion", "1")
    try:
        done = run("impact", "images/train")
        assert done.out.index("Deployed models") < done.out.index("models:/delay/1") < done.out.index("To rebuild")
    finally:
        client.delete_registered_model_alias("delay", "champion")


def test_models_are_traced_by_alias_and_shown_with_their_aliases(home: Home, run: Run) -> None:
    client = MlflowClient(f"sqlite:///{home.folder}/mlflow/mlflow.db")
    client.set_registered_model_alias("delay", "champion", "1")
    try:
        for command in ("trace", "impact"):
            assert "models:/delay/1 @champion  deployed" in run(command, "models:/delay@champion").out
        (made,) = json.loads(run("trace", "models:/delay@champion", "--depth", "0", "--json").out)["nodes"]
        assert (made["model_version"], made["aliases"], made["is_deployed"]) == ("models:/delay/1", ["champion"], True)
        assert json.loads(run("diff", "models:/delay@champion", "delay_model", "--json").out)["differences"] == []
        assert "@champion" not in run("trace", "delay_model", "--no-aliases").out
    finally:
        client.delete_registered_model_alias("delay", "champion")
    gone = run("trace", "models:/delay@champion")
    assert gone.code == 2
    assert "no version of the registered model delay has the alias 'champion'" in gone.err


def test_impact_is_answered_where_mlflow_is_not(home: Home, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_ASSETS__MLFLOW__TRACKING_URI", "http://127.0.0.1:1")
    done = run("impact", "flights", "--json")
    assert json.loads(done.out)["affected"][0]["urgency"] == "registered"
    assert done.err.startswith(
        "note: the answer omits model aliases and deployments: the MLflow server http://127.0.0.1:1 "
    )


def test_diff_names_what_differs_between_two_origins(home: Home, run: Run) -> None:
    same = json.loads(run("diff", "delay_model", "models:/delay/1", "--json").out)
    assert same["differences"] == []
    assert "no recorded differences" in run("diff", "notes", "notes").out
    found = json.loads(run("diff", "tables/distances", "flights@a", "--json").out)["differences"]
    assert {"aspect": "data", "what": "flights@b", "before": home.versions["flights@b"], "after": None} in found
    assert found[0]["aspect"] == "data"
    several = run("diff", "flights", "notes")
    assert several.code == 2
    assert "'flights' matches 2 materializations: flights@a#" in several.err


WHY = ("--module", "tests.ml_assets.test_cli")


def test_why_says_what_changed_and_what_made_it_run(home: Home, run: Run) -> None:
    done = run("why", "delay_model", "--json", *WHY)
    assert done.code == 0, done.err
    fresh = json.loads(done.out)
    assert (fresh["status"], fresh["causes"], fresh["launch"]["kind"]) == ("fresh", [], "user")
    assert fresh["made"]["data_version"] == home.versions["delay_model"]
    assert "Why it last ran" in run("why", "flights@a", *WHY).out
    counted = json.loads(run("why", "flights", "--json", *WHY).out)
    assert counted["statuses"] == {"fresh": 2, "stale": 0, "missing": 0}
    assert "2 partitions: 2 fresh" in run("why", "flights", *WHY).out


def test_why_names_the_assets_that_there_are(home: Home, run: Run) -> None:
    unknown = run("why", "flihgts", *WHY)
    assert unknown.code == 2
    assert "no asset 'flihgts' is defined. Next: choose one of: delay_model, " in unknown.err
    lost = run("why", "flights", "--module", "no_such_module")
    assert lost.code == 2
    assert "cannot load the code location no_such_module" in lost.err


def test_the_lineage_index_is_made_anew_on_demand(home: Home, run: Run) -> None:
    before = run("trace", "flights", "--json").out
    file = home.folder / "dagster" / "lineage.db"
    done = run("lineage", "rebuild", "--json")
    assert json.loads(done.out) == {"place": str(file), "nodes": 6}
    file.write_bytes(b"broken")
    again = run("trace", "flights", "--json")
    assert again.out == before
    assert re.fullmatch(r"note: cannot read the lineage index \(.*\), rebuilding it: .*\n", again.err)


def test_gc_says_what_would_go_and_asks_before_it_does(home: Home, run: Run) -> None:
    everything = json.loads(run("gc", "--grace", "0", "--json").out)
    assert (everything["dry_run"], everything["kept"], everything["materializations"]) == (True, 6, 6)
    assert (everything["size"], everything["data"], everything["mlflow"]) == (0, [], [])
    assert "nothing to delete" in run("gc").out
    wrong = run("gc", "--only", "dta")
    assert wrong.code == 2
    assert "'dta' is not one of data, images, mlflow, cache" in " ".join(wrong.err.split())


def test_gc_deletes_what_was_replaced_and_whoever_asks_is_told(home: Home, run: Run, tmp_path: Path) -> None:
    before = home.versions["notes"]
    with Target.from_environment() as target:
        (home.folder / "new.txt").write_text("newer notes")
        dg.materialize([noted], instance=target.instance, resources=target.resources)
        (home.folder / "new.txt").write_text("newest notes")
        dg.materialize([noted], instance=target.instance, resources=target.resources)
    choice = ("gc", "--keep-last", "1", "--grace", "0", "--only", "data", "--only", "cache", "--apply")
    refused = run(*choice)
    assert refused.code == 1
    assert "nobody can confirm the deletion without a terminal. Next: run again with --yes." in refused.err
    (gone,) = json.loads(run(*choice[:-1], "--json").out)["data"]
    done = run(*choice, "--yes")
    assert done.code == 0, done.err
    assert f"deleted {gone['version']}" in done.err
    lost = run("data", "get", f"noted@{gone['version']}", tmp_path)
    assert lost.code == 1
    assert f"noted: ml-assets gc deleted the content {gone['version']} on " in lost.err
    assert "deleted by gc 20" in run("trace", gone["of"][0], "--no-aliases").out
    assert run("data", "get", f"notes@{before}", tmp_path).code == 0


def test_damaged_content_is_named_with_the_places_to_repair_it_from(home: Home, run: Run, tmp_path: Path) -> None:
    whole = run("data", "verify", "--remote", "--cache")
    assert whole.code == 0, whole.err
    assert whole.out.count("all intact") == 2
    digest = Digest.parse(home.versions["flights@b"])
    objects = [home.folder / place / "files" / "md5" / digest.hex[:2] / digest.hex[2:] for place in ("remote", "cache")]
    content = objects[0].read_bytes()
    copy = tmp_path / "backup" / "content" / "files" / "md5" / digest.hex[:2] / digest.hex[2:]
    copy.parent.mkdir(parents=True)
    copy.write_bytes(content)
    objects[1].unlink(missing_ok=True)
    objects[0].chmod(0o644)
    try:
        objects[0].write_bytes(content[::-1])
        done = run("data", "verify", "flights@b", "--remote", "--backup", tmp_path / "backup", "--json")
        told = run("data", "verify", "flights@b")
    finally:
        objects[0].write_bytes(content)
    assert done.code == told.code == 1
    in_remote, in_backup = json.loads(done.out)["places"]
    [problem] = in_remote["problems"]
    assert (problem["object"], problem["condition"], problem["of"]) == (digest.hex, "damaged", ["flights@b"])
    assert problem["repairable_from"] == [f"backup {tmp_path / 'backup'}"]
    assert in_backup["problems"] == []
    assert f"damaged {digest.hex} of flights@b: no intact copy was found" in told.out


@pytest.mark.parametrize(
    ("reference", "file"),
    [("flights@a", "flights.parquet"), ("notes", "notes"), ("tables/distances", "tables-distances.parquet")],
)
def test_frame_and_file_are_fetched(run: Run, tmp_path: Path, reference: str, file: str) -> None:
    done = run("data", "get", reference, tmp_path / "new" / "folder")
    assert done.code == 0, done.err
    assert str(tmp_path / "new" / "folder" / file) in done.out
    fetched = tmp_path / "new" / "folder" / file
    if file.endswith(".parquet"):
        assert list(pd.read_parquet(fetched).columns) == list(FRAME.columns)
    else:
        assert fetched.read_text() == "notes"


def test_model_is_fetched_and_predicts(run: Run, tmp_path: Path) -> None:
    done = run("data", "get", "delay_model", tmp_path, "--json")
    answer = json.loads(done.out)
    assert answer["content"]["format"] == "model"
    assert answer["path"] == str(tmp_path / "delay_model")
    assert len(load_model(tmp_path / "delay_model").predict(FRAME[["distance"]])) == len(FRAME)


def test_version_is_fetched_whole_or_shortened(home: Home, run: Run, tmp_path: Path) -> None:
    version = Digest.parse(home.versions["flights@b"])
    for number, name in enumerate((str(version), version.value, version.short, version.hex[:6])):
        done = run("data", "get", f"flights@{name}", tmp_path / str(number))
        assert done.code == 0, done.err
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / str(number) / "flights.parquet"), FRAME * 2)


def test_nothing_is_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    done = run("data", "get", "notes", tmp_path)
    assert done.code == 1
    assert done.err.startswith("error: notes: ")
    assert "already exists" in done.err
    assert (tmp_path / "notes").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trace", "nothing"], "no recorded artifact matches 'nothing'"),
        (["impact", "nothing"], "no recorded artifact matches 'nothing'"),
        (["diff", "notes", "nothing"], "no recorded artifact matches 'nothing'"),
        (["trace", "00000000-0000-4000-8000-000000000000"], "no recorded artifact matches '00000000-"),
        (["trace", "md5:12"], "'md5:12' is too short for a digest. Next: write at least 6 digits."),
        (["trace", "models:/delay/latest"], "Next: write it as models:/name/version or models:/name@alias."),
        (["trace", " "], "the reference is empty. Next: write an asset, a version, an image"),
        (["trace", b"flights\xff".decode(errors="surrogateescape")], "cannot be a reference"),
        (["data", "get", "nothing", "x"], "no recorded artifact of an asset 'nothing' has content"),
        (
            ["data", "get", "flights", "x"],
            "2 partitions or versions of flights match. Next: choose one of: flights@a, flights@b.",
        ),
        (["data", "get", "flights@c", "x"], "flights has no partition or version c. Next: choose one of: b, a."),
        (["data", "export", "flights@ffffff"], "flights has no partition or version ffffff"),
        (["data", "export", "@a"], "an asset is written key or key@partition"),
    ],
)
def test_what_cannot_be_found_is_told_in_one_line(run: Run, arguments: list[str], expected: str) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert expected in done.err
    assert len(done.err.splitlines()) == 1


@pytest.fixture
def other_home(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """A home with two versions whose digests begin alike, and a record from a later version of this project."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with Target.from_environment() as target:
        for asset, digits in {"first": "abcdef1", "second": "abcdef2"}.items():
            tags = {"dagster/data_version": f"md5:{digits:0<32}"}
            target.instance.report_runless_asset_event(dg.AssetMaterialization(asset, tags=tags))
        later = {RECORD_METADATA: dg.MetadataValue.json({"schema_version": SCHEMA_VERSION + 1})}
        target.instance.report_runless_asset_event(dg.AssetMaterialization("later", metadata=later))
        yield target.instance


@pytest.mark.parametrize("command", ["trace", "impact"])
def test_what_has_no_right_answer_gets_none(other_home: dg.DagsterInstance, run: Run, command: str) -> None:
    for reference, code, expected in (
        ("abcdef", 2, "'abcdef' is ambiguous: it matches digest md5:abcdef1"),
        ("md5:abcdef", 2, "and digest md5:abcdef2"),
        (
            "later",
            1,
            f"its provenance record has format {SCHEMA_VERSION + 1}, but this version reads formats up to"
            f" {SCHEMA_VERSION}",
        ),
    ):
        done = run(command, reference)
        assert (done.code, done.out) == (code, "")
        assert done.err.startswith("error: ")
        assert expected in done.err
        assert len(done.err.splitlines()) == 1
    assert json.loads(run("trace", "abcdef1", "--json").out)["nodes"][0]["asset"] == "first"


def test_a_wiped_asset_and_a_place_that_cannot_be_written_are_told(other_home: dg.DagsterInstance, run: Run) -> None:
    assert run("trace", "first").code == 0
    other_home.wipe_assets([dg.AssetKey("first")])
    assert run("trace", "first").code == 2
    index = Path(other_home.root_directory) / "lineage.db"
    index.unlink()
    index.mkdir()
    for command in (["trace", "second"], ["lineage", "rebuild"]):
        done = run(*command)
        assert (done.code, done.out) == (1, "")
        assert f"error: cannot write the lineage index ({index}): " in done.err
        assert "Next: make the location writable" in done.err
    index.rmdir()
    assert run("trace", "second").code == 0


def test_image_has_no_content_to_fetch(run: Run, tmp_path: Path) -> None:
    done = run("data", "get", "images/train", tmp_path)
    assert done.code == 1
    assert "images/train: the artifact is an image" in done.err


def test_unknown_target_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_ASSETS_TARGET", "moon")
    done = run("trace", "flights@a")
    assert done.code == 2
    assert "error: ML_ASSETS_TARGET is 'moon'" in done.err


def test_home_that_cannot_be_made_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "file"))
    done = run("trace", "flights@a")
    assert done.code == 2
    assert f"error: cannot use the Dagster home {tmp_path / 'file'}" in done.err


def test_wrong_dagster_yaml_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dagster.yaml").write_text("run_monitorin: {}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    done = run("trace", "flights@a")
    assert done.code == 2
    assert f"error: {tmp_path / 'dagster.yaml'} is invalid" in done.err


def test_remote_that_does_not_answer_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_ASSETS__DVC__CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ML_ASSETS__DVC__REMOTE", "s3://bucket/path")
    monkeypatch.setenv("ML_ASSETS__DVC__OPTIONS__ENDPOINTURL", "http://127.0.0.1:1")
    monkeypatch.setenv("ML_ASSETS__DVC__OPTIONS__ACCESS_KEY_ID", "x")
    monkeypatch.setenv("ML_ASSETS__DVC__OPTIONS__SECRET_ACCESS_KEY", "x")
    done = run("data", "get", "notes", tmp_path / "out")
    assert done.code == 1
    assert done.err.startswith("error: notes: ")
    assert "Next: " in done.err
    assert not (tmp_path / "out" / "notes").exists()


def test_exported_file_is_pulled_by_plain_dvc(home: Home, run: Run, tmp_path: Path) -> None:
    for reference, file in (("flights@b", "flights.parquet"), ("delay_model", "delay_model")):
        done = run("data", "export", reference, "--output", tmp_path / f"{file}.dvc", "--json")
        assert done.code == 0, done.err
        answer = json.loads(done.out)
        assert answer["path"] == str(tmp_path / f"{file}.dvc")
        assert answer["remote"] == str(home.folder / "remote")
    environment = os.environ | {"DVC_SITE_CACHE_DIR": str(tmp_path / "site"), "DVC_NO_ANALYTICS": "1"}
    for command in (
        ["init", "--no-scm", "--quiet"],
        ["remote", "add", "--default", "origin", str(home.folder / "remote"), "--quiet"],
        ["pull", "--quiet"],
    ):
        done_by_dvc = subprocess.run(
            [sys.executable, "-m", "dvc", *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done_by_dvc.returncode == 0, done_by_dvc.stdout + done_by_dvc.stderr
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "flights.parquet"), FRAME * 2)
    predicted = load_model(tmp_path / "delay_model").predict(FRAME[["distance"]])
    assert np.isfinite(predicted).all()


def test_exported_file_says_what_made_it(home: Home, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "delay_model.dvc"
    assert run("data", "export", "delay_model", "-o", file).code == 0
    meta = yaml.safe_load(file.read_text())["meta"]
    assert (meta["asset"], meta["dagster_run"]) == ("delay_model", home.run_id)
    assert meta["data_version"] == home.versions["delay_model"]
    assert meta["model_version"] == "models:/delay/1"
    for name in ("materialization", "data_version", "mlflow_run", "model_version"):
        starts = json.loads(run("trace", meta[name], "--depth", "0", "--json").out)["nodes"]
        assert [node["id"] for node in starts] == [meta["materialization"]]


def test_export_goes_where_it_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deployments").symlink_to(Path(__file__).parents[2] / "deployments")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ML_ASSETS_TARGET", "local")
    assert run("data", "export", "notes").out.startswith("wrote notes.dvc\nin a DVC repository: dvc remote add")
    assert "path: notes" in (tmp_path / "notes.dvc").read_text()
    wrong = run("data", "export", "notes", "-o", "notes.txt")
    assert wrong.code == 2
    assert "does not end in .dvc" in wrong.err
    nowhere = run("data", "export", "notes", "-o", "none/notes.dvc")
    assert nowhere.code == 1
    assert "none/notes.dvc cannot be written: No such file or directory" in nowhere.err


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate project folder, with a lock that names one base image."""
    folder = tmp_path / "project"
    (folder / "deployments" / "local").mkdir(parents=True)
    committed = Path(__file__).parents[2] / "deployments" / "local" / "settings.toml"
    (folder / "deployments" / "local" / "settings.toml").write_text(committed.read_text())
    lock = {"schema_version": 1, "images": {"python": {"repository": "library/python", "tag": "slim", "answer": None}}}
    (folder / LOCK_FILE).write_text(json.dumps(lock))
    monkeypatch.chdir(folder)
    return folder


FOREIGN = """
import dagster as dg
import pandas as pd

import ml_assets as ml

image = ml.container_image("till", dockerfile="Dockerfile", sources=["src/foreign_shop"])


@ml.dataset
def sales() -> pd.DataFrame:
    return pd.DataFrame({"x": [1]})


@dg.definitions
def defs() -> dg.Definitions:
    return ml.on_target(dg.Definitions(assets=[image, sales]))
"""


@pytest.fixture
def foreign(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory inside a project of somebody else, with a dataset and an image."""
    inside = project / "src" / "foreign_shop"
    inside.mkdir(parents=True)
    (project / "pyproject.toml").write_text('[tool.dg.project]\nroot_module = "foreign_shop"\n')
    (inside / "definitions.py").write_text(FOREIGN)
    (project / "Dockerfile").write_text("FROM scratch AS code\n")
    (project / "uv.lock").write_text("version = 1\n")
    monkeypatch.chdir(inside)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield project
    for name in [name for name in sys.modules if name.startswith("foreign_shop")]:
        del sys.modules[name]


def test_commands_know_the_project_that_they_stand_in(run: Run, foreign: Path) -> None:
    why = run("why", "sales")
    assert (why.code, why.err) == (0, "")
    assert "sales" in why.out
    unknown = run("why", "delay_model")
    assert (unknown.code, unknown.out) == (2, "")
    assert "no asset 'delay_model' is defined. Next: choose one of: images/till, sales; or set --module" in unknown.err
    built = run("images", "bootstrap")
    assert (built.code, built.out) == (0, "images/till: not containerized\n"), built.err
    wrong = run("images", "bootstrap", "train")
    assert wrong.code == 2
    assert "no image asset has the name train. Next: choose from: till." in wrong.err


@pytest.mark.parametrize(
    "command",
    [
        ("why", "flights"),
        ("trace", "flights"),
        ("reproduce", "flights"),
        ("images", "bootstrap"),
        ("images", "update"),
        ("data", "get", "flights", "out"),
        ("usage",),
        ("gc",),
        ("sweep",),
    ],
    ids=" ".join,
)
def test_commands_outside_of_a_project_say_what_to_do(
    run: Run, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*command)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: no project: no deployments/*/settings.toml in {tmp_path} or the folders above")
    assert len(done.err.splitlines()) == 1


def test_base_images_are_updated_from_what_the_registry_answers(
    run: Run, project: Path, oci_registry: OciRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = oci_registry.push_image("library/python", "slim")
    done = run("images", "update", "--registry", oci_registry.host)
    assert (done.code, done.out) == (0, f"python: {digest}\n"), done.err
    assert json.loads((project / LOCK_FILE).read_text())["images"]["python"]["answer"]["digest"] == digest
    monkeypatch.setenv("ML_ASSETS__IMAGES__REGISTRY", oci_registry.host)
    assert run("images", "update").out == f"python: {digest} (unchanged)\n"
    answer = json.loads(run("images", "update", "--json").out)
    assert answer == {
        "registry": oci_registry.host,
        "images": [{"name": "python", "before": digest, "after": digest, "error": None}],
    }


def test_registry_that_does_not_answer_leaves_the_lock_as_it_is(run: Run, project: Path) -> None:
    before = (project / LOCK_FILE).read_bytes()
    done = run("images", "update", "--registry", "127.0.0.1:1")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: python: ")
    assert (project / LOCK_FILE).read_bytes() == before


def test_update_without_a_registry_says_how_to_name_one(run: Run, project: Path) -> None:
    done = run("images", "update")
    assert done.code == 2
    assert "Next: use --registry HOST[:PORT], or set images.registry." in done.err


def test_doctor_says_what_to_do_and_fails_where_there_is_a_fault(
    home: Home, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = run("doctor", "--json")
    findings = json.loads(answer.out)["findings"]
    assert (answer.code, {each["verdict"] for each in findings} - {"warning"}) == (0, {"ok"})
    assert {each["check"] for each in findings} == {"settings", "packages", "database", "content", "tracking", "gpu"}
    monkeypatch.setenv("ML_ASSETS__DVC__CACHE", "/proc/cache")
    faulty = run("doctor")
    assert faulty.code == 1
    assert "fault   content: the content cache /proc/cache cannot be written" in faulty.out
    assert "Next: make /proc writable, or set another path" in faulty.out
    monkeypatch.setenv("ML_ASSETS_TARGET", "moon")
    assert run("doctor").code == 1


def test_usage_is_told_of_all_assets_or_those_that_are_named(home: Home, run: Run) -> None:
    answer = json.loads(run("usage", "--json").out)
    by_name = {each["asset"]: each for each in answer["assets"]}
    assert set(by_name) >= {"flights", "notes", "tables/distances", "delay_model", "images/train"}
    assert by_name["flights"]["count"] == by_name["flights"]["measured"] == 2
    assert by_name["delay_model"]["phases"]["output"] > 0
    assert by_name["delay_model"]["advice"]["memory_bytes"] >= 256 * 2**20
    named = run("usage", "flights", "--since", "2020-01-01")
    assert named.out.startswith("usage since 2020-01-01 00:00 UTC")
    assert "notes" not in named.out
    assert run("usage", "--since", "2999-01-01").out == "no usage was measured since 2999-01-01 00:00 UTC\n"
    assert run("usage", "--publish").code == 0
    with Target.from_environment() as target:
        (published,) = target.instance.fetch_materializations(dg.AssetKey("usage"), limit=5).records
        assert published.asset_materialization is not None
        assert "| flights | 2 |" in str(published.asset_materialization.metadata["usage"].value)
        target.instance.wipe_assets([dg.AssetKey("usage")])
    unknown = run("usage", "flight")
    assert (unknown.code, unknown.out) == (2, "")
    assert "did you mean flights?" in unknown.err


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["trace"],
        ["impact"],
        ["why"],
        ["gc"],
        ["provenance"],
        ["lineage", "rebuild"],
        ["sweep"],
        ["usage"],
        ["doctor"],
        ["data", "get"],
        ["data", "export"],
        ["images", "update"],
    ],
    ids=" ".join,
)
def test_help_teaches_by_examples(run: Run, command: list[str]) -> None:
    done = run(*command, "--help")
    assert done.code == 0
    _, _, examples = done.out.partition("Examples:")
    assert " ".join(["ml-assets", *command]) in examples
    assert not command or "--json" in done.out


def test_shell_completion_can_be_installed(run: Run) -> None:
    assert "--install-completion" in run("--help").out

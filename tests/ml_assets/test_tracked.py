"""Datasets tracked with real git and real ``dvc``, observed and loaded by Dagster."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster._core.definitions.observe import observe as dagster_observe

from ml_assets.artifacts.io_manager import STORAGE_KEY, ArtifactStorage
from ml_assets.features import feature_set
from ml_assets.resources.dvc.git import tracked_version
from ml_assets.resources.errors import DefinitionError, InputError
from ml_assets.resources.provenance import record_of
from ml_assets.tracked import tracked_dataset, tracked_dataset_sensor
from tests.ml_assets.lineage.index.indexed import load_graph


@dataclass
class Repository:
    """A git and DVC repository with commits of two versions of ``labels.csv``; tests move ``main``."""

    folder: Path
    first: str = ""
    second: str = ""

    def run(self, *command: str) -> str:
        environment = os.environ | {
            "DVC_SITE_CACHE_DIR": str(self.folder.parent / "site"),
            "DVC_GLOBAL_CONFIG_DIR": str(self.folder.parent / "site"),
            "DVC_NO_ANALYTICS": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def dvc(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def commit(self, content: str) -> str:
        (self.folder / "labels.csv").write_text(content)
        self.dvc("add", "--quiet", "labels.csv")
        self.dvc("push", "--quiet")
        self.run("git", "add", "--all")
        self.run("git", "-c", "user.name=Test", "-c", "user.email=test@localhost", "commit", "-qm", "labels")
        return self.run("git", "rev-parse", "HEAD")

    def move_main_to(self, commit: str) -> None:
        self.run("git", "update-ref", "refs/heads/main", commit)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    folder = tmp_path_factory.mktemp("tracked") / "repository"
    folder.mkdir()
    made = Repository(folder)
    made.run("git", "init", "--quiet", "--initial-branch", "main")
    made.dvc("init", "--quiet")
    made.dvc("remote", "add", "--default", "store", "../remote")
    made.first = made.commit("flight,late\n1,0\n")
    made.second = made.commit("flight,late\n1,0\n2,1\n")
    return made


@pytest.fixture(autouse=True)
def _newest(repository: Repository) -> Iterator[None]:
    repository.move_main_to(repository.second)
    return


@feature_set()
def late(labels: pd.DataFrame) -> pd.DataFrame:
    return labels[labels["late"] == 1]


def labels_at(repository: Repository, revision: str = "main", **options: Any) -> dg.AssetsDefinition:
    return tracked_dataset(
        "labels", repository=repository.folder, dvc_file="labels.csv.dvc", revision=revision, **options
    )


def observe(asset: dg.AssetsDefinition, instance: dg.DagsterInstance, resources: dict[str, Any]) -> dg.AssetObservation:
    assert dagster_observe([asset], instance=instance, resources=resources).success
    (record,) = instance.fetch_observations(asset.key, limit=1).records
    assert record.asset_observation
    return record.asset_observation


def test_observed_version_is_that_of_the_dvc_file_at_the_revision(
    repository: Repository, instance: dg.DagsterInstance, resources: dict[str, Any]
) -> None:
    seen = {}
    for commit in (repository.first, repository.second):
        observation = observe(labels_at(repository, commit), instance, resources)
        expected = tracked_version(repository.folder, "labels.csv.dvc", commit)
        assert observation.tags["dagster/data_version"] == str(expected.version)
        assert observation.metadata["commit"].value == commit
        assert observation.metadata["size in bytes"].value == expected.size
        seen[commit] = expected.version
    assert len(set(seen.values())) == 2


def test_asset_downstream_loads_the_version_that_was_observed(
    repository: Repository, instance: dg.DagsterInstance, resources: dict[str, Any], storage: ArtifactStorage
) -> None:
    labels = labels_at(repository)
    repository.move_main_to(repository.first)
    observed = observe(labels, instance, resources)
    repository.move_main_to(repository.second)  # not observed yet
    result = dg.materialize([labels, late], selection=[late], instance=instance, resources=resources)
    (event,) = result.asset_materializations_for_node("late")
    assert event.metadata["dagster/row_count"].value == 0
    record = record_of(event.metadata)
    assert [(read.asset, read.data_version) for read in record.inputs] == [
        ("labels", observed.tags["dagster/data_version"])
    ]
    observe(labels, instance, resources)
    result = dg.materialize([labels, late], selection=[late], instance=instance, resources=resources)
    assert result.asset_materializations_for_node("late")[0].metadata["dagster/row_count"].value == 1


def test_file_itself_can_be_asked_for(
    repository: Repository, instance: dg.DagsterInstance, resources: dict[str, Any]
) -> None:
    @dg.asset(io_manager_key="plain")
    def size(labels: Path) -> int:
        return labels.stat().st_size

    labels = labels_at(repository)
    observe(labels, instance, resources)
    result = dg.materialize(
        [labels, size],
        selection=[size],
        instance=instance,
        resources={**resources, "plain": dg.InMemoryIOManager()},
    )
    assert result.output_for_node("size") == len("flight,late\n1,0\n2,1\n")


def test_trace_leads_from_the_commit_of_the_dvc_file_to_what_was_made_of_it(
    repository: Repository, instance: dg.DagsterInstance, resources: dict[str, Any]
) -> None:
    labels = labels_at(repository)
    observe(labels, instance, resources)
    dg.materialize([labels, late], selection=[late], instance=instance, resources=resources)
    traced = load_graph(instance).trace(repository.second)
    assert {node.asset for node in traced.graph.nodes.values()} == {"labels", "late"}
    assert len(traced.graph.edges) == 1


def test_never_observed_dataset_is_told(
    repository: Repository, instance: dg.DagsterInstance, resources: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="labels: the asset has never been"):
        dg.materialize([labels_at(repository), late], selection=[late], instance=instance, resources=resources)


def test_dvc_file_that_is_not_there_names_the_asset(
    repository: Repository, instance: dg.DagsterInstance, resources: dict[str, Any]
) -> None:
    missing = tracked_dataset("labels", repository=repository.folder, dvc_file="none.dvc")
    with pytest.raises(InputError, match=r"labels: none\.dvc at HEAD .* does not exist"):
        dagster_observe([missing], instance=instance, resources=resources)


def tick(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance, cursor: str | None
) -> tuple[list[dg.AssetObservation], str | None]:
    context = dg.build_sensor_context(instance, cursor=cursor)
    done = sensor.evaluate_tick(context)
    return [event for event in done.asset_events if isinstance(event, dg.AssetObservation)], done.cursor


def test_sensor_reports_a_change_once(
    repository: Repository, instance: dg.DagsterInstance, resources: dict[str, Any]
) -> None:
    labels = labels_at(repository)
    sensor = tracked_dataset_sensor([labels])
    repository.move_main_to(repository.first)
    (first,), cursor = tick(sensor, instance, None)
    again, cursor = tick(sensor, instance, cursor)
    assert again == []
    repository.move_main_to(repository.second)
    (second,), cursor = tick(sensor, instance, cursor)
    assert tick(sensor, instance, cursor) == ([], cursor)
    assert [event.metadata["commit"].value for event in (first, second)] == [repository.first, repository.second]
    instance.report_runless_asset_event(second)
    result = dg.materialize([labels, late], selection=[late], instance=instance, resources=resources)
    assert result.asset_materializations_for_node("late")[0].metadata["dagster/row_count"].value == 1


def test_sensor_reports_what_it_can_and_names_what_it_cannot(
    repository: Repository, instance: dg.DagsterInstance
) -> None:
    gone = tracked_dataset("gone", repository=repository.folder, dvc_file="none.dvc")
    sensor = tracked_dataset_sensor([gone, labels_at(repository)])
    (event,), cursor = tick(sensor, instance, None)
    assert event.asset_key == dg.AssetKey("labels")
    with pytest.raises(InputError, match=r"gone: none\.dvc .* does not exist"):
        tick(sensor, instance, cursor)


def test_options_reach_the_asset(repository: Repository) -> None:
    asset = labels_at(
        repository,
        key_prefix=["people"],
        group_name="tracked",
        description="Labels.",
        owners=["team:labels"],
        kinds={"csv"},
        metadata={"colour": "blue"},
    )
    (spec,) = asset.specs
    assert spec.key == dg.AssetKey(["people", "labels"])
    assert (spec.group_name, spec.description, spec.owners) == ("tracked", "Labels.", ["team:labels"])
    assert spec.kinds == {"dataset", "dvc", "csv"}
    assert spec.metadata["colour"] == "blue"
    assert spec.metadata["dagster/io_manager_key"] == STORAGE_KEY


def test_key_prefix_that_is_a_string_is_one_part(repository: Repository) -> None:
    assert labels_at(repository, key_prefix="raw").key == dg.AssetKey(["raw", "labels"])


def test_relative_repository_is_refused() -> None:
    with pytest.raises(DefinitionError, match="labels: repository must be an absolute path, got 'here'"):
        tracked_dataset("labels", repository="here", dvc_file="labels.csv.dvc")

"""The contract of the reference pipeline on every container engine: one month of data, and one month with a model.

Each engine's tests subclass `ReferencePipelineContract` and have a fixture ``pipeline`` of module scope.
"""

import json
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from ml_assets.flight_delays.definitions import JOB_NAME
from ml_assets.resources.provenance import ProvenanceRecord
from ml_assets.resources.tracking.tags import RunTags
from ml_assets.usage.history import read_history
from tests.containers.deployment import Deployment
from tests.containers.ground import Ground
from tests.containers.small_project import git
from tests.containers.train_image import train_image
from tests.contracts.container_executor import GONE_SECONDS, Story

DATA = ("flights", "weather", "departures")
ASSETS = (*DATA, "delay_model", "predictions")
CHECKS = ("flights_schema", "weather_schema", "departures_schema", "departures_drift", "model_quality")
JANUARY, FEBRUARY = "2013-01-01", "2013-02-01"

Container = Mapping[str, Any]
"""A step's container (or pod) in the engine's own format."""


@dataclass(frozen=True)
class Pipeline:
    """The results of two months of the pipeline."""

    deployment: Deployment
    commit: str
    image: Mapping[str, str]
    """Output of ``ml-assets images bootstrap`` for the image."""
    january: Story
    february: Story
    containers: Mapping[str, Container]
    """Last observed state of every container of February's steps, by the step's asset or check."""

    def records(self) -> dict[str, ProvenanceRecord]:
        """Return February's records by asset."""
        return self.february.records()


def run_pipeline(
    deployment: Deployment,
    ground: Ground,
    folder: Path,
    containers: Callable[[str], Iterable[tuple[str, Container]]],
) -> Pipeline:
    """Build the train image, materialize January's data, and run all of February.

    Args:
        deployment: deployment with the project's own code location.
        ground: its registry resolves the base image.
        folder: empty directory, for a checkout of this project.
        containers: returns the existing containers of a run's steps, by asset or check.
    """
    commit = _checkout(ground, folder)
    image = _bootstrapped(folder)
    january = deployment.run(*DATA, partition=JANUARY, checks=[])
    february = deployment.launch(job=JOB_NAME, partition=FEBRUARY)
    seen: dict[str, Container] = {}

    def has_ended() -> bool:
        seen.update(containers(february))  # polled, because containers are removed with their steps
        run = deployment.instance.get_run_by_id(february)
        return run is not None and run.is_finished

    deployment.wait_until(has_ended, february)
    deployment.wait(february)
    return Pipeline(
        deployment, commit, image, Story(deployment, january.run_id), Story(deployment, february), containers=seen
    )


class ReferencePipelineContract(ABC):
    """The suite; the subclass of each engine reads its containers."""

    @abstractmethod
    def image_of(self, container: Container) -> str:
        """Return the image that the engine was asked to run."""

    @abstractmethod
    def facts_of(self, container: Container) -> Mapping[str, str]:
        """Return the unabbreviated values on a container."""

    @abstractmethod
    def left_over(self, deployment: Deployment, run_id: str) -> list[Container]:
        """Return the remaining containers of a run's steps."""

    def test_each_step_runs_in_the_image_that_the_image_asset_made(self, pipeline: Pipeline) -> None:
        assert pipeline.image["asset"] == "images/train"
        assert "@sha256:" in pipeline.image["image"]
        assert pipeline.image["image"] != pipeline.deployment.image, "run workers are in another image than steps"
        assert set(pipeline.containers) == {*ASSETS, *(f"{_asset_of(check)}:{check}" for check in CHECKS)}
        for container in pipeline.containers.values():
            assert self.image_of(container) == pipeline.image["image"]
        assert all(each["image_asset"] == "images/train" for each in pipeline.february.placements())

    def test_each_step_says_what_it_took_from_the_order_of_its_container_on(self, pipeline: Pipeline) -> None:
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        for history in read_history(pipeline.deployment.instance, ASSETS, long_ago, 1):
            (taken,) = history.taken
            usage = taken.usage
            assert list(taken.seconds) == ["scheduling", "pull", "start", "import", "input", "compute", "output"]
            assert taken.seconds["import"] > 0
            assert taken.launch is not None
            assert taken.launch.started_at is not None
            assert usage.asked is not None
            assert usage.whole_container, history.asset
            assert usage.memory_peak_bytes is not None
            assert 50 * 2**20 < usage.memory_needed_bytes <= usage.memory_peak_bytes <= usage.asked.memory_bytes
            assert 0 < usage.cpu_seconds < 600

    def test_containers_say_what_they_are_for(self, pipeline: Pipeline) -> None:
        for step, container in pipeline.containers.items():
            facts = self.facts_of(container)
            assert facts["ml-assets/asset"] == step
            assert facts["ml-assets/partition"] == FEBRUARY
            assert facts["ml-assets/job"] == JOB_NAME
            assert facts["ml-assets/run"] == pipeline.february.run_id
            assert facts["ml-assets/pool"] == ("gpu" if step == "delay_model" else "cpu")
            assert (facts["ml-assets/launch"], facts["ml-assets/attempt"]) == ("0", "0")

    def test_records_say_what_ran_where_and_from_which_commit(self, pipeline: Pipeline) -> None:
        records = pipeline.records()
        assert set(records) == set(ASSETS)
        for name, record in records.items():
            environment = record.environment
            assert (environment.target, environment.image_asset) == (pipeline.deployment.target, "images/train")
            assert environment.pool == ("gpu" if name == "delay_model" else "cpu")
            assert environment.image == pipeline.image["image"]
            assert environment.environment_digest == pipeline.image["environment_digest"]
            assert (record.source.commit, record.source.dirty) == (pipeline.commit, False)
            assert record.reproducible, record.not_reproducible_because
            assert record.partition == FEBRUARY

    def test_records_link_the_versions_that_were_read(self, pipeline: Pipeline) -> None:
        february, january = pipeline.records(), pipeline.january.records()
        environment = (("images/train", None), pipeline.image["environment_digest"])
        departures = (("departures", FEBRUARY), february["departures"].data_version)
        assert _read_by(february["departures"]) == dict(
            [*((((name, FEBRUARY), february[name].data_version)) for name in ("flights", "weather")), environment]
        )
        assert _read_by(february["delay_model"]) == dict(
            [(("departures", JANUARY), january["departures"].data_version), departures, environment]
        )
        assert _read_by(february["predictions"]) == dict(
            [(("delay_model", FEBRUARY), february["delay_model"].data_version), departures, environment]
        )

    def test_mlflow_run_of_the_model_says_the_same_as_its_record(self, pipeline: Pipeline) -> None:
        from mlflow import MlflowClient

        record = pipeline.records()["delay_model"]
        assert record.mlflow is not None
        client = MlflowClient(pipeline.deployment.servers.mlflow)
        run = client.get_run(record.mlflow.run_id)
        assert run.info.status == "FINISHED"
        expected = {
            RunTags.ASSET: "delay_model",
            RunTags.PARTITION: FEBRUARY,
            RunTags.DATA_VERSION: record.data_version,
            RunTags.IMAGE: pipeline.image["image"],
            RunTags.ENVIRONMENT: pipeline.image["environment_digest"],
            RunTags.COMMIT: pipeline.commit,
            RunTags.DAGSTER_RUN: pipeline.february.run_id,
        }
        assert {name: run.data.tags.get(name) for name in expected} == expected
        assert {entry.dataset.name for entry in run.inputs.dataset_inputs} == {
            f"departures@{JANUARY}",
            f"departures@{FEBRUARY}",
        }
        assert run.data.metrics["flights_judged"] > 10_000
        assert record.mlflow.registered_model == "flight-delay"
        version = client.get_model_version("flight-delay", str(record.mlflow.model_version))
        assert version.tags[RunTags.IMAGE] == pipeline.image["image"]

    def test_steps_leave_nothing(self, pipeline: Pipeline) -> None:
        deployment = pipeline.deployment
        for story in (pipeline.january, pipeline.february):
            deployment.wait_until(partial(self._has_gone, deployment, story.run_id), story.run_id, seconds=GONE_SECONDS)

    def _has_gone(self, deployment: Deployment, run_id: str) -> bool:
        return not self.left_over(deployment, run_id)


def _checkout(ground: Ground, folder: Path) -> str:
    """Commit this project in a folder, with a lock of base images that the tests' registry resolved."""
    train_image(replace(ground, train_image=None), folder)
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "As it is"]):
        git(folder, *command)
    return git(folder, "rev-parse", "HEAD")


def _bootstrapped(checkout: Path) -> Mapping[str, str]:
    """Build the train image of a checkout, and record it in the instance that the environment selects."""
    program = Path(sys.executable).with_name("ml-assets")
    done = subprocess.run(
        [program, "images", "bootstrap", "train", "--json"],
        cwd=checkout,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (made,) = json.loads(done.stdout)["images"]
    return dict(made)


def _asset_of(check: str) -> str:
    """Return the asset of one of the pipeline's checks."""
    return "delay_model" if check == "model_quality" else check.partition("_")[0]


def _read_by(record: ProvenanceRecord) -> dict[tuple[str, str | None], str]:
    """Return the data versions that a record's step read, by asset and partition."""
    return {(read.asset, read.partition): read.data_version for read in record.inputs}

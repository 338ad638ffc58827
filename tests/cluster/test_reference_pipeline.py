"""The reference pipeline on a real cluster, in the project's own images: a month of data, and one of a model."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest

from ml_assets.flight_delays.definitions import JOB_NAME
from resources.provenance import ProvenanceRecord, RunTags
from tests.cluster.deployment import KubernetesDeployment, kubectl
from tests.containers.fixtures import OpenKubernetes
from tests.containers.ground import Ground
from tests.containers.small_project import git
from tests.containers.train_image import train_image as build_train_image
from tests.contracts.container_executor import Story, overriding

DATA = ("flights", "weather", "departures")
ASSETS = (*DATA, "delay_model", "predictions")
CHECKS = ("flights_schema", "weather_schema", "departures_schema", "departures_drift", "model_quality")
JANUARY, FEBRUARY = "2013-01-01", "2013-02-01"
GPU = "nvidia.com/gpu"
CHECKED = '{cpus=0.1, accelerators=1, node_selector={pool="gpu"}, tolerations=[{key="nvidia.com/gpu"}]}'


@dataclass(frozen=True)
class Pipeline:
    """What two months of the pipeline came to."""

    deployment: KubernetesDeployment
    commit: str
    image: Mapping[str, str]
    """What ``ml-assets images bootstrap`` said of the image that was made."""
    january: Story
    february: Story
    pods: Mapping[str, Mapping[str, Any]]
    """Every pod that February's steps had, by the step's asset or check."""

    def records(self) -> dict[str, ProvenanceRecord]:
        """February's records by asset."""
        return self.february.records()


@pytest.fixture(scope="module")
def checkout(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project, committed, with a lock of base images that the registry at hand answered."""
    folder = tmp_path_factory.mktemp("checkout")
    build_train_image(replace(ground, train_image=None), folder)
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "As it is"]):
        git(folder, *command)
    return folder


@pytest.fixture(scope="module")
def deployment(open_kubernetes: OpenKubernetes, train_image: str) -> Iterator[KubernetesDeployment]:
    variables = {
        "ML_ASSETS__IMAGES__PREFIX": f"tests/{uuid4().hex}",
        "ML_ASSETS__POOLS__GPU-CHECKED": CHECKED,
    }
    with open_kubernetes("ml_assets.definitions", image=train_image, variables=variables) as opened:
        yield opened


@pytest.fixture(scope="module")
def pipeline(deployment: KubernetesDeployment, checkout: Path) -> Pipeline:
    image = bootstrapped(checkout)
    january = deployment.run(*DATA, partition=JANUARY, checks=[], seconds=400)
    february = deployment.launch(job=JOB_NAME, partition=FEBRUARY)
    pods = pods_until_the_end(deployment, february)
    deployment.wait(february)
    return Pipeline(
        deployment,
        commit=git(checkout, "rev-parse", "HEAD"),
        image=image,
        january=Story(deployment, january.run_id),
        february=Story(deployment, february),
        pods=pods,
    )


def test_each_step_runs_in_the_image_that_the_image_asset_made(pipeline: Pipeline) -> None:
    assert pipeline.image["asset"] == "images/train"
    assert "@sha256:" in pipeline.image["image"]
    assert pipeline.image["image"] != pipeline.deployment.image, "run workers are in another image than steps"
    assert set(pipeline.pods) == {*ASSETS, *(f"{asset_of(check)}:{check}" for check in CHECKS)}
    for pod in pipeline.pods.values():
        (container,) = pod["spec"]["containers"]
        assert container["image"] == pipeline.image["image"]
    assert all(each["image_asset"] == "images/train" for each in pipeline.february.placements())


def test_model_is_trained_on_the_gpu_pool(pipeline: Pipeline) -> None:
    pod = pipeline.pods["delay_model"]
    (container,) = pod["spec"]["containers"]
    assert pod["spec"]["nodeSelector"] == {"pool": "gpu"}
    assert pool_of_node(pod) == "gpu"
    assert container["resources"]["requests"][GPU] == container["resources"]["limits"][GPU] == "1"
    assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"] == "1Gi"
    assert GPU in [toleration["key"] for toleration in pod["spec"]["tolerations"]]
    (mount,) = [each for each in container["volumeMounts"] if each["mountPath"] == "/dev/shm"]
    (volume,) = [each for each in pod["spec"]["volumes"] if each["name"] == mount["name"]]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Mi"}


def test_everything_else_runs_on_the_cpu_pool(pipeline: Pipeline) -> None:
    for step, pod in pipeline.pods.items():
        if step == "delay_model":
            continue
        (container,) = pod["spec"]["containers"]
        assert pod["spec"]["nodeSelector"] == {"pool": "cpu"}, step
        assert pool_of_node(pod) == "cpu"
        assert GPU not in container["resources"]["limits"]
        assert GPU not in [toleration["key"] for toleration in pod["spec"]["tolerations"]]


def test_pods_say_what_they_are_for_and_have_no_rights(pipeline: Pipeline) -> None:
    for step, pod in pipeline.pods.items():
        labels, annotations = pod["metadata"]["labels"], pod["metadata"]["annotations"]
        assert annotations["ml-assets/asset"] == step
        assert annotations["ml-assets/partition"] == labels["ml-assets/partition"] == FEBRUARY
        assert annotations["ml-assets/job"] == JOB_NAME
        assert labels["ml-assets/run"] == pipeline.february.run_id
        assert labels["ml-assets/pool"] == ("gpu" if step == "delay_model" else "cpu")
        assert (labels["ml-assets/launch"], labels["ml-assets/attempt"]) == ("0", "0")
        assert pod["spec"]["serviceAccountName"] == "ml-assets-step"
        assert pod["spec"]["automountServiceAccountToken"] is False


def test_records_say_what_ran_where_and_from_which_commit(pipeline: Pipeline) -> None:
    records = pipeline.records()
    assert set(records) == set(ASSETS)
    for name, record in records.items():
        environment = record.environment
        assert (environment.target, environment.image_asset) == ("kubernetes", "images/train")
        assert environment.pool == ("gpu" if name == "delay_model" else "cpu")
        assert environment.image == pipeline.image["image"]
        assert environment.environment_digest == pipeline.image["environment_digest"]
        assert (record.source.commit, record.source.dirty) == (pipeline.commit, False)
        assert record.reproducible, record.not_reproducible_because
        assert record.partition == FEBRUARY
    assert records["delay_model"].hardware.accelerators_checked is False, "unchecked, as the pool's setting has it"
    assert records["departures"].hardware.accelerators_checked is None


def test_records_link_the_versions_that_were_read(pipeline: Pipeline) -> None:
    february, january = pipeline.records(), pipeline.january.records()
    environment = (("images/train", None), pipeline.image["environment_digest"])
    departures = (("departures", FEBRUARY), february["departures"].data_version)
    assert read_by(february["departures"]) == dict(
        [*((((name, FEBRUARY), february[name].data_version)) for name in ("flights", "weather")), environment]
    )
    assert read_by(february["delay_model"]) == dict(
        [(("departures", JANUARY), january["departures"].data_version), departures, environment]
    )
    assert read_by(february["predictions"]) == dict(
        [(("delay_model", FEBRUARY), february["delay_model"].data_version), departures, environment]
    )


def test_mlflow_run_of_the_model_says_the_same_as_its_record(pipeline: Pipeline) -> None:
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


def test_steps_leave_no_pod(pipeline: Pipeline) -> None:
    for story in (pipeline.january, pipeline.february):
        has_none = partial(has_no_pod, pipeline.deployment, story.run_id)
        pipeline.deployment.wait_until(has_none, story.run_id, seconds=60)


def test_pool_that_looks_for_its_devices_ends_the_training_before_it_begins(pipeline: Pipeline) -> None:
    run = pipeline.deployment.run(
        "delay_model",
        partition=FEBRUARY,
        checks=[],
        run_config=overriding("delay_model", pool="gpu-checked"),
        status="FAILURE",
    )
    story = Story(pipeline.deployment, run.run_id)
    failure = story.failure()
    assert failure["cls_name"] == "AcceleratorUnavailable"
    assert "pool gpu-checked promises 1 accelerators, and the container sees none" in failure["message"]
    assert story.events(dg.DagsterEventType.STEP_START) == [], "no user code ran"
    assert len(story.placements()) == 1, "another try would not help"


def bootstrapped(checkout: Path) -> Mapping[str, str]:
    """Make the train image of a checkout, recorded in the instance that the environment names."""
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


def pods_until_the_end(deployment: KubernetesDeployment, run_id: str) -> dict[str, Mapping[str, Any]]:
    """Every step's pod of a run, as it was last seen: pods go with their steps."""
    seen: dict[str, Mapping[str, Any]] = {}

    def has_ended() -> bool:
        for pod in deployment.step_pods(run_id):
            seen[pod["metadata"]["annotations"]["ml-assets/asset"]] = pod
        run = deployment.instance.get_run_by_id(run_id)
        return run is not None and run.is_finished

    deployment.wait_until(has_ended, run_id, seconds=600)
    return seen


def has_no_pod(deployment: KubernetesDeployment, run_id: str) -> bool:
    """Whether no pod of a run's steps is left."""
    return not deployment.step_pods(run_id)


def pool_of_node(pod: Mapping[str, Any]) -> str:
    """The label of the node that a pod was on."""
    node = pod["spec"]["nodeName"]
    return kubectl("get", "node", node, "--output", "jsonpath={.metadata.labels.pool}")


def asset_of(check: str) -> str:
    """The asset that one of the pipeline's checks is of."""
    return "delay_model" if check == "model_quality" else check.partition("_")[0]


def read_by(record: ProvenanceRecord) -> dict[tuple[str, str | None], str]:
    """Data versions of what a record's step read, by asset and partition."""
    return {(read.asset, read.partition): read.data_version for read in record.inputs}

"""The reference pipeline on a real cluster, in the project's own images."""

from collections.abc import Iterator, Mapping
from uuid import uuid4

import dagster as dg
import pytest

from tests.cluster.deployment import KubernetesDeployment, kubectl
from tests.containers.deployment import Deployment
from tests.containers.fixtures import OpenKubernetes
from tests.containers.ground import Ground
from tests.contracts.container_executor import Story, overriding
from tests.contracts.reference_pipeline import FEBRUARY, Container, Pipeline, ReferencePipelineContract, run_pipeline

GPU = "nvidia.com/gpu"
CHECKED = '{cpus=0.1, accelerators=1, node_selector={pool="gpu"}, tolerations=[{key="nvidia.com/gpu"}]}'


@pytest.fixture(scope="module")
def deployment(open_kubernetes: OpenKubernetes, train_image: str) -> Iterator[KubernetesDeployment]:
    variables = {
        "ML_ASSETS__IMAGES__PREFIX": f"tests/{uuid4().hex}",
        "ML_ASSETS__POOLS__GPU-CHECKED": CHECKED,
    }
    with open_kubernetes("ml_assets.definitions", image=train_image, variables=variables) as opened:
        yield opened


@pytest.fixture(scope="module")
def pipeline(deployment: KubernetesDeployment, ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    def pods(run_id: str) -> Iterator[tuple[str, Container]]:
        for pod in deployment.step_pods(run_id):
            yield pod["metadata"]["annotations"]["ml-assets/asset"], pod

    return run_pipeline(deployment, ground, tmp_path_factory.mktemp("checkout"), pods)


class TestReferencePipeline(ReferencePipelineContract):
    def image_of(self, container: Container) -> str:
        return str(container["spec"]["containers"][0]["image"])

    def facts_of(self, container: Container) -> Mapping[str, str]:
        return {**container["metadata"]["labels"], **container["metadata"]["annotations"]}

    def left_over(self, deployment: Deployment, run_id: str) -> list[Container]:
        assert isinstance(deployment, KubernetesDeployment)
        return list(deployment.step_pods(run_id))


def test_model_is_trained_on_the_gpu_pool(pipeline: Pipeline) -> None:
    pod = pipeline.containers["delay_model"]
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
    for step, pod in pipeline.containers.items():
        if step == "delay_model":
            continue
        (container,) = pod["spec"]["containers"]
        assert pod["spec"]["nodeSelector"] == {"pool": "cpu"}, step
        assert pool_of_node(pod) == "cpu"
        assert GPU not in container["resources"]["limits"]
        assert GPU not in [toleration["key"] for toleration in pod["spec"]["tolerations"]]


def test_pods_are_found_by_labels_and_have_no_rights(pipeline: Pipeline) -> None:
    for step, pod in pipeline.containers.items():
        labels = pod["metadata"]["labels"]
        assert (labels["ml-assets/partition"], labels["ml-assets/run"]) == (FEBRUARY, pipeline.february.run_id)
        assert labels["ml-assets/pool"] == ("gpu" if step == "delay_model" else "cpu")
        assert (labels["ml-assets/launch"], labels["ml-assets/attempt"]) == ("0", "0")
        assert pod["spec"]["serviceAccountName"] == "ml-assets-step"
        assert pod["spec"]["automountServiceAccountToken"] is False


def test_record_says_whether_accelerators_were_looked_for(pipeline: Pipeline) -> None:
    records = pipeline.records()
    assert records["delay_model"].hardware.accelerators_checked is False, "unchecked, as the pool's setting has it"
    assert records["departures"].hardware.accelerators_checked is None


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
    assert "pool gpu-checked promises 1 accelerators, but the container has none" in failure["message"]
    assert story.events(dg.DagsterEventType.STEP_START) == [], "no user code ran"
    assert len(story.placements()) == 1, "another try would not help"


def pool_of_node(pod: Container) -> str:
    """Return the pool label of a pod's node."""
    node = pod["spec"]["nodeName"]
    return kubectl("get", "node", node, "--output", "jsonpath={.metadata.labels.pool}")

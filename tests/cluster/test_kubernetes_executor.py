"""The Kubernetes executor on a real cluster."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from ml_assets.resources.pools import parse_memory
from tests.cluster.deployment import KubernetesDeployment
from tests.containers.deployment import Deployment
from tests.containers.fixtures import OpenKubernetes
from tests.contracts.container_executor import STEPS, ContainerExecutorContract, variables


@pytest.fixture(scope="module")
def kubernetes_deployment(
    open_kubernetes: OpenKubernetes, image_with: Callable[..., str]
) -> Iterator[KubernetesDeployment]:
    image = image_with(STEPS)
    with open_kubernetes(STEPS, image=image, variables=variables(image)) as opened:
        yield opened


class TestKubernetesExecutor(ContainerExecutorContract):
    @pytest.fixture(scope="class")
    @classmethod
    def deployment(cls, kubernetes_deployment: KubernetesDeployment) -> KubernetesDeployment:  # type: ignore[override]
        return kubernetes_deployment

    @classmethod
    def containers(cls, deployment: Deployment, run_id: str) -> list[Mapping[str, Any]]:
        assert isinstance(deployment, KubernetesDeployment)
        return [
            {
                "id": pod["metadata"]["uid"],
                "name": pod["metadata"]["labels"]["job-name"],
                "labels": pod["metadata"]["labels"],
                "image": pod["spec"]["containers"][0]["image"],
                "memory": parse_memory(pod["spec"]["containers"][0]["resources"]["limits"]["memory"]),
                "running": pod["status"]["phase"] == "Running",
            }
            for pod in deployment.step_pods(run_id)
        ]

    @classmethod
    def delete_container(cls, deployment: Deployment, run_id: str) -> None:
        assert isinstance(deployment, KubernetesDeployment)
        (pod,) = deployment.step_pods(run_id)
        deployment.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")

    @classmethod
    def delete_run_worker(cls, deployment: Deployment, run_id: str) -> None:
        assert isinstance(deployment, KubernetesDeployment)
        (pod,) = deployment.run_workers(run_id)
        deployment.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")

"""The Docker executor on a real engine."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.containers.deployment import Deployment, DockerDeployment
from tests.containers.fixtures import OpenDocker
from tests.contracts.container_executor import STEPS, ContainerExecutorContract, variables


@pytest.fixture(scope="module")
def docker_deployment(open_docker: OpenDocker, image_with: Callable[..., str]) -> Iterator[DockerDeployment]:
    image = image_with(STEPS)
    with open_docker(STEPS, image=image, variables=variables(image)) as opened:
        yield opened


class TestDockerExecutor(ContainerExecutorContract):
    @pytest.fixture
    def deployment(self, docker_deployment: DockerDeployment) -> DockerDeployment:  # type: ignore[override]
        return docker_deployment

    def containers(self, deployment: Deployment, run_id: str) -> list[Mapping[str, Any]]:
        assert isinstance(deployment, DockerDeployment)
        return [
            {
                "id": each["Id"],
                "name": each["Name"].lstrip("/"),
                "labels": each["Config"]["Labels"],
                "image": each["Config"]["Image"],
                "memory": each["HostConfig"]["Memory"],
                "running": each["State"]["Running"],
            }
            for each in deployment.step_containers(run_id)
        ]

    def delete_container(self, deployment: Deployment, run_id: str) -> None:
        (container,) = self.containers(deployment, run_id)
        subprocess.run(["docker", "rm", "--force", container["id"]], check=True, capture_output=True)

    def delete_run_worker(self, deployment: Deployment, run_id: str) -> None:
        assert isinstance(deployment, DockerDeployment)
        (worker,) = [each for each in deployment.run_workers(run_id) if each["State"]["Running"]]
        subprocess.run(["docker", "rm", "--force", worker["Id"]], check=True, capture_output=True)

"""The Docker executor on a real engine."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import uuid4

import pytest

from ml_assets.executors.docker import DockerEngine
from ml_assets.executors.engine import ContainerRequest, ContainerState, ContainerStatus, container_labels
from ml_assets.executors.failures import FailureCause
from ml_assets.placement import Placement
from ml_assets.resources.pools import Pool
from ml_assets.resources.sections import ContainerSettings
from tests.containers.deployment import Deployment, DockerDeployment
from tests.containers.fixtures import OpenDocker
from tests.containers.ground import Ground
from tests.containers.train_image import pinned
from tests.contracts.container_executor import STEPS, ContainerExecutorContract, Story, overriding, variables

SECONDS = 600


@pytest.fixture(scope="module")
def docker_deployment(open_docker: OpenDocker, image_with: Callable[..., str]) -> Iterator[DockerDeployment]:
    image = image_with(STEPS)
    own = {"ML_ASSETS__POOLS__WITH-GPUS": '{cpus=0.1, memory="300Mi", accelerators=2}'}
    with open_docker(STEPS, image=image, variables={**variables(image), **own}) as opened:
        yield opened


class TestDockerExecutor(ContainerExecutorContract):
    @pytest.fixture(scope="class")
    @classmethod
    def deployment(cls, docker_deployment: DockerDeployment) -> DockerDeployment:  # type: ignore[override]
        return docker_deployment

    @classmethod
    def containers(cls, deployment: Deployment, run_id: str) -> list[Mapping[str, Any]]:
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

    @classmethod
    def delete_container(cls, deployment: Deployment, run_id: str) -> None:
        (container,) = cls.containers(deployment, run_id)
        subprocess.run(["docker", "rm", "--force", container["id"]], check=True, capture_output=True)

    @classmethod
    def delete_run_worker(cls, deployment: Deployment, run_id: str) -> None:
        assert isinstance(deployment, DockerDeployment)
        (worker,) = [each for each in deployment.run_workers(run_id) if each["State"]["Running"]]
        subprocess.run(["docker", "rm", "--force", worker["Id"]], check=True, capture_output=True)

    def test_gpus_that_the_engine_does_not_have_fail_the_step_at_once(self, deployment: DockerDeployment) -> None:
        if "nvidia" in _docker("info", "--format", "{{json .Runtimes}}"):
            pytest.skip("this engine has GPUs")
        run = deployment.run("raises_once", run_config=overriding("raises_once", pool="with-gpus"), status="FAILURE")
        story = Story(deployment, run.run_id)
        failure = story.failure()
        assert failure["cls_name"] == FailureCause.CONFIGURATION.name
        assert "could not select device driver" in failure["message"]
        assert "NVIDIA Container Toolkit" in failure["message"], "what to do about it"
        assert len(story.placements()) == 1, "another try would not help"
        deployment.wait_until(lambda: not self.containers(deployment, run.run_id), run.run_id)


@pytest.mark.parametrize("check", [True, False])
def test_engine_is_asked_for_the_gpus_of_the_pool_whether_or_not_a_step_looks_for_them(
    ground: Ground, check: bool
) -> None:
    run_id, name = str(uuid4()), f"step-gpus-{uuid4().hex[:12]}"
    image = pinned(ground.base_image)
    request = ContainerRequest(
        name=name,
        image=image,
        command=("true",),
        placement=Placement(step="gpus", image=image, pool="gpu", cpus=0.1, memory="64Mi", accelerators=2),
        pool=Pool(accelerators=2, check_accelerators=check),
        labels=container_labels(run_id),
        annotations={},
    )
    engine = DockerEngine(ContainerSettings(), {})
    engine.start(request)
    try:
        _wait_until(lambda: _is_decided(engine.observe(run_id).get(name)))
        (container,) = json.loads(_docker("inspect", name))
        (devices,) = container["HostConfig"]["DeviceRequests"]
        assert (devices["Count"], devices["Capabilities"]) == (2, [["gpu"]])
    finally:
        _wait_until(lambda: engine.stop(name))


def _is_decided(seen: ContainerStatus | None) -> bool:
    return seen is not None and (seen.state is not ContainerState.PENDING or seen.failure is not None)


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout

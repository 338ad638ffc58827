"""The reference pipeline on one Docker engine, in the project's own images."""

from collections.abc import Iterator, Mapping
from uuid import uuid4

import pytest

from tests.containers.deployment import Deployment, DockerDeployment
from tests.containers.fixtures import OpenDocker
from tests.containers.ground import Ground
from tests.contracts.reference_pipeline import Container, Pipeline, ReferencePipelineContract, run_pipeline

MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def deployment(open_docker: OpenDocker, train_image: str) -> Iterator[DockerDeployment]:
    variables = {
        "ML_ASSETS__IMAGES__PREFIX": f"tests/{uuid4().hex}",
        # The engine has no GPU; the pool's other resources identify where a step ran.
        "ML_ASSETS__POOLS__GPU__MEMORY": "1100Mi",
        "ML_ASSETS__POOLS__GPU__SHARED_MEMORY": "96Mi",
    }
    with open_docker("ml_assets.definitions", image=train_image, variables=variables) as opened:
        yield opened


@pytest.fixture(scope="module")
def pipeline(deployment: DockerDeployment, ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    def containers(run_id: str) -> Iterator[tuple[str, Container]]:
        for container in deployment.step_containers(run_id):
            yield container["Config"]["Labels"]["ml-assets/asset"], container

    return run_pipeline(deployment, ground, tmp_path_factory.mktemp("checkout"), containers)


class TestReferencePipeline(ReferencePipelineContract):
    def image_of(self, container: Container) -> str:
        return str(container["Config"]["Image"])

    def facts_of(self, container: Container) -> Mapping[str, str]:
        return dict(container["Config"]["Labels"])

    def left_over(self, deployment: Deployment, run_id: str) -> list[Container]:
        assert isinstance(deployment, DockerDeployment)
        return list(deployment.step_containers(run_id))


def test_model_is_trained_with_what_its_pool_gives(pipeline: Pipeline) -> None:
    for step, container in pipeline.containers.items():
        memory, shared = (1100, 96) if step == "delay_model" else (1024, 64)
        given = container["HostConfig"]
        assert (given["Memory"], given["ShmSize"]) == (memory * MEBIBYTE, shared * MEBIBYTE), step


def test_steps_share_a_network_and_have_no_rights(pipeline: Pipeline) -> None:
    for container in pipeline.containers.values():
        host = container["HostConfig"]
        assert (host["NetworkMode"], host["Privileged"], host["CapDrop"]) == ("bridge", False, ["ALL"])
        assert "no-new-privileges" in host["SecurityOpt"]
        assert not host["Binds"], "no container sees the engine"

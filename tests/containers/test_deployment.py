"""The docker target without the project's own executor: run workers, storage and logs."""

from collections.abc import Iterator

import pytest

from tests.containers.deployment import DockerDeployment
from tests.containers.fixtures import OpenDocker

MODULE = "tests.containers.trivial_assets"


@pytest.fixture(scope="module")
def deployment(open_docker: OpenDocker) -> Iterator[DockerDeployment]:
    with open_docker(MODULE) as opened:
        yield opened


def test_run_worker_is_a_container_of_the_image_and_keeps_content_and_logs(deployment: DockerDeployment) -> None:
    run = deployment.run("numbers")
    assert run.tags["dagster/image"] == deployment.image
    out, err = deployment.logs(run.run_id, "numbers")
    assert "numbers are made" in out
    assert "something goes wrong" in err
    assert deployment.objects("content/files/md5/")
    assert deployment.objects(f"dagster-logs/storage/{run.run_id}/")


def test_failed_run_tells_its_story(deployment: DockerDeployment) -> None:
    run = deployment.run("failing", status="FAILURE")
    assert "as it was meant to" in deployment.story(run.run_id)

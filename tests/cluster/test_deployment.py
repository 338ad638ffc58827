"""The kubernetes target without the project's own executor: run workers, storage, logs and daemon."""

from collections.abc import Iterator

import pytest

from tests.cluster.deployment import KubernetesDeployment
from tests.containers.fixtures import OpenKubernetes

MODULE = "tests.containers.trivial_assets"


@pytest.fixture(scope="module")
def deployment(open_kubernetes: OpenKubernetes) -> Iterator[KubernetesDeployment]:
    with open_kubernetes(MODULE) as opened:
        yield opened


def test_run_worker_is_a_pod_of_the_image_and_keeps_content_and_logs(deployment: KubernetesDeployment) -> None:
    run = deployment.run("numbers")
    (worker,) = deployment.run_workers(run.run_id)
    assert worker["spec"]["containers"][0]["image"] == deployment.image
    assert worker["spec"]["nodeName"] == "cpu-0"
    out, err = deployment.logs(run.run_id, "numbers")
    assert "numbers are made" in out
    assert "something goes wrong" in err
    assert deployment.objects("content/files/md5/")
    assert deployment.objects(f"dagster-logs/storage/{run.run_id}/")


def test_daemon_launches_queued_runs(deployment: KubernetesDeployment) -> None:
    with deployment.daemon():
        run = deployment.run("failing", status="FAILURE")
    assert "as it was meant to" in deployment.story(run.run_id)

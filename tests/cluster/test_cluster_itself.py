"""Properties of the cluster that the other tests rely on."""

import json
import uuid
from collections.abc import Iterator

import pytest

from tests.cluster.deployment import kubectl
from tests.containers.ground import Ground

LOOK = """
import socket, sys, urllib.request
print(socket.gethostbyname("kubernetes.default.svc.cluster.local"))
print(urllib.request.urlopen(sys.argv[1], timeout=10).status)
"""


@pytest.fixture(scope="module")
def namespace(cluster: Ground) -> Iterator[str]:
    name = f"ml-assets-tests-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize(
    ("pool", "taints", "gpus"),
    [("cpu", set(), 0), ("gpu", {"nvidia.com/gpu"}, 1), ("gpu-spot", {"nvidia.com/gpu", "ml/spot"}, 1)],
)
def test_pool_has_a_node_with_its_taints_and_devices(cluster: Ground, pool: str, taints: set[str], gpus: int) -> None:
    nodes = json.loads(kubectl("get", "nodes", "--selector", f"pool={pool}", "--output", "json"))["items"]
    assert nodes
    for node in nodes:
        assert {taint["key"] for taint in node["spec"].get("taints", [])} == taints
        assert int(node["status"]["capacity"].get("nvidia.com/gpu", 0)) >= gpus


@pytest.mark.parametrize("pool", ["cpu", "gpu", "gpu-spot"])
def test_pod_finds_services_by_name_and_reaches_this_machine(cluster: Ground, namespace: str, pool: str) -> None:
    container = {
        "name": "look",
        "image": cluster.base_image,
        "command": ["python3", "-c", LOOK, f"http://{cluster.registry}/v2/"],
    }
    pod = {
        "containers": [container],
        "restartPolicy": "Never",
        "nodeSelector": {"pool": pool},
        "tolerations": [{"operator": "Exists"}],
    }
    # A Job retries: pods are refused until the new namespace has its service account.
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"look-{pool}", "namespace": namespace},
        "spec": {"template": {"spec": pod}, "backoffLimit": 0},
    }
    kubectl("apply", "--filename", "-", given=json.dumps(manifest))
    job = f"job/look-{pool}"
    kubectl("wait", "--namespace", namespace, "--for=condition=complete", job, "--timeout=600s")
    printed = kubectl("logs", "--namespace", namespace, job)
    address, status = printed.split()
    service = kubectl("get", "service", "kubernetes", "--output", "jsonpath={.spec.clusterIP}")
    assert (address, status) == (service, "200")

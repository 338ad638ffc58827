"""Failures that only a cluster can cause: no capacity, preemption, a lost node, a runtime that runs another image."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.executors.failures import FailureCause
from tests.cluster.deployment import KubernetesDeployment, kubectl
from tests.conftest import unavailable
from tests.containers.fixtures import OpenKubernetes
from tests.contracts.container_executor import (
    ANOTHER_DIGEST,
    FOR_EVER,
    GONE_SECONDS,
    STEPS,
    Story,
    overriding,
    sleeping,
    variables,
)

STATE = Path(os.environ.get("KUBE_STATE", "/var/lib/kube-test"))
SPOT = {"nvidia.com/gpu": "2"}


@pytest.fixture(scope="module")
def deployment(open_kubernetes: OpenKubernetes, image_with: Callable[..., str]) -> Iterator[KubernetesDeployment]:
    image = image_with(STEPS)
    own = {
        **variables(image),
        "ML_ASSETS__POOLS__IMPATIENT": '{cpus=0.1, memory="900Gi", pending_seconds=12, node_selector={pool="cpu"}}',
        "ML_ASSETS__POOLS__NOWHERE": '{cpus=0.1, pending_seconds=5, node_selector={pool="none"}, fallback="cpu"}',
        "ML_ASSETS__POOLS__UNKNOWN": '{cpus=0.1, service_account="nobody", node_selector={pool="cpu"}, fallback="cpu"}',
        "ML_ASSETS__POOLS__GPU-SPOT__INTERRUPTIONS": "0",
    }
    with open_kubernetes(STEPS, image=image, variables=own) as opened:
        yield opened


@pytest.fixture(scope="module")
def on_pools(deployment: KubernetesDeployment) -> Mapping[str, str]:
    """Concurrent runs, by the pool of their step."""
    pools = ("impatient", "unknown", "nowhere")
    return {
        pool: deployment.launch("sleeper", run_config={**sleeping(0), **overriding("*", pool=pool)}) for pool in pools
    }


def test_impossible_request_is_told_at_once_and_fails_at_the_pools_deadline(
    deployment: KubernetesDeployment, on_pools: Mapping[str, str]
) -> None:
    run = deployment.wait(on_pools["impatient"], status="FAILURE")
    story = Story(deployment, run.run_id)
    failure = story.failure()
    assert failure["cls_name"] == FailureCause.UNSCHEDULABLE.name
    assert "Insufficient memory" in failure["message"]
    ordered, told, failed = (
        story.time_of(dg.DagsterEventType.STEP_WORKER_STARTING),
        story.time_of(dg.DagsterEventType.ENGINE_EVENT, "Insufficient memory"),
        story.time_of(dg.DagsterEventType.STEP_FAILURE),
    )
    assert told - ordered < 10, "the cause is promised within ten seconds"
    assert failed - ordered > 12
    assert deployment.step_pods(run.run_id) == []


def test_step_whose_pod_is_refused_fails_soon_and_is_not_tried_elsewhere(
    deployment: KubernetesDeployment, on_pools: Mapping[str, str]
) -> None:
    run = deployment.wait(on_pools["unknown"], status="FAILURE")
    story = Story(deployment, run.run_id)
    failure = story.failure()
    assert failure["cls_name"] == FailureCause.CONFIGURATION.name
    assert 'serviceaccount "nobody" not found' in failure["message"]
    assert [placement["pool"] for placement in story.placements()] == ["unknown"]
    ordered = story.time_of(dg.DagsterEventType.STEP_WORKER_STARTING)
    assert story.time_of(dg.DagsterEventType.STEP_FAILURE) - ordered < 10, "the cause is promised within ten seconds"


def test_step_that_finds_no_node_goes_on_on_the_fallback_pool(
    deployment: KubernetesDeployment, on_pools: Mapping[str, str]
) -> None:
    run = deployment.wait(on_pools["nowhere"])
    story = Story(deployment, run.run_id)
    assert [placement["pool"] for placement in story.placements()] == ["nowhere", "cpu"]
    assert "Relaunching on fallback pool cpu" in story.said()


def test_preempted_step_goes_on_on_the_fallback_pool(deployment: KubernetesDeployment) -> None:
    run_id = deployment.launch("on_spot", run_config=sleeping(FOR_EVER, "on_spot"))
    story = Story(deployment, run_id)
    deployment.wait_until(lambda: "second 2" in story.log("on_spot"), run_id)
    (before,) = deployment.step_pods(run_id)
    assert before["spec"]["nodeName"] == "spot-0"
    with preempting(deployment):
        deployment.wait_until(lambda: len(story.placements()) == 2, run_id)
        (after,) = [pod for pod in deployment.step_pods(run_id) if pod["metadata"]["uid"] != before["metadata"]["uid"]]
        deployment.release(run_id)
        deployment.wait(run_id)
    assert [placement["pool"] for placement in story.placements()] == ["gpu-spot", "gpu"]
    assert after["spec"]["nodeSelector"] == {"pool": "gpu"}
    assert "preempted: Preempted by" in story.said()
    assert story.events(dg.DagsterEventType.STEP_UP_FOR_RETRY) == [], "the author's policy is not used up"


def test_step_on_a_node_that_does_not_answer_goes_on_elsewhere(deployment: KubernetesDeployment) -> None:
    run_id = deployment.launch("on_spot", run_config=sleeping(FOR_EVER, "on_spot"))
    story = Story(deployment, run_id)
    deployment.wait_until(lambda: "second 2" in story.log("on_spot"), run_id)
    with without_kubelet("spot-0"):
        deployment.wait_until(lambda: "the node spot-0 is not ready" in story.said(), run_id)
        deployment.wait_until(lambda: len(story.placements()) == 2, run_id)
        # The first process continues on the unreachable node and succeeds while the second one starts. Its events are
        # ignored.
        deployment.release(run_id)
        deployment.wait(run_id)
    assert [placement["pool"] for placement in story.placements()] == ["gpu-spot", "gpu"]
    assert FailureCause.NODE_LOST.value in story.said()
    assert len(story.events(dg.DagsterEventType.ASSET_MATERIALIZATION)) == 1
    assert len(story.events(dg.DagsterEventType.STEP_SUCCESS)) == 1
    deployment.wait_until(lambda: not deployment.step_pods(run_id), run_id, seconds=GONE_SECONDS)


def test_runtime_that_runs_another_image_fails_the_step(deployment: KubernetesDeployment) -> None:
    asked = f"{deployment.image.partition('@')[0]}@{ANOTHER_DIGEST}"
    node = STATE / "run" / "containerd-cpu-0.pid"
    if not node.exists():
        unavailable("the node's containerd can be told to mislead on a cluster of tests/cluster/kube alone")
    store = ["ctr", "--address", "/run/kube-test/cpu-0.sock", "--namespace", "k8s.io", "images"]
    subprocess.run([*store, "tag", "--force", deployment.image, asked], check=True, capture_output=True)
    try:
        run = deployment.run("sleeper", run_config={**sleeping(60), **overriding("*", image=asked)}, status="FAILURE")
    finally:
        subprocess.run([*store, "rm", asked], check=True, capture_output=True)
    failure = Story(deployment, run.run_id).failure()
    assert failure["cls_name"] == FailureCause.WRONG_IMAGE.name
    assert deployment.image.partition("@")[2] in failure["message"] or "sha256:" in failure["message"]


@contextmanager
def preempting(deployment: KubernetesDeployment) -> Iterator[None]:
    """Occupy the spot node's accelerators with a pod of higher priority until the block ends."""
    name = f"tests-{deployment.namespace[-12:]}"
    kubectl(
        "apply",
        "--filename",
        "-",
        given=json.dumps(_manifest("scheduling.k8s.io/v1", "PriorityClass", name, value=100)),
    )
    pod = _manifest("v1", "Pod", name, spec=_idle(name, deployment.image))
    deployment.kubectl("apply", "--filename", "-", given=json.dumps(pod))
    try:
        yield
    finally:
        deployment.kubectl("delete", "pod", name, "--wait=false", "--grace-period=0", "--force")
        kubectl("delete", "priorityclass", name)


@contextmanager
def without_kubelet(node: str) -> Iterator[None]:
    """Stop a node's kubelet until the block ends."""
    file = STATE / "run" / f"kubelet-{node}.pid"
    if not file.exists():
        unavailable("a node can be made silent on a cluster of tests/cluster/kube alone")
    process = int(file.read_text().split()[0])
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)
        kubectl("wait", "--for=condition=Ready", f"node/{node}", "--timeout=600s")


def _idle(name: str, image: str) -> Mapping[str, Any]:
    return {
        "priorityClassName": name,
        "nodeSelector": {"pool": "gpu-spot"},
        "tolerations": [{"operator": "Exists"}],
        "restartPolicy": "Never",
        "containers": [
            {
                "name": "idle",
                "image": image,
                "command": ["sleep", "600"],
                "resources": {"limits": SPOT, "requests": SPOT},
            }
        ],
    }


def _manifest(version: str, kind: str, name: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **content}

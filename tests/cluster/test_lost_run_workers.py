"""Recovery from a run worker that is killed while its steps run: limits are respected, and nothing is left over."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import pytest
import yaml

from tests.cluster.deployment import KubernetesDeployment
from tests.conftest import unavailable
from tests.containers.fixtures import OpenKubernetes
from tests.contracts.container_executor import FOR_EVER, STEPS, Story, overriding, sleeping, variables

NARROW = "narrow"


@pytest.fixture(scope="module")
def deployment(open_kubernetes: OpenKubernetes, image_with: Callable[..., str]) -> Iterator[KubernetesDeployment]:
    image = image_with(STEPS)
    own = {
        **variables(image),
        f"ML_ASSETS__POOLS__{NARROW.upper()}": '{cpus=0.1, memory="500Mi", concurrency=1, node_selector={pool="cpu"}}',
    }
    with open_kubernetes(STEPS, image=image, variables=own) as opened:
        yield opened


def test_successor_keeps_the_pools_limit_and_gives_its_slot_back(deployment: KubernetesDeployment) -> None:
    on_narrow = overriding("*", pool=NARROW)
    with deployment.daemon():
        first = deployment.launch("sleeper", run_config={**sleeping(FOR_EVER), **on_narrow})
        is_working(deployment, first)
        second = deployment.launch("on_spot", run_config={**sleeping(0, "on_spot"), **on_narrow})
        deployment.wait_until(lambda: waiting_steps(deployment) == {second}, second)
        kill_run_worker(first)
        deployment.wait_until(lambda: "Took over" in Story(deployment, first).said(), first)
        assert slots(deployment) == {first}
        deployment.release(first)
        deployment.wait(first)
        deployment.wait(second)
    freed = Story(deployment, first).time_of(dg.DagsterEventType.STEP_SUCCESS)
    assert Story(deployment, second).time_of(dg.DagsterEventType.STEP_WORKER_STARTING) > freed
    assert slots(deployment) == waiting_steps(deployment) == set()


def test_steps_without_a_run_worker_are_swept_when_their_run_is_given_up(deployment: KubernetesDeployment) -> None:
    """Dagster's daemon fails the run and runs the sensor; otherwise the pod would run for ever and hold its slot."""
    with without_successors(deployment), deployment.daemon():
        run_id = deployment.launch("sleeper", run_config={**sleeping(FOR_EVER), **overriding("*", pool=NARROW)})
        is_working(deployment, run_id)
        (pod,) = deployment.step_pods(run_id)
        kill_run_worker(run_id)
        deployment.wait(run_id, status="FAILURE")
        deployment.wait_until(lambda: not deployment.step_pods(run_id), run_id)
        deployment.wait_until(lambda: not slots(deployment), run_id)
        job = pod["metadata"]["labels"]["job-name"]
        deployment.wait_until(lambda: any(job in said for said in swept(deployment)), run_id)
    jobs = deployment.kubectl("get", "jobs", "--selector", f"ml-assets/run={run_id}", "--output", "name")
    assert jobs == ""
    assert "Took over" not in Story(deployment, run_id).said()


@contextmanager
def without_successors(deployment: KubernetesDeployment) -> Iterator[None]:
    """Make a daemon that starts inside the block fail a run whose worker is lost, instead of resuming it."""
    file = deployment.home / "dagster.yaml"
    before = file.read_text()
    tree = yaml.safe_load(before)
    tree["run_monitoring"]["max_resume_run_attempts"] = 0
    file.write_text(yaml.safe_dump(tree))
    try:
        yield
    finally:
        file.write_text(before)


def is_working(deployment: KubernetesDeployment, run_id: str) -> None:
    """Wait until the run's step is running."""
    deployment.wait_until(lambda: "second 2" in Story(deployment, run_id).log("sleeper"), run_id)


def kill_run_worker(run_id: str) -> None:
    """Kill the run worker's process, so that it can neither end nor report anything."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = file.read_bytes().decode().split("\0")
            if "execute_run" in words and any(run_id in word for word in words):
                found.append(int(file.parent.name))
    if not found:
        unavailable("the processes of the cluster's pods are not seen on this machine")
    for process in found:
        os.kill(process, signal.SIGKILL)


def slots(deployment: KubernetesDeployment) -> set[str]:
    """Return the runs whose steps hold a slot of the narrow pool."""
    return deployment.instance.event_log_storage.get_concurrency_info(NARROW).active_run_ids


def waiting_steps(deployment: KubernetesDeployment) -> set[str]:
    """Return the runs whose steps wait for a slot of the narrow pool."""
    return deployment.instance.event_log_storage.get_concurrency_info(NARROW).pending_run_ids


def swept(deployment: KubernetesDeployment) -> list[str]:
    """Return the message of each tick of the sensor that removes leftovers."""
    instance = deployment.instance
    (sensor,) = [
        state
        for state in instance.all_instigator_state()
        if state.instigator_name == "ml_assets_remove_leftover_containers"
    ]
    ticks = instance.get_ticks(sensor.instigator_origin_id, sensor.selector_id)
    return [tick.skip_reason or "" for tick in ticks]

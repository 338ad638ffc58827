"""A backfill of many partitions keeps to the limit of its pool and leaves nothing behind."""

import time
from collections.abc import Callable, Iterator

import dagster as dg
import pytest
import yaml

from tests.cluster.deployment import KubernetesDeployment
from tests.containers.fixtures import OpenKubernetes
from tests.containers.steps import days
from tests.contracts.container_executor import GONE_SECONDS, STEPS, variables

COUNT = 200
LIMIT, RUNS = 4, 8
"""Slots of the pool, and concurrent runs: more than the slots, but few enough for two cores."""
PODS = "app.kubernetes.io/managed-by=ml-assets,ml-assets/asset=daily"


@pytest.fixture(scope="module")
def deployment(open_kubernetes: OpenKubernetes, image_with: Callable[..., str]) -> Iterator[KubernetesDeployment]:
    image = image_with(STEPS)
    own = {**variables(image), "ML_ASSETS__POOLS__CPU__CONCURRENCY": str(LIMIT)}
    with open_kubernetes(STEPS, image=image, variables=own) as opened:
        file = opened.home / "dagster.yaml"
        tree = yaml.safe_load(file.read_text())
        tree["concurrency"]["runs"]["max_concurrent_runs"] = RUNS
        file.write_text(yaml.safe_dump(tree))
        yield opened


@pytest.mark.timeout(3600)
def test_many_partitions_keep_to_the_pools_limit_and_leave_nothing(deployment: KubernetesDeployment) -> None:
    partitions = days.get_partition_keys()[:COUNT]
    most = finished = 0
    with deployment.daemon():
        runs = {"dagster/backfill": deployment.backfill("daily", partitions)}
        ended = dg.RunsFilter(tags=runs, statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED])
        failed = dg.RunsFilter(tags=runs, statuses=[dg.DagsterRunStatus.FAILURE])
        deadline = time.monotonic() + 3400
        while finished < len(partitions):
            for run in deployment.instance.get_runs(failed, limit=1):
                raise AssertionError(deployment.story(run.run_id))
            assert time.monotonic() < deadline, f"{finished} of {len(partitions)} partitions are done"
            finished = deployment.instance.get_runs_count(ended)
            most = max(most, len([pod for pod in deployment.pods(PODS) if is_alive(pod)]))
            time.sleep(1)
    assert deployment.instance.get_materialized_partitions(dg.AssetKey("daily")) == set(partitions)
    assert 1 < most <= LIMIT
    deadline = time.monotonic() + GONE_SECONDS
    while deployment.pods(PODS):
        assert time.monotonic() < deadline, "pods are left over"
        time.sleep(1)
    pool = deployment.instance.event_log_storage.get_concurrency_info("cpu")
    assert (pool.slot_count, pool.active_slot_count, pool.pending_step_count) == (LIMIT, 0, 0)


def is_alive(pod: dict[str, dict[str, str]]) -> bool:
    """Return True if a pod has not ended."""
    return pod["status"]["phase"] in ("Pending", "Running")

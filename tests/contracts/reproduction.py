"""The contract of reproduction in containers: the past image's definitions run, and nothing is published."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg
from dagster._core.storage.tags import PARTITION_NAME_TAG
from mlflow import MlflowClient

from ml_assets.resources.provenance import REPRODUCTION_METADATA
from tests.containers import reproduced
from tests.containers.deployment import PROJECT, Deployment
from tests.contracts.container_executor import Story

MODULE = "tests.containers.reproduced"
NOW = "tests/containers/reproduced_now.py"
KEYS = ("numbers", "figures", "line")


def require_reproduction(
    deployment: Deployment, past: str, assets: Sequence[str], meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Materialize assets in a past image with its definitions, and reproduce the last one.

    Args:
        deployment: deployment with `MODULE` and `NOW`.
        past: image of `MODULE` alone, by digest, in which the deployment's steps run.
        assets: keys of past assets, the last one derived from the others.
        meanwhile: called between materialization and reproduction.
    """
    asset = assets[-1]
    made = deployment.wait(launch_past(deployment, past, assets))
    assert Story(deployment, made.run_id).records()[asset].environment.image == past
    meanwhile()
    before = _everything(deployment)
    command = [sys.executable, "-m", "ml_assets.cli", "reproduce", f"{asset}@a", "--json"]
    with subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as reproduction:
        try:
            deployment.wait_until(lambda: reproduction.poll() is not None, made.run_id)
        finally:
            reproduction.terminate()
        out, err = reproduction.communicate()
    assert reproduction.returncode == 0, err
    verdict = json.loads(out)
    assert (verdict["outcome"], verdict["image"], verdict["warnings"]) == ("bit-identical", past, [])
    run = verdict["dagster_run"]
    assert f"launched run {run} of job ml_assets_reproduce in {past}" in err
    (placement,) = Story(deployment, run).placements()
    assert (placement["image"], placement["pool"], placement["cpus"]) == (past, "cpu", 0.1)
    assert _everything(deployment) == before | {"runs": before["runs"] + 1}
    (logged,) = deployment.instance.fetch_observations(dg.AssetKey(asset), limit=5).records
    assert (logged.run_id, logged.partition_key) == (run, "a")
    assert logged.event_log_entry.asset_observation
    assert logged.event_log_entry.asset_observation.metadata[REPRODUCTION_METADATA].value == verdict


def launch_past(deployment: Deployment, image: str, assets: Sequence[str]) -> str:
    """Launch a run as the code location did with its past image and definitions, and return the run's id."""
    job = reproduced.then().resolve_implicit_global_asset_job_def()
    selected = frozenset(map(dg.AssetKey, assets))
    today = deployment.daemons.repository.get_full_job("__ASSET_JOB")
    code = today.get_python_origin()
    run = deployment.instance.create_run_for_job(
        job.get_subset(asset_selection=selected),
        asset_selection=selected,
        tags={PARTITION_NAME_TAG: "a"},
        remote_job_origin=today.get_remote_origin(),
        job_code_origin=code._replace(repository_origin=code.repository_origin._replace(container_image=image)),
    )
    deployment.instance.submit_run(run.run_id, deployment.daemons.context.create_request_context())
    deployment.dequeue()
    return run.run_id


def _everything(deployment: Deployment) -> dict[str, Any]:
    """Return the state that a reproduction must not change, apart from its own run."""
    instance, client = deployment.instance, MlflowClient(deployment.servers.mlflow)
    return {
        "runs": instance.get_runs_count(),
        "events": {key: len(instance.fetch_materializations(dg.AssetKey(key), limit=50).records) for key in KEYS},
        "content": deployment.objects("content"),
        "models": len(client.search_model_versions("name = 'line'")),
        "MLflow runs": len(client.search_runs(["0", "1"])),
    }

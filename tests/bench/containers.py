"""Measure a step's overhead on a cluster: ``python -m tests.bench.containers``, on `tests/cluster/kube`.

Each step is launched alternately by our executor and by Dagster's ``k8s_job_executor``: same image, same node.
Overhead is the time from the container request to the user's first line, plus the time from the user's last line to
the step's success.
"""

import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.resources.identity import Digest
from tests.bench.report import Measurement, write
from tests.cluster.deployment import KubernetesDeployment, kubernetes_deployment
from tests.containers.ground import Ground
from tests.containers.servers import BUCKET, servers
from tests.containers.train_image import code_image, train_image
from tests.contracts.container_executor import Story

TURNS, ROUNDS = 3, 4
"""Number of times that each side's deployment is opened, and of counted runs per asset and opening."""
ASSETS = ("empty", "fitted")
_SOURCES = (
    "tests/__init__.py",
    "tests/bench/__init__.py",
    "tests/bench/factory_steps.py",
    "tests/bench/plain_steps.py",
)


def main() -> None:
    """Run both executors in turn and report the medians."""
    ground = Ground.given()
    ground.require_engine()
    ground.require_cluster()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        started = stack.enter_context(servers(ground.host))
        (folder / "project").mkdir()
        image = code_image(ground, train_image(ground, folder / "project"), _SOURCES)

        def opened(name: str, turn: int) -> AbstractContextManager[KubernetesDeployment]:
            variables = {"ML_ASSETS__CONTAINERS__IMAGE": image}
            module = f"tests.bench.{name}_steps"
            return kubernetes_deployment(ground, started, image, module, folder / f"{name}-{turn}", variables)

        seconds: dict[str, list[tuple[float, float]]] = {asset: [] for asset in ASSETS}
        for turn in range(TURNS):
            with opened("factory", turn) as deployment:
                record = Story(deployment, deployment.run("table").run_id).records()["table"]
                ours = {asset: _overheads(deployment, asset, {}) for asset in ASSETS}
                digest = Digest.parse(record.data_version).value
                url = f"s3://{BUCKET}/content/files/md5/{digest[:2]}/{digest[2:]}"
            with opened("plain", turn) as deployment:
                table = {"ops": {"fitted": {"config": {"url": url}}}}
                theirs = {asset: _overheads(deployment, asset, table if asset == "fitted" else {}) for asset in ASSETS}
            for asset in ASSETS:
                seconds[asset] += zip(ours[asset], theirs[asset], strict=True)
                print(f"turn {turn + 1} of {TURNS}, {asset}: {_text(ours[asset])} against {_text(theirs[asset])}")
    write(
        "containers",
        [Measurement.of_medians(f"overhead of the step {asset}", pairs, "s") for asset, pairs in seconds.items()],
    )


def _overheads(deployment: KubernetesDeployment, asset: str, run_config: dict[str, Any]) -> list[float]:
    """Return the overheads of several runs, in seconds; the first run is a warm-up and is not counted."""
    return [_overhead(deployment, asset, run_config) for _ in range(ROUNDS + 1)][1:]


def _text(seconds: Sequence[float]) -> str:
    return ", ".join(f"{each:.2f}" for each in seconds) + " s"


def _overhead(deployment: KubernetesDeployment, asset: str, run_config: dict[str, Any]) -> float:
    run = deployment.run(asset, run_config=run_config)
    events = {
        entry.dagster_event.event_type: entry
        for entry in deployment.events(run.run_id)
        if entry.dagster_event and entry.step_key == asset
    }
    materialization = events[dg.DagsterEventType.ASSET_MATERIALIZATION].asset_materialization
    assert materialization
    first, last = (float(materialization.metadata[name].value) for name in ("first", "last"))  # type: ignore[arg-type]
    ordered = events[dg.DagsterEventType.STEP_WORKER_STARTING].timestamp
    return (first - ordered) + (events[dg.DagsterEventType.STEP_SUCCESS].timestamp - last)


if __name__ == "__main__":
    main()

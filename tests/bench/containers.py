"""A step's overhead on a cluster: ``python -m tests.bench.containers``, on `tests/cluster/kube`.

Each step is launched by ours and by Dagster's own ``k8s_job_executor`` in turn, in the same image, on the same node.
Overhead is the time from the order of its container to the user's first line, and from the last to the step's success.
"""

import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg

from tests.bench.report import Measurement, write
from tests.cluster.deployment import KubernetesDeployment, kubernetes_deployment
from tests.containers.ground import Ground
from tests.containers.servers import BUCKET, servers
from tests.containers.train_image import code_image, train_image

ROUNDS = 7
_SOURCES = (
    "tests/__init__.py",
    "tests/bench/__init__.py",
    "tests/bench/factory_steps.py",
    "tests/bench/plain_steps.py",
)


def main() -> None:
    """Run both in turn and report the medians."""
    ground = Ground.given()
    ground.require_engine()
    ground.require_cluster()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        started = stack.enter_context(servers(ground.host))
        (folder / "project").mkdir()
        image = code_image(ground, train_image(ground, folder / "project"), _SOURCES)

        def opened(name: str) -> KubernetesDeployment:
            variables = {"ML_ASSETS__CONTAINERS__IMAGE": image}
            module = f"tests.bench.{name}_steps"
            return stack.enter_context(kubernetes_deployment(ground, started, image, module, folder / name, variables))

        ours = opened("factory")
        ours.run("table")
        (content,) = [key for key in ours.objects("content/files/md5/") if not key.endswith(".dir")]
        config = {"ops": {"fitted": {"config": {"url": f"s3://{BUCKET}/{content}"}}}}
        theirs = opened("plain")
        measurements = []
        for asset, given in (("empty", {}), ("fitted", config)):
            pairs = [(_overhead(ours, asset, {}), _overhead(theirs, asset, given)) for _ in range(ROUNDS + 1)][1:]
            medians = [statistics.median(figures) for figures in zip(*pairs, strict=True)]
            measurements.append(Measurement(f"overhead of the step {asset}", *medians, unit="s"))
    write("containers", measurements)


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

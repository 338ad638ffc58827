"""A container request for the pure tests of engines."""

from typing import Any

from ml_assets.executors.engine import ContainerRequest, container_labels
from ml_assets.placement import Placement
from ml_assets.resources.pools import Pool

RUN = "0b0fbe4c-8c3c-4d1e-9d0e-0e3c1a5f3d11"
IMAGE = "registry.example:5000/ml/train@sha256:" + "a" * 64


def a_request(pool: Pool, **placement: Any) -> ContainerRequest:
    """Return the request for a step's container on a pool."""
    given = {"memory": pool.memory, "cpus": pool.cpus, "accelerators": pool.accelerators} | placement
    return ContainerRequest(
        name="step-delay-model-0123456789ab-0",
        image=IMAGE,
        command=("python", "-m", "ml_assets.executors.step", "arguments", "{}"),
        placement=Placement(step="delay_model", image=IMAGE, pool="pool", **given),
        pool=pool,
        labels={**container_labels(RUN), "ml-assets/asset": "delay_model"},
        annotations={"ml-assets/asset": "delay_model", "ml-assets/partition": "2013-01"},
        variables={"ML_ASSETS_TARGET": "kubernetes", "B": "2", "A": "1"},
    )

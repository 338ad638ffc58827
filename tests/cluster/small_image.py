"""A code location with one image asset; its Dockerfile is in the same folder."""

import dagster as dg

from ml_assets.images import container_image
from ml_assets.target import on_target

small_image = container_image("small", dockerfile="tests/cluster/Dockerfile.small", sources=("LICENSE",))


@dg.definitions
def defs() -> dg.Definitions:
    return on_target(dg.Definitions(assets=[small_image]))

"""The dataset factory."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from ml_assets.artifacts.factory import define_artifact
from ml_assets.artifacts.frames import write_data
from ml_assets.containers import ImageAsset
from ml_assets.resources.provenance import ArtifactKind

__all__ = ["dataset"]


def dataset(
    *,
    image: ImageAsset | None = None,
    pool: str | None = None,
    window: Mapping[str, int] | None = None,
    seed: int | None = None,
    tracked: bool = False,
    **options: Any,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Declare a dataset: source data from which features are computed.

    The function returns a ``DataFrame`` (stored as Parquet) or the ``Path`` of a file or directory. The data version is
    the DVC hash of the content.

    Args:
        image: image asset that it runs in.
        pool: pool that it runs on.
        window: number of upstream partitions per parameter, up to and including the asset's own.
        seed: seed of Python's and NumPy's global random generators.
        tracked: log each attempt to MLflow as a run.
        options: every keyword of `dagster.asset`.

    Raises:
        DefinitionError: the function or an option is not accepted.
    """
    return functools.partial(
        define_artifact,
        kind=ArtifactKind.DATASET,
        write=write_data,
        image=image,
        pool=pool,
        window=window,
        seed=seed,
        tracked=tracked,
        **options,
    )

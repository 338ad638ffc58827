"""The feature set factory."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from ml_assets.artifacts.factory import define_artifact
from ml_assets.artifacts.frames import write_frame
from ml_assets.containers import ImageAsset
from ml_assets.resources.provenance import ArtifactKind

__all__ = ["feature_set"]


def feature_set(
    *,
    image: ImageAsset | None = None,
    pool: str | None = None,
    window: Mapping[str, int] | None = None,
    seed: int | None = None,
    tracked: bool = False,
    **options: Any,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Declare a feature set: a table computed from datasets, with one row per prediction.

    The function returns a ``DataFrame``, stored as Parquet. The data version is the DVC hash of the content.

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
        kind=ArtifactKind.FEATURE_SET,
        write=write_frame,
        image=image,
        pool=pool,
        window=window,
        seed=seed,
        tracked=tracked,
        **options,
    )

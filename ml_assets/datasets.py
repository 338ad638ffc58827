"""The dataset factory."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from ml_assets.artifacts.formats.interface import Format
from ml_assets.artifacts.values import define_data
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
    format: Format | None = None,  # noqa: A002
    **options: Any,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Declare a dataset: source data from which features are computed.

    The function returns a table (pandas, Polars or Arrow, stored as Parquet), a NumPy array, text, bytes, what JSON can
    hold, a value of a type for which a `Format` exists, or the ``Path`` of a file or directory. The data version is the
    DVC hash of the content.

    Args:
        image: image asset that it runs in.
        pool: pool that it runs on.
        window: number of upstream partitions per parameter, up to and including the asset's own.
        seed: seed of Python's and NumPy's global random generators.
        tracked: log each attempt to MLflow as a run.
        format: stores the value; by default the format for the type of the value.
        options: every keyword of `dagster.asset`.

    Raises:
        DefinitionError: the function or an option is not accepted.
    """
    return functools.partial(
        define_data,
        kind=ArtifactKind.DATASET,
        format=format,
        image=image,
        pool=pool,
        window=window,
        seed=seed,
        tracked=tracked,
        **options,
    )

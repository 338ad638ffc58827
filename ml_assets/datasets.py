"""The dataset factory."""

from collections.abc import Callable, Mapping
from typing import Any, overload

import dagster as dg

from ml_assets.artifacts.declaration import Declaration
from ml_assets.artifacts.formats.interface import Format
from ml_assets.artifacts.values import declare_data
from ml_assets.containers import ImageAsset
from ml_assets.resources.provenance import ArtifactKind

__all__ = ["dataset"]


@overload
def dataset(function: Callable[..., Any], /, **options: Any) -> dg.AssetsDefinition: ...


@overload
def dataset(
    function: None = None,
    /,
    *,
    image: ImageAsset | None = None,
    pool: str | None = None,
    window: Mapping[str, int] | None = None,
    seed: int | None = None,
    tracked: bool = False,
    format: Format | None = None,
    **options: Any,
) -> Declaration: ...


def dataset(
    function: Callable[..., Any] | None = None,
    /,
    *,
    image: ImageAsset | None = None,
    pool: str | None = None,
    window: Mapping[str, int] | None = None,
    seed: int | None = None,
    tracked: bool = False,
    format: Format | None = None,  # noqa: A002
    **options: Any,
) -> dg.AssetsDefinition | Declaration:
    """Declare a dataset: source data from which features are computed.

    The function returns a table (pandas, Polars or Arrow, stored as Parquet), a NumPy array, text, bytes, what JSON can
    hold, a value of a type for which a `Format` exists, or the ``Path`` of a file or directory. The data version is the
    DVC hash of the content.

    Args:
        function: the function that makes it; without one, a decorator is returned.
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
    return declare_data(
        function,
        ArtifactKind.DATASET,
        format,
        image=image,
        pool=pool,
        window=window,
        seed=seed,
        tracked=tracked,
        **options,
    )

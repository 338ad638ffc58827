"""The factory of several artifacts that one function makes."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from ml_assets.artifacts.declaration import Declaration, define_artifacts
from ml_assets.containers import ImageAsset

__all__ = ["multi_asset"]


def multi_asset(
    *,
    outs: Mapping[str, Declaration],
    image: ImageAsset | None = None,
    pool: str | None = None,
    window: Mapping[str, int] | None = None,
    seed: int | None = 0,
    **options: Any,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Declare several artifacts that one function makes.

    ::

        @multi_asset(outs={"split": dataset(), "iris_model": model(registered_name="iris")})
        def training(iris: pd.DataFrame) -> tuple[pd.DataFrame, TrainedModel]: ...

    Each artifact has its own key, data version, code version and record. The function returns a tuple with one value
    for each output, or yields ``dagster.Output`` or ``dagster.MaterializeResult``, as with `dagster.multi_asset`. The
    first model has the MLflow run that is active while the function runs, and each further one has its own run.

    Args:
        outs: factory of each artifact without a function, by output name. It takes the options that `dagster.AssetOut`
            takes, and ``output_required``.
        image: image asset that it runs in.
        pool: pool that it runs on.
        window: number of upstream partitions per parameter, up to and including the assets' own.
        seed: seed of Python's and NumPy's global random generators.
        options: every keyword of `dagster.multi_asset` except outs and specs. With ``can_subset=True``, values of
            outputs that are not selected are dropped.

    Raises:
        DefinitionError: the function, an output or an option is not accepted.
    """
    return functools.partial(define_artifacts, outs=outs, image=image, pool=pool, window=window, seed=seed, **options)

"""The model factory."""

import functools
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import dagster as dg

from ml_assets.artifacts.declaration import Declaration, declare
from ml_assets.artifacts.metadata import model_metadata
from ml_assets.artifacts.trained_model import TrainedModel, rows_of
from ml_assets.artifacts.unrecorded import Unrecorded
from ml_assets.artifacts.writer import Stored, WriteContext
from ml_assets.containers import ImageAsset
from ml_assets.resources.errors import DefinitionError, SchemaError
from ml_assets.resources.identity import Digest
from ml_assets.resources.provenance import ArtifactKind
from ml_assets.resources.tracking.tags import RunTags

if TYPE_CHECKING:
    from ml_assets.resources.models.interface import Flavor

__all__ = ["TrainedModel", "model"]

_REGISTERED_NAME = re.compile(r"(?=.*\S)[^/:]{1,256}", re.DOTALL)


@overload
def model(function: Callable[..., Any], /, **options: Any) -> dg.AssetsDefinition: ...


@overload
def model(
    function: None = None,
    /,
    *,
    image: ImageAsset | None = None,
    pool: str | None = None,
    registered_name: str | None = None,
    window: Mapping[str, int] | None = None,
    seed: int | None = 0,
    served: bool = True,
    flavor: "Flavor | None" = None,
    **options: Any,
) -> Declaration: ...


def model(
    function: Callable[..., Any] | None = None,
    /,
    *,
    image: ImageAsset | None = None,
    pool: str | None = None,
    registered_name: str | None = None,
    window: Mapping[str, int] | None = None,
    seed: int | None = 0,
    served: bool = True,
    flavor: "Flavor | None" = None,
    **options: Any,
) -> dg.AssetsDefinition | Declaration:
    """Declare a model: a trained estimator with its metrics and figures.

    The function returns a `TrainedModel`. Each attempt is one MLflow run with parameters, metrics, figures, the input
    versions and the model itself. MLflow's own functions, called in the function, log to the same run. The data version
    is the digest of weights and signature, without any timestamp or run id, so equal training gives an equal version.

    Args:
        function: the function that makes it; without one, a decorator is returned.
        image: image asset that it runs in.
        pool: pool that it runs on.
        registered_name: name in the model registry; without it the model is not registered.
        window: number of upstream partitions per parameter, up to and including the asset's own.
        seed: seed of Python's and NumPy's global random generators.
        served: True if the model server must be able to run it. The model is then also converted to ONNX, and rejected
            unless the server's code returns the estimator's outputs.
        flavor: operations of the estimator's library; found by the estimator's type if left out.
        options: every keyword of `dagster.asset`.

    Raises:
        DefinitionError: the function or an option is not accepted.
    """
    if not isinstance(served, bool):
        raise DefinitionError(
            f"served must be True or False, got {served!r}; only models with an ONNX form can be served",
            next_step="set served=False to store the model without serving it",
        )
    if registered_name is not None and not _is_registrable(registered_name):
        raise DefinitionError(
            f"MLflow does not accept {registered_name!r} as the name of a registered model",
            next_step="use a name that is not empty, without / and :, that does not begin with ..",
        )
    return declare(
        function,
        ArtifactKind.MODEL,
        functools.partial(_write_model, registered_name=registered_name, served=served, flavor=flavor),
        image=image,
        pool=pool,
        window=window,
        seed=seed,
        tracked=True,
        **options,
    )


def _is_registrable(name: Any) -> bool:
    """Return True if MLflow accepts the name (mlflow.utils.validation), and its database can hold it."""
    return isinstance(name, str) and _REGISTERED_NAME.fullmatch(name) is not None and name != "." and name[:2] != ".."


def _write_model(
    value: Any, context: WriteContext, registered_name: str | None, served: bool, flavor: "Flavor | None"
) -> Stored:
    from ml_assets.artifacts.model_server import ModelServer
    from ml_assets.resources.models.flavors import save_model

    if not isinstance(value, TrainedModel):
        raise SchemaError(
            f"expected the function to return a TrainedModel, got {type(value).__name__}",
            next_step="return ml_assets.TrainedModel(estimator, input_example, metrics)",
        )
    run = context.mlflow_run
    if run is None:
        raise RuntimeError("a model always has an MLflow run")
    with tempfile.TemporaryDirectory(prefix="ml-assets-model-") as scratch:
        if context.earlier is not None:
            saved, content = context.earlier.saved, context.earlier.content
        elif value.input_example is None:
            raise SchemaError(
                "the TrainedModel has no input example, so it would have no signature",
                next_step="pass a few rows of the training frame as input_example",
            )
        else:
            saved = save_model(
                value.estimator,
                Path(scratch) / "model",
                input_example=rows_of(value.input_example),
                server=ModelServer() if served else None,
                flavor=flavor,
            )
            content = context.storage.store.put(saved.directory).model_copy(update={"format": "model"})
        context.keep(Unrecorded(saved, content, value.metrics, value.parameters, value.figures, value.history))
        run.set_tags({RunTags.DATA_VERSION: content.version})
        details: dict[str, Any] = {}
        if saved.largest_difference is not None:
            # Not a metric: it does not describe the model, and it varies because more threads sum in another order.
            run.set_tags({RunTags.ONNX_DIFFERENCE: str(saved.largest_difference)})
            details["largest difference as ONNX"] = dg.MetadataValue.float(saved.largest_difference)
        run.log_metrics(value.metrics, value.history)
        run.log_parameters(value.parameters)
        run.log_figures(value.figures)
        name, version = run.log_model(saved, registered_name)
    return Stored(
        Digest.parse(content.version),
        content,
        {**model_metadata(value.metrics, value.figures), **details},
        (name, version) if name and version else None,
    )

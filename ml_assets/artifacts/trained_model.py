"""The value that a model asset returns and its consumers receive."""

import math
import posixpath
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.resources.errors import SchemaError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from ml_assets.serving.servable import Servable

__all__ = ["TrainedModel", "rows_of"]

# Metric names that MLflow accepts (mlflow.utils.validation).
_METRIC_NAME = re.compile(r"[/\w.\- :]{1,250}")
# The name of a figure becomes part of a URL of the artifact server.
_NOT_IN_FIGURE_NAMES = set("/\\#?%")
_FIGURE_NAME_BYTES = 250


@dataclass(frozen=True)
class TrainedModel:
    """A fitted estimator with the data to evaluate, log and use it.

    Args:
        estimator: a fitted XGBoost or scikit-learn estimator, a PyTorch module that takes one tensor of rows, or a
            model of a project's own `Flavor`.
        input_example: input rows; a thousand rows are better than five. Their columns and types become the signature.
            A column with a missing value is optional in the signature. The columns of a NumPy array, with one row per
            prediction, are named by their position: ``0``, ``1`` and so on. None on a loaded model.
        metrics: finite numbers by name, logged to MLflow and shown in the Dagster UI. A name has letters, digits,
            spaces and ``_ - . : /``, as in MLflow.
        figures: plots by name, as Matplotlib figures or PNG bytes. A name is a file name without ``.png``.
        parameters: parameters chosen in training besides the run config, such as the number of rounds.
        directory: canonical directory that it was loaded from; None on a newly trained model.
        history: values of metrics by step, such as the loss of each epoch: one value per step from 0, or a mapping from
            step to value. MLflow plots them. A name may also be one of the metrics, which is then its last value.

    Raises:
        SchemaError: a metric, its history or a figure has an invalid name or value.
    """

    estimator: Any
    input_example: "pd.DataFrame | np.ndarray[Any, Any] | None" = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    figures: "Mapping[str, Figure | bytes]" = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    directory: Path | None = None
    history: "Mapping[str, Sequence[float] | Mapping[int, float]]" = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, given in (("metrics", self.metrics), ("figures", self.figures), ("history", self.history)):
            if not isinstance(given, Mapping):
                raise SchemaError(
                    f"{kind} must be a mapping from name to value, got {type(given).__name__}",
                    next_step="return a dict such as {'name': value}",
                )
        for name, value in self.metrics.items():
            _check_metric_name(name)
            _check_metric(name, value)
        for name, values in self.history.items():
            _check_metric_name(name)
            _check_history(name, values)
        for name, figure in self.figures.items():
            _check_figure(name, figure)

    def predict(self, frame: "pd.DataFrame | np.ndarray[Any, Any]") -> Any:
        """Return one prediction per row; a model loaded for serving predicts with the model server's code.

        Raises:
            InvalidInput: the frame does not match the model's signature.
            SchemaError: the rows are neither a frame nor an array with two dimensions.
        """
        frame = rows_of(frame)
        if self._servable is None:
            from ml_assets.resources.models.flavors import predict

            return predict(self.estimator, frame, self.directory)
        from ml_assets.artifacts.model_server import predict_frame

        return predict_frame(self._servable, frame)[self._servable.prediction]

    @cached_property
    def _servable(self) -> "Servable | None":
        from ml_assets.resources.models.flavors import is_served
        from ml_assets.serving.servable import open_servable

        return open_servable(self.directory) if self.directory and is_served(self.directory) else None


def rows_of(example: "pd.DataFrame | np.ndarray[Any, Any]") -> "pd.DataFrame":
    """Return rows as a frame; the columns of an array are named by their position.

    Raises:
        SchemaError: an array does not have two dimensions, or the rows are neither a frame nor an array.
    """
    import numpy as np
    import pandas as pd

    if isinstance(example, pd.DataFrame):
        return example
    if not isinstance(example, np.ndarray) or example.ndim != 2:
        found = f"an array of shape {example.shape}" if isinstance(example, np.ndarray) else type(example).__name__
        raise SchemaError(
            f"expected rows as a pandas DataFrame or a NumPy array with one row per prediction, got {found}",
            next_step="pass a frame, or an array with two dimensions, such as X[:100]",
        )
    return pd.DataFrame(example, columns=[str(position) for position in range(example.shape[1])])


def _check_metric_name(name: Any) -> None:
    if not _is_metric_name(name):
        raise SchemaError(
            f"MLflow does not accept {name!r} as the name of a metric",
            next_step="use at most 250 letters, digits, spaces and _ - . : and separate parts with single slashes",
        )


def _check_history(name: str, values: Any) -> None:
    try:
        steps = dict(values) if isinstance(values, Mapping) else dict(enumerate(values))
        valid = all(isinstance(step, Integral) and isinstance(float(value), float) for step, value in steps.items())
    except (TypeError, ValueError, OverflowError):
        valid = False
    if not valid or isinstance(values, str | bytes):
        raise SchemaError(
            f"the history of {name!r} must be one number per step, or a mapping from step to number, "
            f"got {reprlib.repr(values)}",
            next_step="return for example {'loss': [0.9, 0.5, 0.4]}",
        )


def _check_metric(name: Any, value: Any) -> None:
    if not _is_finite(value):
        raise SchemaError(
            f"the metric {name!r} must be a finite number, got {reprlib.repr(value)}",
            next_step="omit the metric if it has no value, or correct its computation",
        )


def _is_metric_name(name: Any) -> bool:
    if not isinstance(name, str) or not _METRIC_NAME.fullmatch(name):
        return False
    return posixpath.normpath(name) == name and name != "." and not name.startswith(("..", "/"))


def _is_finite(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return False
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def _check_figure(name: Any, figure: Any) -> None:
    if not _is_figure_name(name):
        raise SchemaError(
            f"{name!r} cannot be the name of a figure, because the name becomes a file name",
            next_step=f"use at most {_FIGURE_NAME_BYTES} bytes of text without / \\ # ? % and without a leading dot",
        )
    if not (isinstance(figure, bytes) or hasattr(figure, "savefig")):
        raise SchemaError(
            f"the figure {name!r} must be a Matplotlib figure or PNG bytes, got {type(figure).__name__}",
            next_step="pass a Matplotlib figure or the bytes of a PNG file",
        )


def _is_figure_name(name: Any) -> bool:
    if not isinstance(name, str) or not name or not name.isprintable():
        return False
    fits = len(name.encode()) <= _FIGURE_NAME_BYTES
    return fits and not name.startswith(".") and _NOT_IN_FIGURE_NAMES.isdisjoint(name)

"""The operations for one library's models."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from ml_assets.resources.models.columns import InputColumn
from ml_assets.resources.models.outputs import Method

__all__ = ["Conversion", "Flavor", "class_name"]

Conversion = Callable[[], Any]
"""Returns an ONNX model, with one input for all columns (named ``features``) or one for each, in their order."""


class Flavor(Protocol):
    """The operations for one library's models."""

    name: str
    file: str
    """Name of the weights file, here and in MLflow's directory."""
    accepts: str
    distributions: tuple[str, ...]

    def recognises(self, estimator: Any) -> bool:
        """Return True if an estimator belongs to this library and can predict."""

    def methods(self, estimator: Any) -> Mapping[str, Method]:
        """Return the functions that compute the estimator's outputs for a frame, by output.

        ``predictions`` is required: one value or row of values for each row. Others are ``probabilities`` (rows by
        classes) and any of `ml_assets.resources.models.outputs.SCORES`.
        """

    def write(self, estimator: Any, file: Path, example: pd.DataFrame) -> None:
        """Write the weights, with equal bytes for equal weights; other files may stand beside them.

        Raises:
            DefinitionError: the library's format cannot store the estimator.
        """

    def read(self, file: Path, class_name: str) -> Any:
        """Load the estimator from a file, given the name of its class."""

    def conversions(self, estimator: Any, columns: Sequence[InputColumn], missing_text: str) -> Iterator[Conversion]:
        """Return the conversions to ONNX to try, best first. They may change the estimator, so pass a copy.

        Args:
            estimator: result of `read`.
            columns: columns of its input.
            missing_text: the text that the server feeds for a missing string.
        """

    def write_for_mlflow(self, estimator: Any, path: str, **options: Any) -> None:
        """Write the directory that MLflow can serve, with the arguments of MLflow's own ``save_model``."""


def class_name(estimator: Any) -> str:
    """Return the module and name of an estimator's class."""
    return f"{type(estimator).__module__}.{type(estimator).__qualname__}"

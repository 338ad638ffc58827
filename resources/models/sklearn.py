"""scikit-learn's estimators and pipelines."""

import functools
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.models.columns import InputColumn
from ml_assets.resources.models.graph import FEATURES, OPSETS
from ml_assets.resources.models.interface import Conversion, Flavor, class_name
from ml_assets.resources.models.outputs import PREDICTIONS, PROBABILITIES, SCORES, Array, Method
from ml_assets.resources.models.sklearn_copy import options_of, prepare
from ml_assets.resources.models.skops import canonical_skops

__all__ = ["ScikitLearn"]


class ScikitLearn(Flavor):
    """scikit-learn's estimators and pipelines, stored by skops and converted by skl2onnx.

    A project that has estimators or transformers of its own names their packages in a subclass, and passes it to the
    model factory as ``flavor=``::

        class OwnSteps(ml.ScikitLearn):
            name = "own-steps"
            trusted = (*ml.ScikitLearn.trusted, "my_project")
    """

    name = "sklearn"
    file = "model.skops"
    distributions = ("scikit-learn", "skops", "xgboost", "xgboost-cpu", "pandas", "numpy", "scipy")
    trusted: ClassVar[tuple[str, ...]] = ("sklearn", "numpy", "scipy", "xgboost")
    """Packages whose classes a file may name. Loading imports the classes and sets their attributes."""

    def recognises(self, estimator: Any) -> bool:
        """Return True for an estimator with ``predict``."""
        is_ours = any(base.__module__ == "sklearn.base" for base in type(estimator).__mro__)
        return is_ours and hasattr(estimator, "predict")

    def methods(self, estimator: Any) -> Mapping[str, Method]:
        """Return ``predict``, ``predict_proba`` and the methods that compute scores, as far as it has them."""
        names = {PREDICTIONS: "predict", PROBABILITIES: "predict_proba", **{name: name for name in SCORES}}
        return {
            output: functools.partial(_computed, getattr(estimator, method))
            for output, method in names.items()
            if hasattr(estimator, method)
        }

    def write(self, estimator: Any, file: Path, example: pd.DataFrame) -> None:
        """Write the estimator without code, with equal bytes for equal weights."""
        import skops.io

        try:
            content = skops.io.dumps(estimator)
        except Exception as error:
            raise DefinitionError(
                f"skops cannot store {class_name(estimator)}: {error}",
                next_step="use estimators and pipelines of scikit-learn, with functions from the top level of a module",
            ) from error
        file.write_bytes(canonical_skops(content))
        self._trusted(file)

    def read(self, file: Path, class_name: str) -> Any:
        """Load the estimator."""
        import skops.io

        return skops.io.load(file, trusted=self._trusted(file))

    def conversions(self, estimator: Any, columns: Sequence[InputColumn], missing_text: str) -> Iterator[Conversion]:
        """Return conversions with one matrix of numbers first. Doubles keep scikit-learn's thresholds."""
        from skl2onnx.common.data_types import (
            BooleanTensorType,
            DoubleTensorType,
            FloatTensorType,
            Int64TensorType,
            StringTensorType,
        )

        while hasattr(estimator, "best_estimator_"):  # a search predicts with the best one
            estimator = estimator.best_estimator_
        prepare(estimator, missing_text)
        if not any(column.is_text for column in columns):
            for tensor in (DoubleTensorType, FloatTensorType):
                yield functools.partial(_convert, estimator, [(FEATURES, tensor([None, len(columns)]))])
        for tensor in (DoubleTensorType, FloatTensorType):
            for exact in (True, False):
                types = [
                    StringTensorType
                    if column.is_text
                    else Int64TensorType
                    if exact and column.is_whole
                    else BooleanTensorType
                    if exact and column.is_boolean
                    else tensor
                    for column in columns
                ]
                if exact or any(column.is_whole or column.is_boolean for column in columns):
                    named = [(f"column_{index}", kind([None, 1])) for index, kind in enumerate(types)]
                    yield functools.partial(_convert, estimator, named)

    def write_for_mlflow(self, estimator: Any, directory: Path, path: str, **options: Any) -> None:
        """Write MLflow's directory with the skops file."""
        import mlflow.sklearn
        import skops.io

        trusted = skops.io.get_untrusted_types(data=skops.io.dumps(estimator))
        mlflow.sklearn.save_model(estimator, path, serialization_format="skops", skops_trusted_types=trusted, **options)

    def _trusted(self, file: Path) -> list[str]:
        """Return the types that the file needs beyond skops's own list: only those of the libraries that made it."""
        import skops.io

        types: list[str] = skops.io.get_untrusted_types(file=file)
        foreign = [name for name in types if name.split(".")[0] not in self.trusted]
        if foreign:
            raise DefinitionError(
                f"the model contains types of unsupported libraries: {', '.join(foreign)}",
                next_step="move these steps to a feature set, or trust your own packages in a subclass of "
                "ml_assets.ScikitLearn, given to the model factory as flavor=",
            )
        return types


def _computed(method: Any, frame: pd.DataFrame) -> Array:
    with warnings.catch_warnings():
        # Columns without text as names are not remembered by estimators; and rows may have unknown categories.
        warnings.filterwarnings("ignore", message="X (has feature names|does not have valid feature names)")
        warnings.filterwarnings("ignore", message="Found unknown categories")
        return np.asarray(method(frame))


def _convert(estimator: Any, types: list[tuple[str, Any]]) -> Any:
    import skl2onnx

    _let_pipelines_hold_xgboost()
    options = options_of(estimator)
    convert = functools.partial(
        skl2onnx.convert_sklearn, estimator, name="model", initial_types=types, target_opset=OPSETS
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notes of the converter; the comparison finds the same problems
        if hasattr(estimator, "predict_proba"):
            try:
                return convert(options={**options, id(estimator): {"zipmap": False}})
            except NameError:  # its converter does not have this option
                pass
        return convert(options=options)


def _let_pipelines_hold_xgboost() -> None:
    if sys.modules.get("xgboost") is None:  # then the estimator has no part of it
        return
    import xgboost
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    update_registered_converter(
        xgboost.XGBRegressor, "XGBoostXGBRegressor", calculate_linear_regressor_output_shapes, convert_xgboost
    )
    update_registered_converter(
        xgboost.XGBClassifier,
        "XGBoostXGBClassifier",
        calculate_linear_classifier_output_shapes,
        convert_xgboost,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )

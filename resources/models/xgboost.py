"""XGBoost's boosters and estimators."""

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ml_assets.resources.errors import AcceleratorUnavailable, DefinitionError
from ml_assets.resources.extras import require
from ml_assets.resources.models.columns import InputColumn
from ml_assets.resources.models.graph import FEATURES
from ml_assets.resources.models.interface import Conversion, Flavor, class_name
from ml_assets.resources.models.outputs import PREDICTIONS, PROBABILITIES, Array, Method

__all__ = ["XGBoost"]


class XGBoost(Flavor):
    """XGBoost's boosters and estimators, stored as UBJSON and converted by onnxmltools."""

    name = "xgboost"
    file = "model.ubj"
    distributions = ("xgboost", "xgboost-cpu", "scikit-learn", "pandas", "numpy", "scipy")

    def recognises(self, estimator: Any) -> bool:
        """Return True for a booster, and for an estimator with ``predict``."""
        is_ours = type(estimator).__module__.split(".")[0] == "xgboost" and hasattr(estimator, "save_model")
        return is_ours and hasattr(estimator, "predict")

    def methods(self, estimator: Any) -> Mapping[str, Method]:
        """Return ``predict`` and, for classifiers, ``predict_proba``."""
        methods: dict[str, Method] = {PREDICTIONS: functools.partial(_predict, estimator)}
        if hasattr(estimator, "predict_proba"):
            methods[PROBABILITIES] = lambda frame: np.asarray(estimator.predict_proba(frame))
        return methods

    def write(self, estimator: Any, file: Path, example: pd.DataFrame) -> None:
        """Write the trees and their settings, with equal bytes for equal weights."""
        missing = getattr(estimator, "missing", math.nan)
        if not math.isnan(missing):
            raise DefinitionError(
                f"{class_name(estimator)} has missing={missing}, which XGBoost's file format does not store",
                next_step="convert missing values to NaN in the features",
            )
        _refuse_fallback(estimator)
        estimator.save_model(file)

    def read(self, file: Path, class_name: str) -> Any:
        """Load the estimator."""
        require("xgboost")
        import xgboost

        estimator = getattr(xgboost, class_name.rpartition(".")[2])()
        estimator.load_model(file)
        return estimator

    def conversions(self, estimator: Any, columns: Sequence[InputColumn], missing_text: str) -> Iterator[Conversion]:
        """Return the only conversion: of 32-bit floats, as XGBoost computes."""
        if texts := [column.name for column in columns if column.is_text]:
            raise DefinitionError(
                f"its column {texts[0]!r} has categories, which the converter of XGBoost does not support",
                next_step="encode the categories as numbers in a feature set, or declare the model with served=False",
            )
        booster = estimator.get_booster() if hasattr(estimator, "get_booster") else estimator
        kind = json.loads(booster.save_config())["learner"]["gradient_booster"]["name"]
        if kind != "gbtree":
            raise DefinitionError(
                f"the converter of XGBoost supports the booster gbtree, not {kind}",
                next_step="train with booster='gbtree', or declare the model with served=False",
            )
        yield functools.partial(_convert, estimator, len(columns))

    def write_for_mlflow(self, estimator: Any, directory: Path, path: str, **options: Any) -> None:
        """Write MLflow's directory with the same file."""
        import mlflow.xgboost

        mlflow.xgboost.save_model(estimator, path, model_format="ubj", **options)


def _predict(estimator: Any, frame: pd.DataFrame) -> Array:
    import xgboost

    is_booster = isinstance(estimator, xgboost.Booster)
    return np.asarray(estimator.predict(xgboost.DMatrix(frame) if is_booster else frame))


def _refuse_fallback(estimator: Any) -> None:
    """Raise an error if XGBoost trained on the CPU (with a warning) because the requested GPU is missing."""
    if not hasattr(estimator, "get_booster"):
        return  # A bare Booster does not store the requested device.
    asked, booster = str(estimator.get_params().get("device") or "cpu"), estimator.get_booster()
    used = json.loads(booster.save_config())["learner"]["generic_param"]["device"]
    if not asked.startswith("cpu") and used.startswith("cpu"):
        raise AcceleratorUnavailable(
            f"XGBoost found no device {asked} for {class_name(estimator)}, and used the CPU",
            next_step="run it on a pool with accelerators in an image with the extra xgboost, or set device to cpu",
        )


def _convert(estimator: Any, columns: int) -> Any:
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    booster = estimator.get_booster() if hasattr(estimator, "get_booster") else estimator
    if booster is not estimator and (best := getattr(estimator, "best_iteration", None)) is not None:
        estimator._Booster = booster = booster[: best + 1]  # the trees that it predicts with after early stopping
    booster.feature_names = None  # the converter accepts only numbered features
    return onnxmltools.convert_xgboost(
        estimator, name="model", initial_types=[(FEATURES, FloatTensorType([None, columns]))]
    )

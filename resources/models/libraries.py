"""Support for each model library: canonical bytes, loading, and MLflow's format."""

import json
import math
from pathlib import Path
from typing import Any, Final, Protocol

import pandas as pd

from ml_assets.resources.errors import AcceleratorUnavailable, DefinitionError
from ml_assets.resources.models.onnx import ONNX_FILE, OnnxModel
from ml_assets.resources.models.skops import canonical_skops
from ml_assets.resources.models.torch import is_module, module_predicts, write_module

__all__ = ["FLAVORS", "Flavor", "accepted", "class_name", "flavor_of"]


class Flavor(Protocol):
    """The operations for one library's models."""

    name: str
    file: str
    """Name of the weights file, here and in MLflow's directory."""
    accepts: str
    distributions: tuple[str, ...]

    def recognises(self, estimator: Any) -> bool:
        """Return True if an estimator belongs to this library and can predict."""

    def predict(self, estimator: Any, frame: pd.DataFrame) -> Any:
        """Return an estimator's predictions, one value or row of values for each row."""

    def write(self, estimator: Any, file: Path, example: pd.DataFrame) -> None:
        """Write the weights, with equal bytes for equal weights; other files may stand beside them.

        Raises:
            DefinitionError: the library's format cannot store the estimator.
        """

    def read(self, file: Path, class_name: str) -> Any:
        """Load the estimator from a file, given the name of its class."""

    def write_for_mlflow(self, estimator: Any, path: str, **options: Any) -> None:
        """Write the directory that MLflow can serve, with the arguments of MLflow's own ``save_model``."""


class _XGBoost:
    name = "xgboost"
    file = "model.ubj"
    accepts = "XGBoost boosters and estimators (Booster, XGBRegressor, XGBClassifier, …)"
    distributions: tuple[str, ...] = ("xgboost", "xgboost-cpu", "scikit-learn", "pandas", "numpy", "scipy")

    def recognises(self, estimator: Any) -> bool:
        is_ours = type(estimator).__module__.split(".")[0] == "xgboost" and hasattr(estimator, "save_model")
        return is_ours and hasattr(estimator, "predict")

    def predict(self, estimator: Any, frame: pd.DataFrame) -> Any:
        import xgboost

        return estimator.predict(xgboost.DMatrix(frame) if isinstance(estimator, xgboost.Booster) else frame)

    def write(self, estimator: Any, file: Path, example: pd.DataFrame) -> None:
        missing = getattr(estimator, "missing", math.nan)
        if not math.isnan(missing):
            raise DefinitionError(
                f"{class_name(estimator)} has missing={missing}, which XGBoost's file format does not store",
                next_step="convert missing values to NaN in the features",
            )
        self._refuse_fallback(estimator)
        estimator.save_model(file)

    def _refuse_fallback(self, estimator: Any) -> None:
        """Raise an error if XGBoost trained on the CPU (with a warning) because the requested GPU is missing."""
        if not hasattr(estimator, "get_booster"):
            return  # A bare Booster does not store the requested device.
        asked, booster = str(estimator.get_params().get("device") or "cpu"), estimator.get_booster()
        used = json.loads(booster.save_config())["learner"]["generic_param"]["device"]
        if not asked.startswith("cpu") and used.startswith("cpu"):
            raise AcceleratorUnavailable(
                f"XGBoost found no device {asked} for {class_name(estimator)}, and used the CPU",
                next_step="run it on a pool with accelerators in an image with the cuda extra, or set device to cpu",
            )

    def read(self, file: Path, class_name: str) -> Any:
        import xgboost

        estimator = getattr(xgboost, class_name.rpartition(".")[2])()
        estimator.load_model(file)
        return estimator

    def write_for_mlflow(self, estimator: Any, path: str, **options: Any) -> None:
        import mlflow.xgboost

        mlflow.xgboost.save_model(estimator, path, model_format="ubj", **options)


class _ScikitLearn:
    name = "sklearn"
    file = "model.skops"
    accepts = "scikit-learn estimators and pipelines"
    distributions: tuple[str, ...] = ("scikit-learn", "skops", "xgboost", "xgboost-cpu", "pandas", "numpy", "scipy")
    _trusted_libraries = ("sklearn", "numpy", "scipy", "xgboost")

    def recognises(self, estimator: Any) -> bool:
        is_ours = any(base.__module__ == "sklearn.base" for base in type(estimator).__mro__)
        return is_ours and hasattr(estimator, "predict")

    def predict(self, estimator: Any, frame: pd.DataFrame) -> Any:
        return estimator.predict(frame)

    def write(self, estimator: Any, file: Path, example: pd.DataFrame) -> None:
        import skops.io

        try:
            content = skops.io.dumps(estimator)
        except Exception as error:
            raise DefinitionError(
                f"skops cannot store {class_name(estimator)}: {error}",
                next_step=f"use {self.accepts}; define their functions at the top level of a module",
            ) from error
        file.write_bytes(canonical_skops(content))
        self._trusted(file)

    def read(self, file: Path, class_name: str) -> Any:
        import skops.io

        return skops.io.load(file, trusted=self._trusted(file))

    def write_for_mlflow(self, estimator: Any, path: str, **options: Any) -> None:
        import mlflow.sklearn
        import skops.io

        trusted = skops.io.get_untrusted_types(data=skops.io.dumps(estimator))
        mlflow.sklearn.save_model(estimator, path, serialization_format="skops", skops_trusted_types=trusted, **options)

    def _trusted(self, file: Path) -> list[str]:
        """Return the types that the file needs beyond skops's own list: only those of the libraries that made it."""
        import skops.io

        types: list[str] = skops.io.get_untrusted_types(file=file)
        foreign = [name for name in types if name.split(".")[0] not in self._trusted_libraries]
        if foreign:
            raise DefinitionError(
                f"the model contains types of unsupported libraries: {', '.join(foreign)}",
                next_step=f"use {self.accepts}, and move other steps to a feature set",
            )
        return types


class _PyTorch:
    """PyTorch modules. MLflow receives the ONNX form too, because its own PyTorch flavor would store a pickle."""

    name = "onnx"
    file = ONNX_FILE
    accepts = "PyTorch modules (without a predict method)"
    distributions: tuple[str, ...] = ("onnx", "onnxruntime", "pandas", "numpy")

    def recognises(self, estimator: Any) -> bool:
        return isinstance(estimator, OnnxModel) or is_module(estimator)

    def predict(self, estimator: Any, frame: pd.DataFrame) -> Any:
        return estimator.predict(frame) if isinstance(estimator, OnnxModel) else module_predicts(estimator, frame)

    def write(self, estimator: Any, file: Path, example: pd.DataFrame) -> None:
        if isinstance(estimator, OnnxModel):
            file.write_bytes(estimator.content)
        else:
            write_module(estimator, file.parent, example, file.name)

    def read(self, file: Path, class_name: str) -> Any:
        return OnnxModel(file.read_bytes())

    def write_for_mlflow(self, estimator: Any, path: str, **options: Any) -> None:
        import mlflow.onnx
        import onnx

        mlflow.onnx.save_model(onnx.load_from_string(estimator.content), path, **options)


# XGBoost's estimators are also scikit-learn estimators, so XGBoost comes first.
FLAVORS: Final[dict[str, Flavor]] = {"xgboost": _XGBoost(), "sklearn": _ScikitLearn(), "onnx": _PyTorch()}


def flavor_of(estimator: Any) -> Flavor:
    """Return the flavor of an estimator's library.

    Raises:
        DefinitionError: its library is not supported.
    """
    for flavor in FLAVORS.values():
        if flavor.recognises(estimator):
            return flavor
    raise DefinitionError(
        f"expected a model with a predict method, one of {accepted()}; got {class_name(estimator)}",
        next_step="return one of these, or add the library to resources/models/libraries.py",
    )


def accepted() -> str:
    """Return the supported kinds of model, in words."""
    return "; ".join(flavor.accepts for flavor in FLAVORS.values())


def class_name(estimator: Any) -> str:
    """Return the module and name of an estimator's class."""
    return f"{type(estimator).__module__}.{type(estimator).__qualname__}"

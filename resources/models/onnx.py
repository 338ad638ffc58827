"""Models as ONNX: the form that the model server runs, compared with the original model.

A model of numbers takes one tensor, ``features`` (rows by columns, in the signature's order); a model with other
columns, or one that names columns, takes one tensor for each column, by name. The outputs are ``predictions`` and, for
classifiers, ``probabilities`` (rows by classes).
"""

import functools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from ml_assets.resources.errors import DefinitionError

__all__ = ["FEATURES", "ONNX_FILE", "OPSETS", "PREDICTIONS", "OnnxModel", "canonical", "export_onnx"]

ONNX_FILE: Final = "model.onnx"
FEATURES: Final = "features"
PREDICTIONS: Final = "predictions"
# Every ONNX Runtime of recent years reads both; fixed here, so that a converter's own choice changes no bytes.
OPSETS: Final = {"": 18, "ai.onnx.ml": 3}
_RELATIVE, _OF_LARGEST = 1e-4, 1e-5

_Convert = Callable[[], Any]


class OnnxModel:
    """A model that is stored only as ONNX.

    Args:
        content: content of its file, as returned by `canonical`.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the predictions of ONNX Runtime, a value or a row of values for each row."""
        return self.flat(_run(self.content, frame))

    @staticmethod
    def flat(values: np.ndarray) -> np.ndarray:
        """Return a single column of values as a flat list; anything else unchanged."""
        return values.reshape(-1) if values.ndim == 2 and values.shape[1] == 1 else values


def export_onnx(estimator: Any, file: Path, example: pd.DataFrame, predicted: Any) -> float:
    """Write an estimator as ONNX and compare the predictions of both. Equal estimators give equal bytes.

    Args:
        estimator: an XGBoost ``Booster`` or estimator, a scikit-learn estimator, or an `OnnxModel`; this changes it, so
            pass a copy.
        file: the destination.
        example: rows that the estimator accepts, at least one.
        predicted: its predictions for them.

    Returns:
        The largest difference between the two predictions: absolute for numbers, 0 for equal classes.

    Raises:
        DefinitionError: the estimator cannot be converted to ONNX, or predicts different values there.
    """
    reason = "no conversion exists"
    for convert in _conversions(estimator, example):
        try:
            content = canonical(convert())
            difference = _difference(np.asarray(predicted), _run(content, example))
        except Exception as error:  # converters raise errors of any type
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            continue
        if difference is not None:
            file.write_bytes(content)
            return difference
        reason = "the ONNX model predicts different values for the input example"
    raise DefinitionError(
        f"{type(estimator).__module__}.{type(estimator).__qualname__} cannot be served as ONNX: {reason}",
        next_step="use an estimator that skl2onnx or onnxmltools converts (without a scaler before trees: trees need "
        "none, and it moves values across their thresholds), or declare the model with served=False, which stores it "
        "without serving it",
    )


def _conversions(estimator: Any, example: pd.DataFrame) -> Iterator[_Convert]:
    """Return the conversions to try, best first. Doubles keep scikit-learn's thresholds; XGBoost's are floats."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    if isinstance(estimator, OnnxModel):
        yield functools.partial(_read, estimator.content)
        return
    if type(estimator).__module__.partition(".")[0] == "xgboost":
        yield functools.partial(_convert_xgboost, estimator, example.shape[1])
        return
    if all(_kind(example, name) in "iufb" for name in example.columns):
        for tensor in (DoubleTensorType, FloatTensorType):
            yield functools.partial(_convert_sklearn, estimator, [(FEATURES, tensor([None, example.shape[1]]))])
    for tensor in (DoubleTensorType, FloatTensorType):
        yield functools.partial(_convert_sklearn, estimator, _column_types(example, tensor))


def _column_types(example: pd.DataFrame, floats: Any) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import BooleanTensorType, Int64TensorType, StringTensorType

    kinds = {"i": Int64TensorType, "u": Int64TensorType, "f": floats, "b": BooleanTensorType, "O": StringTensorType}
    unknown = [name for name in example.columns if _kind(example, name) not in kinds]
    if unknown:
        raise DefinitionError(
            f"the model cannot be served: its column {unknown[0]!r} has the type {example[unknown[0]].dtype}",
            next_step="convert it to numbers, booleans or strings, or declare the model with served=False",
        )
    return [(str(name), kinds[_kind(example, name)]([None, 1])) for name in example.columns]


def _kind(example: pd.DataFrame, name: Any) -> str:
    return np.asarray(example[name]).dtype.kind


def _convert_xgboost(estimator: Any, columns: int) -> Any:
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    booster = estimator.get_booster() if hasattr(estimator, "get_booster") else estimator
    if booster is not estimator and (best := getattr(estimator, "best_iteration", None)) is not None:
        estimator._Booster = booster = booster[: best + 1]  # the trees that it predicts with after early stopping
    booster.feature_names = None  # the converter accepts only numbered features
    return onnxmltools.convert_xgboost(
        estimator, name="model", initial_types=[(FEATURES, FloatTensorType([None, columns]))]
    )


def _convert_sklearn(estimator: Any, types: list[tuple[str, Any]]) -> Any:
    import skl2onnx

    _let_pipelines_hold_xgboost()
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notes of the converter; the comparison below finds the same problems
        return skl2onnx.convert_sklearn(
            estimator, name="model", initial_types=types, options=options, target_opset=OPSETS
        )


def _let_pipelines_hold_xgboost() -> None:
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


def _read(content: bytes) -> Any:
    import onnx

    return onnx.load_from_string(content)


def canonical(model: Any) -> bytes:
    """Return an ONNX model with our output names, without the names of the program and file that it came from."""
    import onnx

    names = dict(zip([output.name for output in model.graph.output], (PREDICTIONS, "probabilities"), strict=False))
    for node in model.graph.node:
        for place in (node.input, node.output):
            place[:] = [names.get(name, name) for name in place]
    trees = {name for node in model.graph.node if node.op_type == "TreeEnsembleRegressor" for name in node.output}
    for output in model.graph.output:
        output.name = names.get(output.name, output.name)
        if output.name in trees:  # they return floats, which skl2onnx declares as doubles if the inputs are doubles
            output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for field in ("producer_name", "producer_version", "doc_string", "domain"):
        model.ClearField(field)
    for part in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
    ):
        part.ClearField("metadata_props")
        if part is not model:
            part.ClearField("doc_string")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _run(content: bytes, example: pd.DataFrame) -> np.ndarray:
    """Return ONNX Runtime's predictions for the rows."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([PREDICTIONS], _tensors(session.get_inputs(), example))[0])


def _tensors(inputs: list[Any], example: pd.DataFrame) -> dict[str, np.ndarray]:
    kinds: dict[str, Any] = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}
    if [each.name for each in inputs] == [FEATURES]:
        return {FEATURES: example.to_numpy(kinds[inputs[0].type])}
    kinds |= {"tensor(bool)": np.bool_, "tensor(string)": np.object_}
    return {each.name: example[[each.name]].to_numpy(kinds[each.type]) for each in inputs}


def _difference(expected: np.ndarray, found: np.ndarray) -> float | None:
    """Return the largest difference; None if it exceeds what a different summation order explains."""
    found = found.reshape(expected.shape) if found.size == expected.size else found
    if found.shape != expected.shape:
        return None
    if expected.dtype.kind != "f":
        return 0.0 if bool((found == expected).all()) else None
    scale = float(np.abs(expected).max(initial=0.0))
    is_close = np.allclose(found, expected, rtol=_RELATIVE, atol=_OF_LARGEST * scale, equal_nan=True)
    return float(np.nanmax(np.abs(found - expected), initial=0.0)) if is_close else None

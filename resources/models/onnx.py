"""Models that are stored only as ONNX: PyTorch's modules, and what was loaded from one."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ml_assets.resources.models.columns import InputColumn, feeds
from ml_assets.resources.models.graph import ONNX_FILE, open_session
from ml_assets.resources.models.interface import Conversion, Flavor
from ml_assets.resources.models.outputs import PREDICTIONS, Array, Method
from ml_assets.resources.models.torch import is_module, module_predicts, write_module

__all__ = ["OnnxModel", "PyTorch"]


class OnnxModel:
    """A model that is stored only as ONNX.

    Args:
        content: content of its file.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content

    def predict(self, frame: pd.DataFrame) -> Array:
        """Return the predictions of ONNX Runtime, a value or a row of values for each row."""
        session = open_session(self.content)
        (given,) = feeds(frame, [np.dtype(np.float32)], "")
        found = np.asarray(session.run([PREDICTIONS], {session.get_inputs()[0].name: given})[0])
        return found.reshape(-1) if found.ndim == 2 and found.shape[1] == 1 else found


class PyTorch(Flavor):
    """PyTorch modules. MLflow receives the ONNX form too, because its own PyTorch flavor would store a pickle."""

    name = "onnx"
    file = ONNX_FILE
    distributions = ("onnx", "onnxruntime", "pandas", "numpy")

    def recognises(self, estimator: Any) -> bool:
        """Return True for a module, and for a loaded ONNX model."""
        return isinstance(estimator, OnnxModel) or is_module(estimator)

    def methods(self, estimator: Any) -> Mapping[str, Method]:
        """Return the only output: what ``forward`` returns."""
        is_loaded = isinstance(estimator, OnnxModel)
        return {PREDICTIONS: estimator.predict if is_loaded else lambda frame: module_predicts(estimator, frame)}

    def write(self, estimator: Any, file: Path, example: pd.DataFrame) -> None:
        """Write the ONNX form, and a module's weights beside it."""
        if isinstance(estimator, OnnxModel):
            file.write_bytes(estimator.content)
        else:
            write_module(estimator, file.parent, example, file.name)

    def read(self, file: Path, class_name: str) -> Any:
        """Load the ONNX form."""
        return OnnxModel(file.read_bytes())

    def conversions(self, estimator: Any, columns: Sequence[InputColumn], missing_text: str) -> Iterator[Conversion]:
        """Return the stored form."""
        import onnx

        yield lambda: onnx.load_from_string(estimator.content)

    def write_for_mlflow(self, estimator: Any, directory: Path, path: str, **options: Any) -> None:
        """Write MLflow's directory with the ONNX file."""
        import mlflow.onnx
        import onnx

        mlflow.onnx.save_model(onnx.load_from_string(estimator.content), path, **options)

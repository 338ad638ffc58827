"""PyTorch modules, stored as ONNX (runs on any machine) and as weights (for further training).

Neither holds a pickle. The loaded model predicts without PyTorch. To continue training, create the module and load the
weights (``safetensors.torch.load_model(module, directory / "weights.safetensors")``).
"""

import copy
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.extras import require
from ml_assets.resources.models.graph import FEATURES, OPSETS, canonical
from ml_assets.resources.models.outputs import PREDICTIONS

__all__ = ["WEIGHTS_FILE", "is_module", "module_predicts", "write_module"]

WEIGHTS_FILE: Final = "weights.safetensors"
_MODULE: Final = ("torch.nn.modules.module", "Module")


def is_module(estimator: Any) -> bool:
    """Return True for a ``torch.nn.Module``, without importing PyTorch."""
    return any((base.__module__, base.__qualname__) == _MODULE for base in type(estimator).__mro__)


def module_predicts(module: Any, frame: pd.DataFrame) -> np.ndarray:
    """Return a module's predictions in evaluation mode, for rows of numbers as one tensor of 32-bit floats.

    Returns:
        One value, or one row of values, for each row.

    Raises:
        DefinitionError: the frame has non-numeric columns, or the module does not return exactly one tensor.
    """
    import torch

    was_training = module.training
    module.eval()
    try:
        device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
        with torch.no_grad():
            found = module(torch.from_numpy(_numbers(frame)).to(device))
    finally:
        module.train(was_training)
    if not isinstance(found, torch.Tensor) or found.ndim not in (1, 2) or len(found) != len(frame):
        raise DefinitionError(
            f"{type(module).__qualname__} returns {_described(found)} for {len(frame)} rows",
            next_step="return one tensor from its forward method, with a value or a row of values for each row",
        )
    values: np.ndarray = found.cpu().numpy()
    return values.reshape(-1) if values.ndim == 2 and values.shape[1] == 1 else values


def write_module(module: Any, directory: Path, example: pd.DataFrame, file: str) -> None:
    """Write a module as ONNX and its weights; equal modules give equal bytes.

    Raises:
        DefinitionError: the module cannot be converted to ONNX.
    """
    require("onnxscript", "safetensors")
    import safetensors.torch
    import torch

    own = copy.deepcopy(module).cpu().eval()
    rows = torch.export.Dim("rows")
    try:
        program = torch.onnx.export(
            own,
            (torch.from_numpy(_numbers(example.head(2))),),
            input_names=[FEATURES],
            output_names=[PREDICTIONS],
            opset_version=OPSETS[""],
            dynamo=True,
            dynamic_shapes=({0: rows},),
            external_data=False,
            verbose=False,
        )
    except Exception as error:  # exporters raise errors of any type
        cause = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise DefinitionError(
            f"{type(module).__qualname__} cannot be converted to ONNX: {type(error).__name__}: {cause}",
            next_step="use operations that torch.onnx.export supports and that do not depend on the number of rows",
        ) from error
    (directory / file).write_bytes(canonical(program.model_proto))
    safetensors.torch.save_model(own, str(directory / WEIGHTS_FILE))


def _numbers(frame: pd.DataFrame) -> np.ndarray:
    wrong = [name for name in frame if frame[name].dtype.kind not in "iufb"]
    if wrong:
        raise DefinitionError(
            f"the column {wrong[0]!r} has the type {frame[wrong[0]].dtype}, but PyTorch modules need numbers",
            next_step="convert it to numbers in a feature set",
        )
    return frame.to_numpy(np.float32)


def _described(found: Any) -> str:
    return f"a tensor of shape {list(found.shape)}" if hasattr(found, "shape") else f"a {type(found).__name__}"

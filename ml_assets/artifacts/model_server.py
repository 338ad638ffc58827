"""The model server's code, for training to prove that it predicts what the estimator does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ml_assets.resources.models.columns import arrays
from ml_assets.serving.servable import MISSING_TEXT, Servable, open_servable

__all__ = ["ModelServer", "predict_frame"]


class ModelServer:
    """Opens models in this process as the model server does; a `ml_assets.resources.models.served.Server`."""

    missing_text = MISSING_TEXT

    def open(self, directory: Path) -> Callable[[pd.DataFrame], dict[str, np.ndarray[Any, Any]]]:
        """Open a model's directory, and return the function that computes all its outputs for a frame."""
        servable = open_servable(directory)
        return lambda frame: predict_frame(servable, frame)


def predict_frame(servable: Servable, frame: pd.DataFrame) -> dict[str, np.ndarray[Any, Any]]:
    """Return all outputs of a model for the rows of a frame.

    Raises:
        InvalidInput: the frame does not match the model's signature.
    """
    return servable.predict_columns(arrays(frame))

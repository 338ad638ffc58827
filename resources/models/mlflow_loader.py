"""MLflow's entry to models of flavors that MLflow does not know; named in their ``MLmodel`` files."""

from pathlib import Path
from typing import Any

import pandas as pd

from ml_assets.resources.models.flavors import load_model, predict

__all__ = ["LoadedModel"]


class LoadedModel:
    """A model in its canonical directory, as MLflow uses it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._estimator = load_model(directory)

    def predict(self, frame: pd.DataFrame) -> Any:
        """Return one value or row of values for each row."""
        return predict(self._estimator, frame, self._directory)


def _load_pyfunc(path: str) -> LoadedModel:
    return LoadedModel(Path(path))

"""What went into the model and came out, summed up for drift: for each feature, and the predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_assets.serving.batching import BatchReport
from ml_assets.serving.metrics import FEATURE_MEASURES
from ml_assets.serving.servable import Servable

__all__ = ["Observation", "Observer"]

_ROWS_KEPT = 4096
_SAMPLE = 64
_LABELS = 100


@dataclass(frozen=True)
class Observation:
    """Sums over some rows."""

    features: Sequence[str]
    measures: dict[str, list[float]]
    """By name of the measure, in the order of the features."""
    predictions: list[float]
    """A sample of them at most, evenly spaced, where they are numbers."""
    labels: dict[str, int]
    """How often each was predicted, where they are labels."""


class Observer:
    """Collects batches as they are and sums them up once in a while, which costs a run almost nothing.

    Args:
        servable: the model.
    """

    def __init__(self, servable: Servable) -> None:
        self._servable = servable
        table = servable.table
        self._input = table.matrix_name if table else None
        self._features = table.names if table and self._input else []
        self._kept: list[tuple[Any, Any]] = []
        self._rows = 0

    def add(self, report: BatchReport) -> Observation | None:
        """Keep a batch; gives the sums when enough is kept."""
        features = report.feeds[self._input] if self._input else None
        self._kept.append((features, report.outputs[self._servable.prediction]))
        self._rows += report.rows
        return self.take() if self._rows >= _ROWS_KEPT else None

    def take(self) -> Observation | None:
        """The sums over what was kept since the last time."""
        kept, self._kept, self._rows = self._kept, [], 0
        if not kept:
            return None
        predictions = np.concatenate([np.asarray(each).reshape(-1) for _, each in kept])
        is_number = predictions.dtype.kind == "f"
        sample: Any = predictions[:: max(1, len(predictions) // _SAMPLE)] if is_number else []
        return Observation(
            self._features,
            _sums(np.concatenate([each for each, _ in kept]))
            if self._features
            else {measure: [] for measure in FEATURE_MEASURES},
            [float(value) for value in sample if np.isfinite(value)],
            {} if is_number else _counts(predictions),
        )


def _sums(matrix: np.ndarray[Any, Any]) -> dict[str, list[float]]:
    values = matrix.astype(np.float64)
    missing = np.isnan(values)
    values[missing] = 0.0
    return {
        "rows": [float(len(values))] * values.shape[1],
        "missing": missing.sum(axis=0).astype(float).tolist(),
        "sum": values.sum(axis=0).tolist(),
        "squares": np.square(values).sum(axis=0).tolist(),
    }


def _counts(predictions: np.ndarray[Any, Any]) -> dict[str, int]:
    """Counts by label; beyond the most frequent ones together, so that the metrics stay small."""
    labels, counts = np.unique(predictions.astype(str), return_counts=True)
    order = np.argsort(counts)[::-1]
    found = {str(labels[index]): int(counts[index]) for index in order[:_LABELS]}
    rest = int(counts[order[_LABELS:]].sum())
    return found | ({"other": rest} if rest else {})

"""Drift statistics of the model's inputs and predictions: sums for each feature and for the predictions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_assets.serving.batching import BatchReport
from ml_assets.serving.servable import Servable
from ml_assets.serving.tables import MISSING_TEXT, Feeds

__all__ = ["Observation", "Observer"]

_ROWS_KEPT = 4096
_SAMPLE = 64
_LABELS = 100


@dataclass(frozen=True)
class Observation:
    """Sums over some rows."""

    features: Mapping[str, Mapping[str, float]]
    """Measures of each table column by name: rows, missing rows, and the sums of numbers."""
    predictions: list[float]
    """A sample of numeric predictions, limited in size and evenly spaced."""
    labels: dict[str, int]
    """The count of each predicted label, if predictions are labels."""


class Observer:
    """Keeps batches unchanged and sums them up periodically, so that a model run costs almost no extra time.

    Args:
        servable: the model.
    """

    def __init__(self, servable: Servable) -> None:
        self._servable = servable
        self._kept: list[tuple[Feeds, Any]] = []
        self._rows = 0

    def add(self, report: BatchReport) -> Observation | None:
        """Keep a batch; return the sums when enough batches are kept."""
        self._kept.append((report.feeds, report.outputs[self._servable.prediction]))
        self._rows += report.rows
        return self.take() if self._rows >= _ROWS_KEPT else None

    def take(self) -> Observation | None:
        """Return the sums since the last call."""
        kept, self._kept, self._rows = self._kept, [], 0
        if not kept:
            return None
        predictions = np.concatenate([np.asarray(each).reshape(-1) for _, each in kept])
        is_number = predictions.dtype.kind == "f"
        sample: Any = predictions[:: max(1, len(predictions) // _SAMPLE)] if is_number else []
        return Observation(
            self._features([feeds for feeds, _ in kept]),
            [float(value) for value in sample if np.isfinite(value)],
            {} if is_number else _counts(predictions),
        )

    def _features(self, kept: list[Feeds]) -> dict[str, dict[str, float]]:
        table = self._servable.table
        if table is None:
            return {}
        joined = {name: np.concatenate([feeds[name] for feeds in kept]) for name in kept[0]}
        if table.matrix_name is not None:
            return dict(zip(table.names, _sums(joined[table.matrix_name]), strict=True))
        return {
            name: _summed(joined[graph_input].reshape(-1, 1))
            for name, graph_input in zip(table.names, joined, strict=True)
        }


def _summed(column: np.ndarray[Any, Any]) -> dict[str, float]:
    if column.dtype.kind == "O":
        return {"rows": len(column), "missing": int((column == MISSING_TEXT).sum())}
    return _sums(column)[0]


def _sums(matrix: np.ndarray[Any, Any]) -> list[dict[str, float]]:
    values = matrix.astype(np.float64)
    missing = np.isnan(values)
    values[missing] = 0.0
    sums = (missing.sum(axis=0), values.sum(axis=0), np.square(values).sum(axis=0))
    return [
        {"rows": len(values), "missing": lacking, "sum": total, "squares": squares}
        for lacking, total, squares in zip(*(each.tolist() for each in sums), strict=True)
    ]


def _counts(predictions: np.ndarray[Any, Any]) -> dict[str, int]:
    """Return counts by label; rare labels are counted together, so that the metrics stay small."""
    labels, counts = np.unique(predictions.astype(str), return_counts=True)
    order = np.argsort(counts)[::-1]
    found = {str(labels[index]): int(counts[index]) for index in order[:_LABELS]}
    rest = int(counts[order[_LABELS:]].sum())
    return found | ({"other": rest} if rest else {})

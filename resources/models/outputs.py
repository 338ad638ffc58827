"""Outputs of a model, and their comparison: the estimator's with those of its served form.

The tolerances absorb 32-bit arithmetic in another order, which is what the served form of trees and networks uses.

- Labels (text, integers, booleans) are equal, unless the estimator's own scores of the two best labels differ by at
  most 1e-4.
- Probabilities differ by at most 1e-4.
- Other numbers differ by at most 1e-4 of the value plus 1e-5 of the largest value of these rows or the input example.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

__all__ = [
    "PREDICTIONS",
    "PROBABILITIES",
    "SCORES",
    "Array",
    "Method",
    "Mismatch",
    "Outputs",
    "first_mismatch",
    "is_close",
    "largest_difference",
]

PREDICTIONS: Final = "predictions"
PROBABILITIES: Final = "probabilities"
SCORES: Final = ("decision_function", "transform", "score_samples")
"""Further outputs that a served model may have, named like the estimator's methods."""

_RELATIVE, _OF_LARGEST, _PROBABILITY, _TIE = 1e-4, 1e-5, 1e-4, 1e-4

Array = np.ndarray[Any, Any]
Outputs = Mapping[str, Array]
"""Arrays by output; the first dimension of each is rows."""
Method = Callable[[pd.DataFrame], Array]


@dataclass(frozen=True)
class Mismatch:
    """The first value that differs."""

    output: str
    row: int
    trained: Any
    served: Any


def first_mismatch(trained: Outputs, served: Outputs, example: Outputs) -> Mismatch | None:
    """Return the first difference beyond the tolerance; None if there is none.

    Args:
        trained: outputs of the estimator for some rows. Those that the served form lacks serve to recognise ties.
        served: outputs of the served form for the same rows.
        example: outputs of the estimator for ordinary rows.
    """
    for name in (name for name in served if name in trained):
        expected, found = trained[name], served[name]
        if expected.shape != found.shape:
            return Mismatch(name, 0, f"the shape {list(expected.shape)}", f"the shape {list(found.shape)}")
        close = is_close(name, expected, found, example[name]).reshape(len(expected), -1).all(axis=1)
        for row in np.flatnonzero(~close).tolist():
            if name == PREDICTIONS and expected.dtype.kind != "f" and _is_tie(trained, row):
                continue
            return Mismatch(name, row, _plain(expected[row]), _plain(found[row]))
    return None


def is_close(
    name: str, expected: Array, found: Array, example: Array | None = None
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return True for each value that is equal within the tolerance of its output."""
    if expected.dtype.kind not in "fc" or found.dtype.kind not in "fciub":
        return np.asarray(expected.astype(object) == found.astype(object), dtype=bool)
    if name == PROBABILITIES:
        return np.asarray(np.isclose(found, expected, rtol=0.0, atol=_PROBABILITY, equal_nan=True))
    scale = max(_largest(expected), 0.0 if example is None else _largest(example))
    return np.asarray(np.isclose(found, expected, rtol=_RELATIVE, atol=_OF_LARGEST * scale, equal_nan=True))


def largest_difference(trained: Outputs, served: Outputs) -> float:
    """Return the largest absolute difference of the predictions; 0 if they are labels."""
    expected, found = trained[PREDICTIONS], served[PREDICTIONS]
    if expected.dtype.kind != "f":
        return 0.0
    finite = np.isfinite(expected) & np.isfinite(found)
    return float(np.max(np.abs(found[finite].astype(np.float64) - expected[finite]), initial=0.0))


def _largest(values: Array) -> float:
    return float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _is_tie(trained: Outputs, row: int) -> bool:
    """Return True if the estimator's own scores hardly prefer the label of a row."""
    for name in (PROBABILITIES, *SCORES):
        if name not in trained:
            continue
        scores = np.asarray(trained[name][row], dtype=np.float64)
        if scores.ndim == 0:
            return bool(abs(scores) <= _TIE)
        if scores.ndim == 1 and len(scores) > 1:
            ordered = np.sort(scores if name != "transform" else -scores)
            return bool(ordered[-1] - ordered[-2] <= _TIE)
    return False

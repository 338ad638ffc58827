"""Rows on which the served form of a model is compared with the estimator.

Beside the input example, which training may have seen, these are rows that it did not see: the example's values in new
combinations, and edges (missing values, unseen categories, empty text, values far outside the range).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["Probes", "probes"]

_RECOMBINED = 100
_EDGE_COLUMNS = 40
"""Number of columns that get rows of their own; the other columns are only changed together."""
_UNSEEN = "unseen category"


@dataclass(frozen=True)
class Probes:
    """Rows of one kind.

    Attributes:
        rows: a frame with the columns and types of the example.
        name: describes a row by its number.
    """

    rows: pd.DataFrame
    names: Sequence[str]


def probes(example: pd.DataFrame) -> Iterator[Probes]:
    """Return the groups of rows, beginning with the example itself. Equal examples give equal rows."""
    yield Probes(example, [f"row {row} of the input example" for row in range(len(example))])
    yield Probes(example.head(1), ["row 0 of the input example without the others"])
    if len(example) > 1:
        recombined = _recombined(example)
        yield Probes(recombined, [f"recombined row {row} of the input example" for row in range(len(recombined))])
    for kind, changes in _edges(example).items():
        rows = _changed(example, [change for _, change in changes])
        yield Probes(rows, [f"a row with {kind}{where}" for where, _ in changes])


def _recombined(example: pd.DataFrame) -> pd.DataFrame:
    """Return each column's values in another order; fractions are moved towards a neighbor."""
    random = np.random.default_rng(0)
    columns = {}
    for name in example:
        picked, others = (example[name].iloc[random.integers(0, len(example), _RECOMBINED)] for _ in range(2))
        picked, others = picked.reset_index(drop=True), others.reset_index(drop=True)
        if _is_fraction(example[name]):
            picked = (picked + (others - picked) * random.random(_RECOMBINED)).where(others.notna(), picked)
        columns[name] = picked.astype(example[name].dtype)
    return pd.DataFrame(columns)


def _is_fraction(column: "pd.Series[Any]") -> bool:
    if not pd.api.types.is_float_dtype(column.dtype):
        return False
    values = column.dropna().to_numpy(dtype=np.float64)
    return bool((values != np.floor(values)).any())


_Change = dict[Any, Any]


def _edges(example: pd.DataFrame) -> dict[str, list[tuple[str, _Change]]]:
    """Return by kind the changes to a row, each with the name of the columns that it changes."""
    optional = [name for name in example if example[name].isna().any()]
    texts = [name for name in example if _is_text(example[name])]
    numbers = [name for name in example if _is_number(example[name])]
    bounds = {name: _bounds(example[name]) for name in numbers}
    edges = {
        "missing values": _each(optional, {name: example[name][example[name].isna()].iloc[0] for name in optional}),
        "an unseen category": _each(texts, dict.fromkeys(texts, _UNSEEN)),
        "empty text": _each(texts, dict.fromkeys(texts, "")),
        "zero": _each(numbers, dict.fromkeys(numbers, 0)),
        "values below the range": _each(numbers, {name: low for name, (low, _) in bounds.items()}),
        "values above the range": _each(numbers, {name: high for name, (_, high) in bounds.items()}),
    }
    return {kind: changes for kind, changes in edges.items() if changes}


def _each(names: list[Any], values: _Change) -> list[tuple[str, _Change]]:
    if not names:
        return []
    single = [(f" in {name!r}", {name: values[name]}) for name in names[:_EDGE_COLUMNS]]
    return single if len(names) == 1 else [*single, (" in all such columns", values)]


def _changed(example: pd.DataFrame, changes: list[_Change]) -> pd.DataFrame:
    """Return the first row of the example once for each change."""
    rows = example.iloc[[0] * len(changes)].reset_index(drop=True)
    for name in rows:
        values = [change.get(name, original) for change, original in zip(changes, rows[name].tolist(), strict=True)]
        rows[name] = pd.Series(values, dtype=example[name].dtype)
    return rows


def _is_text(column: "pd.Series[Any]") -> bool:
    is_object = pd.api.types.is_object_dtype(column.dtype) or isinstance(column.dtype, pd.StringDtype)
    return is_object and all(isinstance(value, str) for value in column.dropna())


def _is_number(column: "pd.Series[Any]") -> bool:
    is_number = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
    return is_number and bool(column.notna().any())


def _bounds(column: "pd.Series[Any]") -> tuple[float, float]:
    """Return values that are ten times the range below and above it; at the type's limits for integers."""
    low, high = column.min(), column.max()
    span = 10 * (float(high) - float(low) or 1.0)
    if not pd.api.types.is_integer_dtype(column.dtype):
        return float(low) - span, float(high) + span
    limits = np.iinfo(getattr(column.dtype, "numpy_dtype", column.dtype))
    least, most = int(limits.min) + 1, int(limits.max) - 1
    return max(int(low) - int(span), least), min(int(high) + int(span), most)

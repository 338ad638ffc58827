"""Columns of a model's input, with the types of its signature."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["InputColumn", "arrays", "columns_of", "feeds"]


@dataclass(frozen=True)
class InputColumn:
    """One column.

    Attributes:
        type: MLflow's type, such as ``double`` or ``string``.
        required: True if every row has a value.
    """

    name: str
    type: str
    required: bool

    @property
    def is_text(self) -> bool:
        """Return True for a column of strings."""
        return self.type == "string"

    @property
    def is_whole(self) -> bool:
        """Return True for a column of integers without missing values."""
        return self.type in ("integer", "long") and self.required

    @property
    def is_boolean(self) -> bool:
        """Return True for a column of booleans without missing values."""
        return self.type == "boolean" and self.required


def columns_of(signature: dict[str, Any]) -> tuple[InputColumn, ...]:
    """Return the columns of ``signature.json``."""
    return tuple(InputColumn(each["name"], each["type"], each.get("required", True)) for each in signature["inputs"])


def arrays(frame: pd.DataFrame) -> dict[str, np.ndarray[Any, Any]]:
    """Return the columns of a frame by name, as the model server accepts them.

    Missing values are None in columns of strings and booleans, and NaN in columns of numbers.
    """
    return {str(name): _array(frame.iloc[:, position]) for position, name in enumerate(frame.columns)}


def _array(column: "pd.Series[Any]") -> np.ndarray[Any, Any]:
    kind = getattr(column.dtype, "numpy_dtype", column.dtype)
    if isinstance(kind, np.dtype) and kind.kind in "biuf":
        has_gaps = column.dtype.kind != "f" and bool(column.isna().any())
        if not has_gaps:
            return column.to_numpy(dtype=kind)
        return _objects(column) if kind.kind == "b" else column.to_numpy(dtype=np.float64, na_value=np.nan)
    values = np.asarray(column)
    return values if values.dtype.kind not in "OUST" else _objects(column)


def _objects(column: "pd.Series[Any]") -> np.ndarray[Any, Any]:
    values = np.empty(len(column), dtype=object)
    values[:] = [None if missing else value for value, missing in zip(column.tolist(), column.isna(), strict=True)]
    return values


def feeds(frame: pd.DataFrame, types: Sequence[np.dtype[Any]], missing_text: str) -> list[np.ndarray[Any, Any]]:
    """Return rows for a graph that has one input for each column, of these types; or one for all columns."""
    values = list(arrays(frame).values())
    if len(types) == 1:
        return [np.stack([_cast(each, types[0], missing_text) for each in values], axis=1)]
    return [_cast(each, dtype, missing_text).reshape(-1, 1) for each, dtype in zip(values, types, strict=True)]


def _cast(values: np.ndarray[Any, Any], dtype: np.dtype[Any], missing_text: str) -> np.ndarray[Any, Any]:
    if dtype.kind == "O":
        return np.array([missing_text if value is None else str(value) for value in values], dtype=object)
    if values.dtype.kind == "O":
        values = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    with np.errstate(over="ignore"):
        return values.astype(dtype)

"""Rows of a table as the feeds of an ONNX graph, each value checked against the model's signature.

In the usual case one matrix of numbers, which is checked as a whole; only when something is wrong is it looked for.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from ml_assets.serving.signature import NUMBERS, Column
from resources.errors import InvalidInput

__all__ = ["Feeds", "Place", "TableReader"]

Feeds = dict[str, np.ndarray[Any, Any]]
"""Arrays by the name of the graph's input; the first dimension of each is rows."""
Place = Callable[[int, int], str]
"""Says where a value stood in the request, by its row and its column in the signature's order."""

_RANGES = {"integer": 2.0**31, "long": 2.0**63}
_EXPECTED = {
    "boolean": "true or false",
    "integer": "a whole number of 32 bits",
    "long": "a whole number of 64 bits",
    "float": "a number of 32 bits",
    "double": "a number",
    "string": "a string",
}


class TableReader:
    """Reads tables for one model.

    Args:
        columns: of the signature.
        inputs: the graph's inputs with their types and ranks: either one matrix of all columns, or one input a column.
    """

    def __init__(self, columns: Sequence[Column], inputs: Mapping[str, tuple[np.dtype[Any], int]]) -> None:
        self.columns = tuple(columns)
        self.names = [column.name for column in columns]
        self._known = frozenset(self.names)
        self._inputs = dict(inputs)
        self._matrix = next(iter(inputs)) if set(inputs) != self._known else None
        self._dtype = inputs[self._matrix][0] if self._matrix else np.dtype(np.float64)
        self._numbers = [index for index, column in enumerate(columns) if column.type in NUMBERS]
        self._all_numbers = len(self._numbers) == len(columns)
        self._has_booleans = any(column.type == "boolean" for column in columns)
        self._whole = np.array([index for index, column in enumerate(columns) if column.type in _RANGES], dtype=int)
        self._limits = np.array([_RANGES[columns[index].type] for index in self._whole])
        self._required = np.array([column.required for column in columns])

    @property
    def matrix_name(self) -> str | None:
        """Name of the one input that takes all columns; None if each has its own."""
        return self._matrix

    def order(self, given: Sequence[Any], where: str) -> list[int | None]:
        """For each column of the signature, its position among the columns given.

        Raises:
            InvalidInput: one that is required is missing, one is not known, or one comes twice.
        """
        positions: dict[str, int] = {}
        for position, name in enumerate(given):
            if not isinstance(name, str) or name not in self._known:
                raise InvalidInput(
                    f"{where} has the column {name!r}, which the model does not know; it takes {', '.join(self.names)}",
                    next_step="leave the column out or correct its name",
                )
            if name in positions:
                raise InvalidInput(f"{where} has the column {name!r} twice", next_step="send each column once")
            positions[name] = position
        missing = [each.name for each in self.columns if each.required and each.name not in positions]
        if missing:
            raise InvalidInput(
                f"{where} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}",
                next_step=f"send all of {', '.join(self.names)}",
            )
        return [positions.get(name) for name in self.names]

    def feeds(self, rows: Sequence[Sequence[Any]], place: Place) -> Feeds:
        """The feeds for rows of JSON values in the signature's order; ``None`` is a missing value.

        Raises:
            InvalidInput: a value is not of its column's type, out of its range, or missing where it must not be.
        """
        flat = list(chain.from_iterable(rows))
        if self._all_numbers:
            numbers = self._checked_numbers(flat, len(rows), place)
        else:
            kept = set(self._numbers)
            width = len(self.columns)
            numbers = self._checked_numbers(
                [value if index % width in kept else 0.0 for index, value in enumerate(flat)], len(rows), place
            )
        return self._feeds_of_numbers(numbers, flat, place)

    def feeds_of_columns(self, arrays: Mapping[str, np.ndarray[Any, Any]], place: Callable[[str], str]) -> Feeds:
        """The feeds for typed columns of equal length, each of one dimension.

        Raises:
            InvalidInput: as `feeds` does; or the columns are not of one length.
        """
        lengths = {len(array) for array in arrays.values()}
        if len(lengths) > 1:
            raise InvalidInput(
                f"the columns have {' and '.join(map(str, sorted(lengths)))} rows", next_step="send as many of each"
            )
        length = lengths.pop() if lengths else 0
        given = {
            column.name: self._accepted(column, arrays[column.name], place)
            for column in self.columns
            if column.name in arrays
        }
        where: Place = lambda row, column: f"{place(self.names[column])}[{row}]"  # noqa: E731
        if not self._all_numbers:
            lists = [given[name].tolist() if name in given else [None] * length for name in self.names]
            return self.feeds(list(zip(*lists, strict=True)), where)
        missing = np.full(length, np.nan)
        numbers = np.stack([given.get(name, missing).astype(np.float64) for name in self.names], axis=1)
        return self._feeds_of_numbers(self._checked(numbers, where), [], where)

    def feeds_of_matrix(self, matrix: np.ndarray[Any, Any], where: str) -> Feeds:
        """The feeds for a matrix of all columns in the signature's order.

        Raises:
            InvalidInput: as `feeds` does; or the matrix has another width or is not of numbers.
        """
        if matrix.ndim != 2 or matrix.shape[1] != len(self.columns) or matrix.dtype.kind not in "fiub":
            raise InvalidInput(
                f"{where} must be numbers of shape [rows, {len(self.columns)}] for the columns "
                f"{', '.join(self.names)}, given {list(matrix.shape)}",
                next_step="send one row of all columns for each prediction",
            )
        if self._matrix is None or not self._all_numbers:
            raise InvalidInput(
                f"{where} is one tensor, and the model takes columns of several types",
                next_step=f"send one tensor for each of {', '.join(self.names)}",
            )
        place: Place = lambda row, column: f"{where}[{row}, {column}] ({self.names[column]})"  # noqa: E731
        return {self._matrix: self._cast(self._checked(matrix.astype(np.float64), place), self._dtype, place)}

    def _feeds_of_numbers(self, numbers: np.ndarray[Any, Any], flat: list[Any], place: Place) -> Feeds:
        if self._matrix is not None:
            return {self._matrix: self._cast(numbers, self._dtype, place)}
        return {name: self._column(index, numbers, flat, place) for index, name in enumerate(self.names)}

    def _checked_numbers(self, flat: list[Any], rows: int, place: Place) -> np.ndarray[Any, Any]:
        kinds = set(map(type, flat))
        width = len(self.columns)
        if self._has_booleans or not kinds <= {int, float, type(None)}:
            self._check_kinds(flat, place)
        try:
            values = np.array(flat, dtype=np.float64)
        except (OverflowError, ValueError, TypeError):
            self._check_kinds(flat, place)
            raise
        return self._checked(values.reshape(rows, width), place)

    def _check_kinds(self, flat: list[Any], place: Place) -> None:
        for index, value in enumerate(flat):
            row, column = divmod(index, len(self.columns))
            kind = self.columns[column].type
            accepted: tuple[type, ...] = (bool,) if kind == "boolean" else (int, float)
            if kind == "string" or value is None:
                continue
            if type(value) not in accepted or (type(value) is int and abs(value) >= 1 << 1000):
                raise self._wrong(row, column, value, place)

    def _checked(self, values: np.ndarray[Any, Any], place: Place) -> np.ndarray[Any, Any]:
        finite = np.isfinite(values)
        if not finite.all():
            wrong = np.isinf(values) | (np.isnan(values) & self._required)
            if wrong.any():
                row, column = np.argwhere(wrong)[0].tolist()
                raise self._wrong(row, column, values[row, column].item(), place)
        if len(self._whole):
            part = values[:, self._whole]
            wrong = (part != np.floor(part)) & ~np.isnan(part) | (part < -self._limits) | (part >= self._limits)
            if wrong.any():
                row, position = np.argwhere(wrong)[0].tolist()
                raise self._wrong(row, int(self._whole[position]), part[row, position].item(), place)
        return values

    def _cast(self, values: np.ndarray[Any, Any], dtype: np.dtype[Any], place: Place) -> np.ndarray[Any, Any]:
        if dtype == values.dtype:
            return values
        if dtype.kind != "f" and np.isnan(values).any():
            row, column = np.argwhere(np.isnan(values))[0].tolist()
            raise self._wrong(row, column, None, place, missing_is_accepted=False)
        with np.errstate(over="ignore"):
            cast = values.astype(dtype)
        if dtype.kind == "f" and np.isinf(cast).any():
            row, column = np.argwhere(np.isinf(cast))[0].tolist()
            raise self._wrong(row, column, values[row, column].item(), place)
        return cast

    def _column(self, index: int, numbers: np.ndarray[Any, Any], flat: list[Any], place: Place) -> np.ndarray[Any, Any]:
        column = self.columns[index]
        dtype, rank = self._inputs[column.name]
        if column.type == "string":
            values = flat[index :: len(self.columns)]
            for row, value in enumerate(values):
                if not isinstance(value, str) and (value is not None or column.required):
                    raise self._wrong(row, index, value, place)
            array = np.array(["" if value is None else value for value in values], dtype=object)
        else:
            array = self._cast(numbers[:, [index]], dtype, lambda row, _: place(row, index)).reshape(-1)
        return array.reshape(-1, 1) if rank == 2 else array

    def _accepted(
        self, column: Column, array: np.ndarray[Any, Any], place: Callable[[str], str]
    ) -> np.ndarray[Any, Any]:
        accepted = {"string": "OUS", "boolean": "b"}.get(column.type, "fiu")
        if array.dtype.kind not in accepted:
            raise InvalidInput(
                f"{place(column.name)} must be of values that are {_EXPECTED[column.type]}, given {array.dtype}",
                next_step="send the column with the type that the model's metadata names",
            )
        return array

    def _wrong(
        self, row: int, column: int, value: Any, place: Place, *, missing_is_accepted: bool = True
    ) -> InvalidInput:
        spec = self.columns[column]
        missing = value is None or (isinstance(value, float) and math.isnan(value))
        optional = "" if spec.required or not missing_is_accepted else ", or null"
        shown = "null (NaN)" if missing else repr(value)
        return InvalidInput(
            f"{place(row, column)} must be {_EXPECTED[spec.type]}{optional}, as {spec.name} is of type {spec.type}, "
            f"given {shown if len(shown) <= 60 else shown[:59] + '…'}",
            next_step="correct the value",
        )

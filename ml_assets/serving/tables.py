"""Conversion of table rows to feeds of an ONNX graph, with each value validated against the model's signature.

The usual case is one numeric matrix, which is validated as a whole. Single values are checked only after an error.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from ml_assets.resources.errors import InvalidInput
from ml_assets.serving.signature import NUMBERS, Column
from ml_assets.serving.values import shown

__all__ = ["MISSING_TEXT", "Feeds", "Place", "TableReader"]

MISSING_TEXT = "\ufdd0"
"""Stands for a missing string, because ONNX has none. Unicode reserves this character for use inside a program."""

Feeds = dict[str, np.ndarray[Any, Any]]
"""Arrays by graph input; the first dimension of each is rows."""
Place = Callable[[int, int], str]
"""Returns the position of a value in the request, by its row and its column in the signature's order."""
_Values = Sequence[Any] | np.ndarray[Any, Any]
_Given = Callable[[int], _Values]
"""Returns the values of a column as sent, by its index in the signature's order."""

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
        columns: columns of the signature.
        inputs: the graph's inputs with their types and ranks: one matrix of all columns, one input per column of the
            same name, or one input per column in their order.
    """

    def __init__(self, columns: Sequence[Column], inputs: Mapping[str, tuple[np.dtype[Any], int]]) -> None:
        self.columns = tuple(columns)
        self.names = [column.name for column in columns]
        self._known = frozenset(self.names)
        self._inputs = dict(inputs)
        is_matrix = len(inputs) == 1 and not self._known & inputs.keys() and columns[0].type in NUMBERS
        self._matrix = next(iter(inputs)) if is_matrix else None
        self._order = self.names if self._known == inputs.keys() else list(inputs)
        """The input of each column, unless all are in one matrix."""
        self._dtype = inputs[self._matrix][0] if self._matrix else np.dtype(np.float64)
        self._numbers = [index for index, column in enumerate(columns) if column.type in NUMBERS]
        self._all_numbers = len(self._numbers) == len(columns)
        self._booleans = [index for index, column in enumerate(columns) if column.type == "boolean"]
        self._whole = np.array([index for index, column in enumerate(columns) if column.type in _RANGES], dtype=int)
        self._exact = frozenset(int(index) for index in self._whole if self._input(index)[0].kind in "iu")
        """Integer columns that the graph takes as integers: 64-bit values do not fit a ``float``."""
        self._limits = np.array([_RANGES[columns[index].type] for index in self._whole])
        self._required = np.array([column.required for column in columns])

    @property
    def matrix_name(self) -> str | None:
        """Name of the single input for all columns; None if each column has its own."""
        return self._matrix

    def order(self, given: Sequence[Any], where: str) -> list[int | None]:
        """Return the index among the given columns of each column in the signature.

        Raises:
            InvalidInput: a required column is missing, a column is unknown, or a column occurs twice.
        """
        positions: dict[str, int] = {}
        for position, name in enumerate(given):
            if not isinstance(name, str) or name not in self._known:
                raise InvalidInput(
                    f"{where} has the unknown column {shown(name)}; the model's columns are {', '.join(self.names)}",
                    next_step="remove the column or correct its name",
                )
            if name in positions:
                raise InvalidInput(f"{where} has the column {shown(name)} twice", next_step="send each column once")
            positions[name] = position
        missing = [each.name for each in self.columns if each.required and each.name not in positions]
        if missing:
            raise InvalidInput(
                f"{where} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}",
                next_step=f"send all of {', '.join(self.names)}",
            )
        return [positions.get(name) for name in self.names]

    def feeds(self, rows: Sequence[Sequence[Any]], place: Place) -> Feeds:
        """Return the feeds for rows of JSON values in the signature's order; ``None`` is a missing value.

        Raises:
            InvalidInput: a value has the wrong type, is out of range, or is missing in a required column.
        """
        flat, width = list(chain.from_iterable(rows)), len(self.columns)
        given: _Given = lambda column: flat[column::width]  # noqa: E731
        if self._all_numbers:
            numbers = self._checked_numbers(flat, given, place)
        else:
            kept = set(self._numbers)
            numbers = self._checked_numbers(
                [value if index % width in kept else 0.0 for index, value in enumerate(flat)], given, place
            )
        return self._feeds(numbers, given, place)

    def feeds_of_columns(self, arrays: Mapping[str, np.ndarray[Any, Any]], place: Callable[[str], str]) -> Feeds:
        """Return the feeds for typed columns of equal length and one dimension.

        Raises:
            InvalidInput: as `feeds`; or the columns differ in length.
        """
        lengths = {len(array) for array in arrays.values()}
        if len(lengths) > 1:
            raise InvalidInput(
                f"the columns have different numbers of rows: {', '.join(map(str, sorted(lengths)))}",
                next_step="send the same number of rows for each column",
            )
        length = lengths.pop() if lengths else 0
        missing = np.full(length, np.nan)
        columns = [
            self._accepted(column, arrays[column.name], place) if column.name in arrays else missing
            for column in self.columns
        ]
        where: Place = lambda row, column: f"{place(self.names[column])}[{row}]"  # noqa: E731
        if not self._all_numbers:
            lists = [[None] * length if column is missing else column.tolist() for column in columns]
            return self.feeds(list(zip(*lists, strict=True)), where)
        given: _Given = lambda column: columns[column]  # noqa: E731
        numbers = np.stack([_as_numbers(column) for column in columns], axis=1)
        return self._feeds(self._checked(numbers, given, where), given, where)

    def feeds_of_matrix(self, matrix: np.ndarray[Any, Any], where: str) -> Feeds:
        """Return the feeds for a matrix of all columns in the signature's order.

        Raises:
            InvalidInput: as `feeds`; or the matrix has the wrong width or is not numeric.
        """
        if matrix.ndim != 2 or matrix.shape[1] != len(self.columns) or matrix.dtype.kind not in "fiub":
            raise InvalidInput(
                f"{where} must be numbers of shape [rows, {len(self.columns)}] for the columns "
                f"{', '.join(self.names)}, got {list(matrix.shape)}",
                next_step="send one row with all columns per prediction",
            )
        if self._matrix is None or not self._all_numbers:
            raise InvalidInput(
                f"{where} is one tensor, but the model takes columns of several types",
                next_step=f"send one tensor per column: {', '.join(self.names)}",
            )
        place: Place = lambda row, column: f"{where}[{row}, {column}] ({self.names[column]})"  # noqa: E731
        given: _Given = lambda column: matrix[:, column]  # noqa: E731
        numbers = self._checked(matrix.astype(np.float64), given, place)
        if self._booleans and matrix.dtype.kind != "b":
            self._check_booleans(numbers, place)
        return self._feeds(numbers, given, place)

    def _input(self, column: int) -> tuple[np.dtype[Any], int]:
        return self._inputs[self._matrix or self._order[column]]

    def _feeds(self, numbers: np.ndarray[Any, Any], given: _Given, place: Place) -> Feeds:
        if self._matrix is None:
            return {name: self._column(index, numbers, given, place) for index, name in enumerate(self._order)}
        if self._exact:
            columns = [self._column(index, numbers, given, place) for index in range(len(self.names))]
            return {self._matrix: np.concatenate(columns, axis=1)}
        return {self._matrix: self._cast(numbers, self._dtype, place)}

    def _checked_numbers(self, flat: list[Any], given: _Given, place: Place) -> np.ndarray[Any, Any]:
        kinds = set(map(type, flat))
        if self._booleans or not kinds <= {int, float, type(None)}:
            self._check_kinds(flat, place)
        try:
            values = np.array(flat, dtype=np.float64)
        except (OverflowError, ValueError, TypeError):
            self._check_kinds(flat, place)
            raise
        return self._checked(values.reshape(-1, len(self.columns)), given, place)

    def _check_kinds(self, flat: list[Any], place: Place) -> None:
        for index, value in enumerate(flat):
            row, column = divmod(index, len(self.columns))
            kind = self.columns[column].type
            accepted: tuple[type, ...] = (bool,) if kind == "boolean" else (int, float)
            if kind == "string" or value is None:
                continue
            if type(value) not in accepted or (type(value) is int and abs(value) >= 1 << 1000):
                raise self._wrong(row, column, value, place)

    def _checked(self, values: np.ndarray[Any, Any], given: _Given, place: Place) -> np.ndarray[Any, Any]:
        finite = np.isfinite(values)
        if not finite.all():
            wrong = np.isinf(values) | (np.isnan(values) & self._required)
            if wrong.any():
                row, column = np.argwhere(wrong)[0].tolist()
                raise self._wrong(row, column, values[row, column].item(), place)
        if len(self._whole):
            part = values[:, self._whole]
            wrong = (part != np.floor(part)) & ~np.isnan(part) | (part <= -self._limits) | (part >= self._limits)
            if wrong.any():
                self._check_exactly(wrong, given, place)
        return values

    def _check_exactly(self, wrong: np.ndarray[Any, Any], given: _Given, place: Place) -> None:
        """Check integers again as sent, because a ``float`` of 2**63 may have been sent as 2**63 - 1."""
        for position in np.flatnonzero(wrong.any(axis=0)).tolist():
            index, limit = int(self._whole[position]), int(self._limits[position])
            values = given(index)
            for row in np.flatnonzero(wrong[:, position]).tolist():
                value = values[row].item() if isinstance(values, np.ndarray) else values[row]
                if value % 1 or not -limit <= value < limit:
                    raise self._wrong(row, index, value, place)

    def _check_booleans(self, values: np.ndarray[Any, Any], place: Place) -> None:
        part = values[:, self._booleans]
        fits = (part == 0) | (part == 1)
        if fits.all():
            return
        for row, position in np.argwhere(~fits & ~np.isnan(part)).tolist():
            value = part[row, position].item()
            raise self._wrong(row, self._booleans[position], value, place, expected="0 or 1")

    def _cast(
        self, values: np.ndarray[Any, Any], dtype: np.dtype[Any], place: Place, first: int = 0
    ) -> np.ndarray[Any, Any]:
        """Return the values of the columns, from the first one on, in the graph's type."""
        if dtype == values.dtype:
            return values
        if dtype.kind != "f" and np.isnan(values).any():
            row, column = np.argwhere(np.isnan(values))[0].tolist()
            raise self._wrong(row, first + column, None, place, missing_is_accepted=False)
        with np.errstate(over="ignore"):
            cast = values.astype(dtype)
        if dtype.kind == "f" and np.isinf(cast).any():
            row, column = np.argwhere(np.isinf(cast))[0].tolist()
            raise self._wrong(row, first + column, values[row, column].item(), place)
        return cast

    def _column(self, index: int, numbers: np.ndarray[Any, Any], given: _Given, place: Place) -> np.ndarray[Any, Any]:
        dtype, rank = self._input(index)
        if self.columns[index].type == "string":
            array = self._strings(index, given(index), place)
        elif index in self._exact and not np.isnan(numbers[:, index]).any():
            array = self._whole_numbers(index, given(index), dtype, place)
        else:
            array = self._cast(numbers[:, [index]], dtype, place, index)
        return array.reshape(-1, 1) if rank == 2 else array.reshape(-1)

    def _strings(self, index: int, values: _Values, place: Place) -> np.ndarray[Any, Any]:
        column = self.columns[index]
        for row, value in enumerate(values):
            if not isinstance(value, str) and (value is not None or column.required):
                raise self._wrong(row, index, value, place)
        return np.array([MISSING_TEXT if value is None else value for value in values], dtype=object)

    def _whole_numbers(self, index: int, values: _Values, dtype: np.dtype[Any], place: Place) -> np.ndarray[Any, Any]:
        """Return validated values in the graph's type, converted one by one."""
        if isinstance(values, np.ndarray):
            if values.dtype == dtype:
                return values
            values = values.tolist()
        try:
            return np.array(list(map(int, values)), dtype=dtype)
        except OverflowError as error:
            bounds = np.iinfo(dtype)
            row = next(row for row, value in enumerate(values) if not bounds.min <= value <= bounds.max)
            expected = f"a whole number from {bounds.min} to {bounds.max}"
            raise self._wrong(row, index, values[row], place, expected=expected) from error

    def _accepted(
        self, column: Column, array: np.ndarray[Any, Any], place: Callable[[str], str]
    ) -> np.ndarray[Any, Any]:
        accepted = {"string": "OUS", "boolean": "bO"}.get(column.type, "fiu")
        is_gapped = column.type == "boolean" and array.dtype.kind == "O"
        if array.dtype.kind not in accepted or (is_gapped and not set(map(type, array.tolist())) <= {bool, type(None)}):
            raise InvalidInput(
                f"each value of {place(column.name)} must be {_EXPECTED[column.type]}, got the type {array.dtype}",
                next_step="send the column with the type in the model's metadata",
            )
        return array

    def _wrong(
        self,
        row: int,
        column: int,
        value: Any,
        place: Place,
        *,
        missing_is_accepted: bool = True,
        expected: str | None = None,
    ) -> InvalidInput:
        spec = self.columns[column]
        missing = value is None or (isinstance(value, float) and math.isnan(value))
        optional = "" if spec.required or not missing_is_accepted else ", or null"
        return InvalidInput(
            f"{place(row, column)} must be {expected or _EXPECTED[spec.type]}{optional}, because {spec.name} has the "
            f"type {spec.type}, got {'null (NaN)' if missing else shown(value)}",
            next_step="correct the value",
        )


def _as_numbers(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if column.dtype.kind == "O":  # booleans, of which some are missing
        column = np.array([math.nan if value is None else value for value in column])
    return column.astype(np.float64)

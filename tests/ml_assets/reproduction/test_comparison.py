"""The first difference between two tables."""

import numpy as np
import pandas as pd
import pytest

from ml_assets.reproduction.comparison import first_difference

FRAME = pd.DataFrame(
    {
        "number": [1.0, np.nan, 1e6],
        "count": [1, 2, 3],
        "text": ["a", None, "c"],
        "list": [np.array([1, 2]), np.array([]), None],
        "when": pd.to_datetime(["2026-01-01", None, "2026-01-03"]),
        "maybe": pd.array([1, None, 3], dtype="Int64"),
    }
)


def test_equal_frames_differ_in_nothing_missing_values_included() -> None:
    assert first_difference(FRAME, FRAME.copy(), 0.0) is None


@pytest.mark.parametrize(
    ("column", "row", "value", "difference"),
    [
        ("number", 1, 0.0, "column number, row 1: nan → 0.0"),
        ("number", 2, 1e6 + 2, "column number, row 2: 1000000.0 → 1000002.0"),
        ("count", 0, 9, "column count, row 0: 1 → 9"),
        ("text", 1, "b", "column text, row 1: None → 'b'"),
        ("when", 1, pd.Timestamp("2026-01-02"), "column when, row 1: NaT → Timestamp('2026-01-02 00:00:00')"),
        ("maybe", 1, 2, "column maybe, row 1: <NA> → 2"),
    ],
)
def test_first_cell_that_differs_is_named(column: str, row: int, value: object, difference: str) -> None:
    other = FRAME.copy()
    other.loc[row, column] = value
    assert first_difference(FRAME, other, 1e-6) == difference


def test_tolerance_is_relative_and_absolute_below_one() -> None:
    before = pd.DataFrame({"x": [1000.0, 0.001]})
    assert first_difference(before, pd.DataFrame({"x": [1000.9, 0.0019]}), 1e-3) is None
    assert first_difference(before, pd.DataFrame({"x": [1001.1, 0.001]}), 1e-3) == "column x, row 0: 1000.0 → 1001.1"
    assert first_difference(before, pd.DataFrame({"x": [1000.0, 0.0021]}), 1e-3) == "column x, row 1: 0.001 → 0.0021"
    infinite = pd.DataFrame({"x": [np.inf, -np.inf]})
    assert first_difference(infinite, infinite.copy(), 0.0) is None
    assert first_difference(infinite, -infinite, 1.0) == "column x, row 0: inf → -inf"


def test_form_of_a_table_goes_before_its_cells() -> None:
    assert first_difference(FRAME, FRAME[["number"]], 0.0) == "columns: number, count, text, list, when, maybe → number"
    assert first_difference(FRAME, FRAME.astype({"count": "int32"}), 0.0) == "type of column count: int64 → int32"
    assert first_difference(FRAME, FRAME.head(2), 0.0) == "rows: 3 → 2"

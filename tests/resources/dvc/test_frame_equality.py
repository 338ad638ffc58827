from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml_assets.resources.dvc.frame_equality import first_difference, same_index, same_object


def column(*values: Any, dtype: Any = object) -> "pd.Series[Any]":
    return pd.Series(list(values), dtype=dtype)


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        (column(1, None), column(1, None), None),
        (column("a", np.nan), column("a", float("nan")), None),
        (column(np.int64(1)), column(1), None),
        (column("a", None), column("a", np.nan), "row 1: None becomes nan"),
        (column(1, 2), column(1, True), "row 1: 2 becomes True"),
        (column([1, 2]), column([1, 2.0]), "row 0: [1, 2] becomes [1, 2.0]"),
        (column(np.array([1])), column([1]), "row 0: array([1]) becomes [1]"),
        (column({"a": [None]}), column({"a": [np.nan]}), "row 0: {'a': [None]} becomes {'a': [nan]}"),
        (column(0.0, dtype=float), column(-0.0, dtype=float), "row 0: 0.0 becomes -0.0"),
        (column(np.nan, dtype=float), column(np.nan, dtype=float), None),
        (column(1, dtype="int64"), column(1, dtype="int8"), "dtype int64 becomes int8"),
        (column(1, pd.NA, dtype="Int64"), column(1, 2, dtype="Int64"), "row 1: <NA> becomes 2"),
        (
            column("a", dtype=pd.CategoricalDtype(["a", "b"])),
            column("a", dtype=pd.CategoricalDtype(["b", "a"])),
            "dtype category of object becomes category of object",
        ),
    ],
)
def test_first_difference_is_named(one: Any, other: Any, difference: str | None) -> None:
    assert first_difference(one, other) == difference


def test_indexes_are_equal_in_values_names_and_frequency() -> None:
    days = pd.date_range("2013-01-01", periods=3)
    assert same_index(pd.RangeIndex(3), pd.Index([0, 1, 2]))
    assert same_index(pd.RangeIndex(0, 6, 2), pd.RangeIndex(0, 5, 2))
    assert same_index(days, pd.date_range("2013-01-01", periods=3))
    assert not same_index(pd.RangeIndex(3), pd.RangeIndex(1, 4))
    assert not same_index(days, pd.DatetimeIndex(list(days)))
    assert not same_index(pd.Index([1], name=1), pd.Index([1], name="1"))
    assert not same_index(pd.Index([1], name=1), pd.Index([1], name=True))
    assert not same_index(pd.MultiIndex.from_arrays([[1]]), pd.Index([1]))


def test_times_of_one_moment_in_other_zones_differ() -> None:
    noon = pd.Timestamp("2013-01-01 12:00", tz="UTC")
    assert same_object(noon, pd.Timestamp("2013-01-01 12:00", tz="UTC"))
    assert not same_object(noon, noon.tz_convert("Europe/Berlin"))
    assert not same_object(noon, pd.Timestamp("2013-01-01 12:00"))

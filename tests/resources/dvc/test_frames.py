import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from ml_assets.resources.dvc.frames import read_parquet, write_parquet
from ml_assets.resources.errors import SchemaError

BERLIN = ZoneInfo("Europe/Berlin")
NOON = pd.Timestamp("2013-01-01 12:00")


def arrow(values: list[Any], kind: pa.DataType) -> "pd.Series[Any]":
    return pd.Series(values, dtype=pd.ArrowDtype(kind))


def objects(*values: Any) -> "pd.Series[Any]":
    column = pd.Series([None] * len(values), dtype=object)
    for row, value in enumerate(values):
        column.iat[row] = value
    return column


def mixed(*labels: Any) -> pd.Index:
    return pd.Index(labels, dtype=object, tupleize_cols=False)


# Columns of three rows that are read back equal, whatever their index and labels are.
KEPT: dict[str, Any] = {
    **{name: pd.Series([0, 1, 0], dtype=name) for name in ("bool", "int8", "int64", "uint8", "float16", "float32")},
    "uint64": pd.Series([0, 1, 2**64 - 1], dtype="uint64"),
    "float64": pd.Series([-0.0, np.inf, np.nan]),
    "minus infinity": pd.Series([0.0, -np.inf, 5e-324]),
    **{
        f"datetime64[{unit}]": pd.Series([NOON, pd.NaT, NOON]).astype(f"datetime64[{unit}]")
        for unit in ("s", "ms", "us", "ns")
    },
    **{
        f"timedelta64[{unit}]": pd.Series([pd.Timedelta("1D"), pd.NaT, pd.Timedelta("-1s")]).astype(
            f"timedelta64[{unit}]"
        )
        for unit in ("s", "ms", "us", "ns")
    },
    "zoned": pd.Series([NOON, pd.NaT, NOON]).dt.tz_localize("Europe/Berlin"),
    "zoned in seconds": pd.Series([NOON, pd.NaT, NOON]).dt.tz_localize("UTC").astype("datetime64[s, UTC]"),
    "zone of zoneinfo": pd.Series([NOON] * 3).dt.tz_localize(BERLIN),
    "fixed offset": pd.Series([NOON] * 3).dt.tz_localize(dt.timezone(dt.timedelta(hours=1))),
    **{
        name: pd.Series([1, None, 0], dtype=name)
        for name in ("Int8", "Int64", "UInt64", "Float32", "Float64", "boolean")
    },
    "large Int64": pd.Series([2**62 + 1, None, 0], dtype="Int64"),
    "string[python]": pd.Series(["a", None, "ü"], dtype="string[python]"),
    "string[pyarrow]": pd.Series(["a", None, "ü"], dtype="string[pyarrow]"),
    "string with NaN": pd.Series(["a", None, "ü"], dtype=pd.StringDtype("pyarrow", na_value=np.nan)),
    "arrow int": arrow([1, None, 3], pa.int32()),
    "arrow text": arrow(["a", None, ""], pa.string()),
    "arrow large text": arrow(["a", None, ""], pa.large_string()),
    "arrow seconds": arrow([NOON, None, NOON], pa.timestamp("s")),
    "arrow time in seconds": arrow([dt.time(1), None, dt.time(2)], pa.time32("s")),
    "arrow date": arrow([dt.date(2013, 1, 1), None, None], pa.date32()),
    "arrow date64": arrow([dt.date(2013, 1, 1), None, None], pa.date64()),
    "arrow list": arrow([[1, None], None, []], pa.list_(pa.int64())),
    "arrow list of NaN": arrow([[1.0, np.nan], None, []], pa.list_(pa.float64())),
    "arrow struct": arrow(
        [{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}], pa.struct([("a", pa.int8()), ("b", pa.string())])
    ),
    "arrow map": arrow([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "arrow decimal": arrow([Decimal("1.50"), None, Decimal("2.25")], pa.decimal128(9, 2)),
    "arrow dictionary": arrow(["a", None, "a"], pa.dictionary(pa.int8(), pa.string())),
    "arrow bytes": arrow([b"a", None, b""], pa.binary()),
    "arrow null": arrow([None, None, None], pa.null()),
    "arrow duration": arrow([dt.timedelta(1), None, None], pa.duration("s")),
    "text": objects("a", "", "ü"),
    "text and NaN": objects("a", np.nan, "ü"),
    "text and None": objects("a", None, "ü"),
    "text and NA": objects("a", pd.NA, "ü"),
    "text and NaT": objects("a", pd.NaT, "ü"),
    "text, None and NaN": objects("a", None, np.nan),
    "only None": objects(None, None, None),
    "only NaN": objects(np.nan, np.nan, np.nan),
    "only NA": objects(pd.NA, pd.NA, pd.NA),
    "NaT in objects": objects(pd.NaT, None, pd.NaT),
    "integers as objects": objects(1, 2, 3),
    "integers and None": objects(2**62 + 1, None, 3),
    "integers and NaN": objects(2**62 + 1, np.nan, 3),
    "floats as objects": objects(1.5, None, -0.0),
    "floats with NaN and None": objects(1.5, None, np.nan),
    "booleans and None": objects(True, None, False),
    "booleans as objects": objects(True, True, False),
    "bytes": objects(b"a", None, b"\x00"),
    "decimals": objects(Decimal("1.50"), None, Decimal("2.25")),
    "dates": objects(dt.date(2013, 1, 1), None, dt.date(1, 1, 1)),
    "times": objects(dt.time(1, 2, 3, 4), None, dt.time(0)),
    "timestamps as objects": objects(NOON, NOON, NOON),
    "zoned timestamps as objects": objects(NOON.tz_localize("UTC"), NOON.tz_localize("UTC"), NOON.tz_localize("UTC")),
    "zoned timestamps and None": objects(NOON.tz_localize("UTC"), None, NOON.tz_localize("UTC")),
    "timestamps and None": objects(NOON, None, pd.NaT),
    "datetimes": objects(dt.datetime(2013, 1, 1, 12), None, dt.datetime(2014, 1, 1)),
    "timedeltas as objects": objects(dt.timedelta(1), None, dt.timedelta(0)),
    "periods as objects": objects(pd.Period("2013-01"), pd.Period("2013-02"), None),
    "arrays": objects(np.array([1.5, 2.5]), None, np.array([], dtype=float)),
    "lists": objects([1, 2], None, []),
    "lists of lists": objects([[1], [2, 3]], [], None),
    "lists with None": objects([1, None], [2], []),
    "dictionaries": objects({"a": 1, "b": [1]}, None, {"a": 2, "b": []}),
    "lists of dictionaries": objects([{"a": 1}], [{"a": 2}, {"a": 3}], []),
    "categories": pd.Series(pd.Categorical(["b", None, "a"])),
    "unused categories": pd.Series(pd.Categorical(["b", "a", "b"], categories=["z", "b", "a", "y"])),
    "ordered categories": pd.Series(pd.Categorical(["b", "a", "b"], categories=["b", "a"], ordered=True)),
    "categories of integers": pd.Series(pd.Categorical([3, 1, 3], categories=[3, 2, 1], ordered=True)),
    "categories of integers, missing": pd.Series(pd.Categorical([2**62 + 1, None, 3])),
    "categories of booleans": pd.Series(pd.Categorical([True, False, None], categories=[True, False])),
    "categories of floats": pd.Series(pd.Categorical([1.5, None, 2.5])),
    "categories of times": pd.Series(pd.Categorical([NOON, None, NOON])),
    "categories of zoned times": pd.Series(pd.Categorical([NOON.tz_localize("UTC"), None, None])),
    "categories of intervals": pd.cut(pd.Series([1.0, 2.0, np.nan]), 2),
    "categories of periods": pd.Series(pd.Categorical(pd.PeriodIndex(["2013-01", "2013-02", "NaT"], freq="M"))),
    "categories of timedeltas": pd.Series(pd.Categorical([pd.Timedelta("1D"), None, None])),
    "categories of dates": pd.Series(pd.Categorical([dt.date(2013, 1, 1), None, None])),
    "categories of extension integers": pd.Series(pd.Categorical(pd.array([1, 2, 1], dtype="Int64"))),
    "categories of extension text": pd.Series(pd.Categorical(pd.array(["a", "b", None], dtype="string[python]"))),
    "all categories missing": pd.Series(pd.Categorical([None, None, None], categories=["a"])),
    "no categories": pd.Series(pd.Categorical([None, None, None])),
    "intervals": pd.Series(pd.arrays.IntervalArray.from_tuples([(0, 1), None, (1, 2)], closed="left")),
    "intervals of times": pd.Series(pd.interval_range(NOON, periods=3)),
    "periods": pd.Series(pd.PeriodIndex(["2013-01", "NaT", "2013-03"], freq="M")),
    "sparse": pd.Series([0, 0, 1], dtype=pd.SparseDtype("int64", 0)),
    "sparse floats": pd.Series([np.nan, np.nan, 1.0], dtype=pd.SparseDtype("float64")),
}

# Columns that no file keeps, and a part of the refusal.
REFUSED: dict[str, Any] = {
    "numbers and text": objects(1, "one", 2),
    "naive and zoned": objects(NOON, NOON.tz_localize("Europe/Berlin"), NOON),
    "zones": objects(NOON.tz_localize("UTC"), NOON.tz_localize("Europe/Berlin"), NOON.tz_localize("UTC")),
    "time with a zone": objects(dt.time(1, tzinfo=dt.UTC), dt.time(2, tzinfo=dt.UTC), None),
    "dictionaries with other keys": objects({"a": 1}, {"b": 2}, {}),
    "tuples": objects((1, 2), (3, 4), None),
    "sets": objects({1}, {2}, None),
    "bytearrays": objects(bytearray(b"a"), None, None),
    "objects": objects(object(), None, None),
    "arrow text view": arrow(["a", None, ""], pa.string_view()),
    "arrow dictionary of numbers": arrow([7, None, 7], pa.dictionary(pa.int32(), pa.int64())),
    "large integers": objects(2**63, 1, 2),
    "complex": pd.Series([1j, 2j, 3j]),
    "too large integers": objects(2**64, 1, 2),
    "integers and floats": objects(1, 2.5, None),
    "integers and booleans": objects(1, True, None),
    "dates and timestamps": objects(dt.date(2013, 1, 1), NOON, None),
    "two-dimensional arrays": objects(np.eye(2), np.eye(2), None),
    "surrogates": objects("\ud800", "a", "b"),
    "three kinds of missing": objects(None, np.nan, pd.NA),
}

INDEXES: dict[str, pd.Index] = {
    "counts": pd.RangeIndex(3),
    "counts and has a name": pd.RangeIndex(3, name="row"),
    "counts and has a number as name": pd.RangeIndex(3, name=1),
    "steps": pd.RangeIndex(4, -2, -2),
    "int8": pd.Index([0, 1, 2], dtype="int8"),
    "floats": pd.Index([0.5, np.nan, -0.0]),
    "booleans": pd.Index([True, False, True]),
    "boolean objects": mixed(True, False, None),
    "text": pd.Index(["a", "b", "ü"], name="customer"),
    "text and None": mixed("a", None, np.nan),
    "string": pd.Index(["a", None, "b"], dtype="string[python]"),
    "integers and text": mixed(1, "1", 2.5),
    "dates": mixed(dt.date(2013, 1, 1), dt.date(2013, 1, 2), dt.date(2013, 1, 3)),
    "times with a frequency": pd.date_range("2013-01-01", periods=3, freq="h", tz="America/New_York", name="hour"),
    "times without one": pd.DatetimeIndex(["2013-01-01", "2013-01-02", None]),
    "times in seconds": pd.DatetimeIndex(["2013-01-01", "2013-01-02", "2013-01-05"]).as_unit("s"),
    "timedeltas": pd.timedelta_range("1h", periods=3),
    "periods": pd.period_range("2013-01", periods=3, freq="M"),
    "intervals": pd.interval_range(0, 3),
    "intervals of floats": pd.IntervalIndex.from_breaks([0.1, 0.2, 0.3, 0.4], closed="both"),
    "categories": pd.CategoricalIndex(["a", "b", "a"], categories=["b", "a", "c"], ordered=True),
    "categories of intervals": pd.CategoricalIndex(pd.cut([1, 2, 3], 2)),
    "categories of booleans": pd.CategoricalIndex([True, False, True]),
    "Int64": pd.Index([1, None, 2], dtype="Int64"),
    "arrow": pd.Index([1, None, 2], dtype="int32[pyarrow]"),
    "name is a number": pd.Index(["a", "b", "c"], name=0),
    "name is a boolean": pd.Index([5, 6, 7], name=False),
    "name of a column": pd.Index([5, 6, 7], name="value"),
    "levels": pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["letter", None]),
    "levels of booleans and categories": pd.MultiIndex.from_arrays(
        [[True, False, True], pd.Categorical(["x", "y", "x"])]
    ),
    "levels of one name": pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["same", "same"]),
    "levels of times and mixed labels": pd.MultiIndex.from_arrays(
        [pd.date_range("2013", periods=3), mixed(1, "1", None)]
    ),
    "one level": pd.MultiIndex.from_arrays([["a", "b", "c"]], names=["only"]),
}


def frame(values: "pd.Series[Any]", index: pd.Index | None = None, labels: pd.Index | None = None) -> pd.DataFrame:
    made = pd.DataFrame({0: values.array, 1: [1, 2, 3], 2: values.array}, index=index)
    return made.set_axis(pd.Index(["value", "number", "again"]) if labels is None else labels, axis="columns")


def written(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    write_parquet(table, folder / "frame.parquet")
    return read_parquet(folder / "frame.parquet")


def assert_equal(read: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Check more than pandas does: kinds of missing values, types of objects, signs of zeros, names."""
    pd.testing.assert_frame_equal(read, expected, check_exact=True, check_column_type="equiv")
    pairs: list[tuple[Any, Any]] = [(read[label], expected[label]) for label in expected]
    pairs += [
        (axis.get_level_values(i), other.get_level_values(i))
        for axis, other in zip(read.axes, expected.axes, strict=True)
        for i in range(axis.nlevels)
    ]
    for one, other in pairs:
        for a, b in zip(one, other, strict=True):
            assert type(a) is type(b)
            assert repr(a) == repr(b)


@pytest.mark.parametrize("name", KEPT)
def test_column_is_read_back_equal(name: str, tmp_path: Path) -> None:
    """Each column meets another kind of index and of labels."""
    turn = list(KEPT).index(name)
    indexes = list(INDEXES.values())
    labels = indexes[turn * 7 % len(indexes)].unique()
    expected = frame(KEPT[name], indexes[turn % len(indexes)])
    assert_equal(written(expected, tmp_path), expected)
    assert_equal(written(frame(KEPT[name])[:0], tmp_path), frame(KEPT[name])[:0])
    turned = frame(KEPT[name]).iloc[:, : len(labels)].set_axis(labels, axis="columns")
    assert_equal(written(turned, tmp_path), turned)


@pytest.mark.parametrize("name", REFUSED)
def test_column_that_would_change_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"'value'.* Next: "):
        written(frame(REFUSED[name]), tmp_path)


@pytest.mark.parametrize("name", INDEXES)
def test_index_and_labels_are_read_back_equal(name: str, tmp_path: Path) -> None:
    values, index = KEPT["float64"], INDEXES[name]
    assert_equal(written(frame(values, index), tmp_path), frame(values, index))
    assert_equal(written(frame(values, index)[[]], tmp_path), frame(values, index)[[]])
    labels = index.unique()
    expected = frame(values).iloc[:, : len(labels)].set_axis(labels, axis="columns")
    assert_equal(written(expected, tmp_path), expected)


@pytest.mark.parametrize(
    "frequency", [pd.offsets.CustomBusinessDay(holidays=["2013-01-02"]), pd.DateOffset(days=2, hours=1)], ids=str
)
def test_frequency_that_has_no_name_is_refused(frequency: Any, tmp_path: Path) -> None:
    index = pd.date_range("2013-01-01", periods=3, freq=frequency)
    with pytest.raises(SchemaError, match=r"the frequency .* cannot be kept.* Next: .*freq = None"):
        written(frame(KEPT["float64"], index), tmp_path)


def test_content_of_columns_does_not_depend_on_the_form(tmp_path: Path) -> None:
    """Other libraries find columns by their labels as text, and categories by their values."""
    values = pd.DataFrame({0: pd.Categorical([3, 1], categories=[3, 1], ordered=True), "a": [1, 2]})
    write_parquet(values, tmp_path / "frame.parquet")
    assert parquet.read_table(tmp_path / "frame.parquet").to_pydict() == {"0": [3, 1], "a": [1, 2]}


def test_the_file_is_checked_in_all_its_forms(tmp_path: Path) -> None:
    """pandas' own results, most of which were changed or could not be read before."""
    late = pd.DataFrame({"carrier": ["a", "a", "b"], "late": [True, False, True], "n": [1, 2, 3]})
    frames = [
        late.pivot(index="carrier", columns="late", values="n"),
        pd.crosstab(late["carrier"], pd.cut(late["n"], 2)),
        late.groupby("carrier").agg({"n": ["min", "max"]}),
        late.groupby(pd.cut(late["n"], 2), observed=False).sum(numeric_only=True),
        late.set_index(["carrier", "late"]).unstack(),
        pd.DataFrame(np.eye(3)).assign(target=[1, 2, 3]),
        pd.DataFrame([[1, 2]], columns=mixed(1, "1")),
        pd.DataFrame(index=range(3)),
        pd.DataFrame(),
    ]
    for expected in frames:
        pd.testing.assert_frame_equal(written(expected, tmp_path), expected, check_exact=True)

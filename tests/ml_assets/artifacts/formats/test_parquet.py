import datetime as dt
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import compute

from ml_assets.artifacts.formats.parquet import Parquet, joined_tables
from ml_assets.resources.errors import InputError, SchemaError
from ml_assets.testing import FormatTests

pl = pytest.importorskip("polars", reason="Polars is not installed")
polars_testing = pytest.importorskip("polars.testing")

NOON = dt.datetime(2013, 1, 1, 12)
ARROW: dict[str, tuple[list[Any], pa.DataType]] = {
    "integers": ([1, None, 2**62 + 1], pa.int64()),
    "bytes": ([1, None, 255], pa.uint8()),
    "numbers": ([0.5, None, -0.0], pa.float32()),
    "text": (["a", None, ""], pa.string()),
    "large text": (["a", None, ""], pa.large_string()),
    "text view": (["a", None, ""], pa.string_view()),
    "seconds": ([NOON, None, NOON], pa.timestamp("s")),
    "zoned": ([NOON, None, NOON], pa.timestamp("us", "Europe/Berlin")),
    "times": ([dt.time(1), None, dt.time(2)], pa.time32("s")),
    "dates": ([dt.date(2013, 1, 1), None, None], pa.date64()),
    "durations": ([dt.timedelta(1), None, None], pa.duration("s")),
    "decimals": ([Decimal("1.5"), None, Decimal("2")], pa.decimal128(9, 2)),
    "lists": ([[1, None], None, []], pa.list_(pa.int64())),
    "arrays": ([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int8(), 2)),
    "structs": ([{"a": 1}, None, {"a": None}], pa.struct([("a", pa.int8())])),
    "maps": ([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "dictionary": (["a", None, "a"], pa.dictionary(pa.int8(), pa.string())),
    "nulls": ([None, None, None], pa.null()),
}


def arrow_table() -> pa.Table:
    arrays = [pa.array(values, kind) for values, kind in ARROW.values()]
    return pa.table(arrays, names=list(ARROW)).replace_schema_metadata({"author": "someone"})


def polars_frame() -> Any:
    return pl.DataFrame(
        {
            "integers": pl.Series([1, None, 2**62 + 1]),
            "small": pl.Series([1, None, 3], dtype=pl.Int8),
            "numbers": [float("nan"), None, -0.0],
            "text": ["a", None, ""],
            "booleans": [True, None, False],
            "decimals": pl.Series([Decimal("1.5"), None, Decimal("2")], dtype=pl.Decimal(10, 2)),
            "zoned": pl.Series([NOON, None, NOON], dtype=pl.Datetime("ms", "Europe/Berlin")),
            "times": [dt.time(1), None, dt.time(2)],
            "durations": pl.Series([dt.timedelta(1), None, None], dtype=pl.Duration("ns")),
            "categories": pl.Series(["b", "a", None], dtype=pl.Categorical),
            "enumeration": pl.Series(["b", None, "a"], dtype=pl.Enum(["z", "b", "a"])),
            "lists": [[1], None, []],
            "structs": [{"a": 1, "b": "x"}, {"a": 2, "b": None}, None],
            "bytes": [b"a", None, b""],
        }
    )


def pandas_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {"pieces": [1, 2], "name": ["a", None], "size": pd.Categorical([3, 1], categories=[3, 2, 1])},
        index=pd.Index(["x", "y"], name="customer"),
    )


class TestParquet(FormatTests):
    form = Parquet()

    def values(self) -> Sequence[Any]:
        eager = polars_frame()
        return [
            pandas_frame(),
            pandas_frame()[:0],
            arrow_table(),
            arrow_table()[:0],
            arrow_table().to_reader(),
            eager,
            eager[:0],
            eager.lazy(),
            pl.DataFrame(),
        ]

    def refused(self) -> Sequence[Any]:
        twice = pa.table([[1], [2]], names=["a", "a"])
        return [
            pd.DataFrame({"a": [1, "one"]}),
            Described({"a": [1]}),
            twice,
            twice.to_reader(),
            pa.table({"a": pa.array([1]).dictionary_encode()}),
            pa.table({"a": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}),
            pl.DataFrame({"a": [object()]}),
        ]

    def assert_equal(self, read: Any, written: Any) -> None:
        assert type(read) is type(written)
        if isinstance(read, pd.DataFrame):
            pd.testing.assert_frame_equal(read, written)
        elif isinstance(read, pl.DataFrame | pl.LazyFrame):
            polars_testing.assert_frame_equal(read, written, check_exact=True)
        else:
            one, other = (
                each.read_all() if isinstance(each, pa.RecordBatchReader) else each for each in (read, written)
            )
            assert one.schema.equals(other.schema, check_metadata=True)
            assert one.equals(other)


class Described(pd.DataFrame):
    """A frame with an attribute that a file does not hold."""

    _metadata = ("note",)  # type: ignore[assignment]


WRITERS = {
    "pandas": lambda: pd.DataFrame({"n": pd.array([1, None, 2**62 + 1], dtype="Int64"), "s": ["a", "b", None]}),
    "polars": lambda: pl.DataFrame({"n": [1, None, 2**62 + 1], "s": ["a", "b", None]}),
    "lazy": lambda: pl.LazyFrame({"n": [1, None, 2**62 + 1], "s": ["a", "b", None]}),
    "arrow": lambda: pa.table({"n": [1, None, 2**62 + 1], "s": ["a", "b", None]}),
    "reader": lambda: pa.table({"n": [1, None, 2**62 + 1], "s": ["a", "b", None]}).to_reader(),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_table_is_read_by_every_library(writer: str, tmp_path: Path) -> None:
    form = Parquet()
    form.write(WRITERS[writer](), tmp_path / "table")
    rows = [{"n": 1, "s": "a"}, {"n": None, "s": "b"}, {"n": 2**62 + 1, "s": None}]
    assert form.read(tmp_path / "table", pl.DataFrame).to_dicts() == rows
    assert form.read(tmp_path / "table", pl.LazyFrame).collect().to_dicts() == rows
    assert form.read(tmp_path / "table", pa.Table).to_pylist() == rows
    assert form.read(tmp_path / "table", pa.RecordBatchReader).read_all().to_pylist() == rows
    frame = form.read(tmp_path / "table", pd.DataFrame)
    assert frame["n"].dtype == "Int64"
    assert frame["n"].tolist() == [1, pd.NA, 2**62 + 1]
    assert frame["s"].fillna("missing").tolist() == ["a", "b", "missing"]
    description = form.describe(WRITERS[writer](), tmp_path / "table")
    assert description["dagster/row_count"] == 3
    columns = description["dagster/column_schema"].columns
    assert [(column.name, column.constraints.nullable) for column in columns] == [("n", True), ("s", True)]
    assert len(description["preview"].records) == 3


def test_bytes_do_not_depend_on_batches_and_chunks(tmp_path: Path) -> None:
    table = pa.table({"n": np.arange(100_000), "s": [str(n % 7) for n in range(100_000)], "e": [[0.5]] * 100_000})
    pieces = pa.concat_tables([table[:1], table[1:70_000], table[70_000:]])
    frame = pl.from_arrow(table)
    chunks = pl.concat([frame[:1], frame[1:70_000], frame[70_000:]], rechunk=False)
    for one, other in (
        (table, pieces),
        (table.to_reader(100), pieces.to_reader()),
        (frame, chunks),
        (frame.lazy(), chunks.lazy()),
    ):
        Parquet().write(one, tmp_path / "one")
        Parquet().write(other, tmp_path / "other")
        assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_stream_larger_than_memory_passes_through_it(tmp_path: Path) -> None:
    """400 MB pass, and never more than a quarter of them are allocated; then they are read in parts."""
    rows, batches = 1 << 16, 100
    values = pa.array(np.arange(rows) % 10.0)
    schema = pa.schema([(f"c{i}", pa.float64()) for i in range(8)])
    peak = 0

    def stream() -> Iterator[pa.RecordBatch]:
        nonlocal peak
        for _ in range(batches):
            yield pa.RecordBatch.from_arrays([compute.add(values, 1.0) for _ in range(8)], schema=schema)
            peak = max(peak, pa.total_allocated_bytes())

    before = pa.total_allocated_bytes()
    Parquet().write(pa.RecordBatchReader.from_batches(schema, stream()), tmp_path / "table")
    total = rows * batches * 8 * 8
    assert total > 400e6
    read = 0
    for batch in Parquet().read(tmp_path / "table", pa.RecordBatchReader):
        read += batch.num_rows
        peak = max(peak, pa.total_allocated_bytes())
    assert read == rows * batches
    assert peak - before < total / 4


def test_partitions_of_each_kind_of_table_are_joined() -> None:
    for make in WRITERS.values():
        joined = joined_tables([make(), make()])
        assert type(joined) is type(make())
        joined = joined.collect() if isinstance(joined, pl.LazyFrame) else joined
        joined = joined.read_all() if isinstance(joined, pa.RecordBatchReader) else joined
        assert len(joined) == 6
    assert joined_tables([WRITERS["pandas"](), WRITERS["polars"]()]) is None
    assert joined_tables([1, 2]) is None


@pytest.mark.parametrize("kind", ["arrow", "polars"])
def test_partitions_with_other_columns_are_not_joined(kind: str) -> None:
    other = pa.table({"x": [1]})
    with pytest.raises(InputError, match=r"different schemas .* Next: .*dict"):
        joined_tables([WRITERS[kind](), other if kind == "arrow" else pl.from_arrow(other)])


def test_a_frame_with_attributes_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SchemaError, match=r"test_parquet\.Described would be read back as pandas\.DataFrame, without note"
    ):
        Parquet().write(Described({"a": [1]}), tmp_path / "table")

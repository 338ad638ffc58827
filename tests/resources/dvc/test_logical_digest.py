from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from ml_assets.resources.dvc.logical_digest import logical_digest
from ml_assets.resources.identity import Digest

COLUMNS: dict[str, Any] = {
    "number": pyarrow.array([1, None, 3], "int32"),
    "real": pyarrow.array([0.5, float("nan"), None]),
    "flag": pyarrow.array([True, None, False]),
    "text": pyarrow.array(["a", None, "bc"]),
    "raw": pyarrow.array([b"", b"x", None]),
    "fixed": pyarrow.array([b"ab", None, b"cd"], pyarrow.binary(2)),
    "amount": pyarrow.array([1, None, 3], pyarrow.decimal128(10, 2)),
    "time": pyarrow.array([0, None, 2], pyarrow.timestamp("us", "Europe/Paris")),
    "kind": pyarrow.array(["x", None, "y"]).dictionary_encode(),
    "list": pyarrow.array([[1, 2], None, [None]]),
    "pair": pyarrow.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}]),
    "map": pyarrow.array([[("k", 1)], None, []], pyarrow.map_("string", "int64")),
    "nothing": pyarrow.nulls(3),
    "a.b": pyarrow.array([1, 2, 3]),
}
TABLE = pyarrow.table(COLUMNS)


@pytest.fixture
def digest(tmp_path: Path) -> Callable[..., Digest | None]:
    def of(table: pyarrow.Table, **options: Any) -> Digest | None:
        parquet.write_table(table, tmp_path / "table.parquet", **options)
        return logical_digest(tmp_path / "table.parquet")

    return of


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip"},
        {"row_group_size": 1},
        {"use_dictionary": False},
        {"data_page_version": "2.0", "write_statistics": False},
        {"use_byte_stream_split": ["real"], "use_dictionary": False},
    ],
)
def test_encoding_does_not_count(digest: Callable[..., Digest | None], options: dict[str, Any]) -> None:
    assert digest(TABLE, **options) == digest(TABLE)


def test_layout_in_memory_does_not_count(digest: Callable[..., Digest | None]) -> None:
    large = TABLE.set_column(3, "text", TABLE["text"].cast("large_string"))
    large = large.set_column(9, "list", large["list"].cast(pyarrow.large_list(pyarrow.int64())))
    pieces = pyarrow.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])
    assert digest(large) == digest(pieces) == digest(TABLE)


OTHERS = {
    "number": [pyarrow.array([1, 0, 3], "int32"), pyarrow.array([1, None, 3], "int64")],
    "real": [pyarrow.array([0.5, None, None]), pyarrow.array([0.5, float("nan"), 0.0])],
    "flag": [pyarrow.array([True, False, False])],
    "text": [pyarrow.array(["ab", None, "c"]), pyarrow.array(["a", "", "bc"])],
    "raw": [pyarrow.array([b"x", b"", None])],
    "fixed": [pyarrow.array([b"ab", b"\0\0", b"cd"], pyarrow.binary(2))],
    "amount": [pyarrow.array([1, None, 3], pyarrow.decimal128(10, 3))],
    "time": [pyarrow.array([0, None, 2], pyarrow.timestamp("us", "UTC"))],
    "kind": [pyarrow.array(["x", None, "y"]), pyarrow.array(["y", None, "x"]).dictionary_encode()],
    "list": [pyarrow.array([[1], None, [2, None]]), pyarrow.array([[1, 2], [], [None]])],
    "pair": [pyarrow.array([{"a": 1, "b": "x"}, {"a": None, "b": None}, {"a": None, "b": "y"}])],
    "map": [pyarrow.array([[("k", 2)], None, []], pyarrow.map_("string", "int64"))],
}


def test_every_value_type_and_missing_value_counts(digest: Callable[..., Digest | None]) -> None:
    tables = [TABLE, TABLE.slice(1), TABLE.drop_columns("nothing"), TABLE.select(TABLE.column_names[::-1])]
    tables += [
        TABLE.set_column(TABLE.column_names.index(name), name, other) for name, each in OTHERS.items() for other in each
    ]
    assert len({str(digest(table)) for table in tables}) == len(tables)


def test_index_counts_and_an_empty_table_has_a_digest(digest: Callable[..., Digest | None]) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    tables = [pyarrow.Table.from_pandas(each) for each in (frame, frame.set_index("a"), frame.iloc[:0])]
    assert len({str(digest(table)) for table in tables}) == 3

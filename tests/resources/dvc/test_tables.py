from pathlib import Path

import pyarrow as pa
import pytest

from ml_assets.resources.dvc.tables import read_table, table_frame, write_stream, write_table
from ml_assets.resources.errors import InputError, SchemaError


def test_types_that_parquet_has_not_are_read_back(tmp_path: Path) -> None:
    table = pa.table(
        {"when": pa.array([1, None], pa.timestamp("s")), "kind": pa.array(["a", None]).dictionary_encode()}
    )
    assert write_table(table, tmp_path / "table") is None
    assert read_table(tmp_path / "table").equals(table)


def test_column_that_parquet_changes_is_named(tmp_path: Path) -> None:
    table = pa.table({"n": [1, 2], "kind": pa.array([7, 8]).dictionary_encode()})
    assert write_table(table, tmp_path / "table") == "kind"
    with pytest.raises(SchemaError, match=r"column 'kind' would be read back as int64, not dictionary.* Next: "):
        write_stream(table.schema, table.to_batches(), tmp_path / "stream", {})


def test_stream_without_rows_keeps_its_schema(tmp_path: Path) -> None:
    schema = pa.schema([("n", pa.int8()), ("when", pa.timestamp("s"))])
    write_stream(schema, [], tmp_path / "stream", {})
    assert read_table(tmp_path / "stream").equals(schema.empty_table())


def test_integers_with_nulls_stay_exact_in_pandas() -> None:
    frame = table_frame(pa.table({"n": pa.array([2**62 + 1, None]), "u": pa.array([1, None], pa.uint8()), "k": [1, 2]}))
    assert [str(kind) for kind in frame.dtypes] == ["Int64", "UInt8", "int64"]
    assert frame["n"].iloc[0] == 2**62 + 1


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no table")
    with pytest.raises(InputError, match="is not a Parquet table"):
        read_table(tmp_path / "text")

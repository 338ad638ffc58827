"""Tables as Parquet files whose bytes depend only on the table."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from ml_assets.resources.errors import InputError, SchemaError

__all__ = ["read_parquet", "write_parquet"]

_PANDAS = b"pandas"
_NOT_CONTENT = ("attributes", "creator", "pandas_version")
_ROWS_PER_GROUP = 1 << 20


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as Parquet; equal frames give equal bytes in every process.

    An index is written as columns, unless it only counts rows. pandas' metadata (`attrs`, versions of libraries) is
    omitted; the Parquet library still records its own version in the file.

    Raises:
        SchemaError: a column has a type, or a mixture of types, that Parquet does not support, or holds UUIDs, which
            would be read back as bytes.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        table = _table(frame)
        notes = json.loads(table.schema.metadata[_PANDAS])
        content = json.dumps({name: notes[name] for name in notes if name not in _NOT_CONTENT}, sort_keys=True)
        table = table.replace_schema_metadata({_PANDAS: content.encode()})
        parquet.write_table(
            table, path, version="2.6", compression="snappy", data_page_version="1.0", row_group_size=_ROWS_PER_GROUP
        )
    except (pyarrow.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise SchemaError(
            f"the frame cannot be written as Parquet: {error}",
            next_step="give every column one name and one type, such as str, int or datetime",
        ) from error


def _table(frame: pd.DataFrame) -> Any:
    """Return the frame as an Arrow table, the same for an explicit integer index and a range index."""
    import pyarrow

    counted = pd.RangeIndex(len(frame), name=frame.index.name)
    if frame.index.dtype == "int64" and frame.index.equals(counted):
        frame = frame.set_axis(counted)
    table = pyarrow.Table.from_pandas(frame, preserve_index=None if frame.index is counted else True)
    _refuse_uuids(table.schema)
    return table


def _refuse_uuids(schema: Any) -> None:
    import pyarrow

    for field in schema:
        values = field.type.value_type if pyarrow.types.is_dictionary(field.type) else field.type
        if values == pyarrow.uuid():
            raise SchemaError(
                f"column {field.name!r} contains UUIDs, which would be read back as bytes",
                next_step=f"store them as text, such as frame[{field.name!r}].astype(str)",
            )


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a frame that `write_parquet` wrote.

    Raises:
        InputError: the file is not Parquet.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        frame: pd.DataFrame = parquet.ParquetFile(path).read().to_pandas()
    except pyarrow.ArrowException as error:
        raise InputError(
            f"{path} is not a Parquet table: {error}",
            next_step="load it as a file, or store a DataFrame under this key",
        ) from error
    return frame

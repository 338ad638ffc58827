"""Tables as Parquet whose bytes follow from the table alone."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from resources.errors import InputError, SchemaError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_parquet", "write_parquet"]

_PANDAS = b"pandas"
_NOT_CONTENT = ("attributes", "creator", "pandas_version")
_ROWS_PER_GROUP = 1 << 20


def write_parquet(frame: "pd.DataFrame", path: Path) -> None:
    """Write a frame so that an equal frame gives equal bytes, in any process.

    An index is written as columns, unless it only counts rows. What pandas keeps about the frame without it being
    content (`attrs`, versions of libraries) is left out; the Parquet library still signs the file with its own version.

    Raises:
        SchemaError: a column has a type, or a mixture of types, that Parquet has not.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        table = pyarrow.Table.from_pandas(frame)
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


def read_parquet(path: Path) -> "pd.DataFrame":
    """Read what `write_parquet` wrote.

    Raises:
        InputError: the file is not Parquet.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        frame: pd.DataFrame = parquet.ParquetFile(path).read().to_pandas()
    except pyarrow.ArrowException as error:
        raise InputError(
            f"{path} is not a table in Parquet: {error}",
            next_step="load it as a file, or store a DataFrame under this key",
        ) from error
    return frame

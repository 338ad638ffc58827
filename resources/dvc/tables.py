"""Arrow tables as Parquet files whose bytes depend only on the values, and from which an equal table is read."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ml_assets.resources.errors import InputError, SchemaError

__all__ = ["original_types", "parquet_errors", "read_table", "write_table"]

_SCHEMA: Final = b"ml_assets.schema"
"""Key of the schema's metadata: the Arrow schema of a table with types that Parquet stores as others."""
_OPTIONS: Final = {"version": "2.6", "compression": "snappy", "data_page_version": "1.0"}
_ROWS_PER_GROUP: Final = 1 << 20


def write_table(table: Any, path: Path) -> str | None:
    """Write a table of one chunk; return the name of a column that `read_table` would not return equal, if any.

    Columns of types that Parquet has itself (numbers, times, text) are compared by type. Others are read again.
    """
    from pyarrow import parquet

    stored = _in_types_of_parquet(table)
    parquet.write_table(stored, path, row_group_size=_ROWS_PER_GROUP, **_OPTIONS)
    file = parquet.ParquetFile(path)
    compared = [field.name for field in stored.schema if not _is_simple(field.type)]
    changed = None if stored is table else _first_changed(table, original_types(stored))
    if changed is not None or not compared:
        return changed
    return _first_changed(stored.select(compared), file.read(compared).select(compared))


def read_table(path: Path) -> Any:
    """Read a table that `write_table` wrote.

    Raises:
        InputError: the file is not Parquet.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        return original_types(parquet.ParquetFile(path).read())
    except pyarrow.ArrowException as error:
        raise InputError(
            f"{path} is not a Parquet table: {error}",
            next_step="load it as a file, or store a DataFrame under this key",
        ) from error


def original_types(table: Any) -> Any:
    """Return a table from a file in the types that it had before it was written."""
    import pyarrow

    metadata = dict(table.schema.metadata or {})
    if _SCHEMA not in metadata:
        return table
    schema = pyarrow.ipc.read_schema(pyarrow.py_buffer(base64.b64decode(metadata.pop(_SCHEMA))))
    return table.cast(schema).replace_schema_metadata(metadata or None)


def _in_types_of_parquet(table: Any) -> Any:
    """Return the table in types that Parquet keeps, with its own types in the metadata if they differ."""
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(table.schema.empty_table(), file, **_OPTIONS)
    types = parquet.read_schema(file).types
    # Arrow casts no other type to a dictionary, so these columns would not get back their type.
    fields = [
        field if pyarrow.types.is_dictionary(field.type) else field.with_type(kind)
        for field, kind in zip(table.schema, types, strict=True)
    ]
    if pyarrow.schema(fields).types == table.schema.types:
        return table
    own = base64.b64encode(table.schema.remove_metadata().serialize())
    return table.cast(pyarrow.schema(fields)).replace_schema_metadata({**(table.schema.metadata or {}), _SCHEMA: own})


def _is_simple(kind: Any) -> bool:
    from pyarrow import types

    simple = (types.is_boolean, types.is_integer, types.is_floating, types.is_timestamp, types.is_date32)
    return any(test(kind) for test in (*simple, types.is_string, types.is_large_string, types.is_binary))


def _first_changed(table: Any, read: Any) -> str | None:
    """Return the first column that differs in type or values, or in the order of a dictionary."""
    from pyarrow import types

    for name, one, other in zip(table.column_names, table.columns, read.columns, strict=True):
        is_equal = one.type == other.type and one.equals(other)
        if is_equal and types.is_dictionary(one.type):
            first = one.chunk(0).dictionary if one.num_chunks else None
            is_equal = bool(other.num_chunks) and all(chunk.dictionary.equals(first) for chunk in other.chunks)
        if not is_equal:
            return str(name)
    return None


@contextmanager
def parquet_errors() -> Iterator[None]:
    """Turn errors of the Parquet library into `SchemaError`."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise SchemaError(
            f"the table cannot be written as Parquet: {error}",
            next_step="give every column one name and one type, such as str, int or datetime",
        ) from error

"""Arrow tables as Parquet files whose bytes depend only on the values, and from which an equal table is read."""

import base64
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_assets.resources.errors import InputError, SchemaError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "original_types",
    "parquet_errors",
    "parquet_file",
    "read_table",
    "table_frame",
    "write_stream",
    "write_table",
]

_SCHEMA: Final = b"ml_assets.schema"
"""Key of the schema's metadata: the Arrow schema of a table with types that Parquet stores as others."""
_OPTIONS: Final = {"version": "2.6", "compression": "snappy", "data_page_version": "1.0"}
_ROWS_PER_GROUP: Final = 1 << 20
_GROUP_BYTES: Final = 32 << 20


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


def write_stream(schema: Any, batches: Iterable[Any], path: Path, metadata: Mapping[str, str]) -> None:
    """Write record batches in groups of rows; the bytes do not depend on the sizes of the batches.

    Memory holds one group twice, about 32 MiB for columns of fixed width, and one batch.

    Args:
        schema: Arrow schema of the batches.
        batches: Arrow record batches.
        path: the new file.
        metadata: entries that are added to the schema's own.

    Raises:
        SchemaError: Parquet does not keep a type, or two columns have the same name.
    """
    from pyarrow import parquet

    with parquet_errors():
        _refuse_equal_names(schema.names)
        own = {**(schema.metadata or {}), **{key.encode(): value.encode() for key, value in metadata.items()}}
        stored = _in_types_of_parquet(schema.with_metadata(own).empty_table()).schema
        rows = _rows_per_group(schema)
        with parquet.ParquetWriter(path, stored, **_OPTIONS) as writer:
            for group in _groups(schema, batches, rows):
                writer.write_table(group.cast(stored), row_group_size=rows)
        read = original_types(parquet.read_schema(path).empty_table()).schema
    for one, other in zip(schema, read, strict=True):
        if one.type != other.type:
            raise SchemaError(
                f"column {one.name!r} would be read back as {other.type}, not {one.type}",
                next_step="cast it to a type that Parquet has",
            )


def _groups(schema: Any, batches: Iterable[Any], rows: int) -> Iterator[Any]:
    """Yield tables of one chunk with exactly this number of rows; the last one may have fewer."""
    import pyarrow

    waiting: list[Any] = []
    for batch in batches:
        waiting.append(batch)
        if sum(each.num_rows for each in waiting) >= rows:
            table = pyarrow.Table.from_batches(waiting, schema)
            while table.num_rows >= rows:
                yield table.slice(0, rows).combine_chunks()
                table = table.slice(rows)
            waiting = table.to_batches()
    yield pyarrow.Table.from_batches(waiting, schema).combine_chunks()


def _rows_per_group(schema: Any) -> int:
    """Return a number of rows that depends on the types alone: 32 MiB, with 64 bytes for a value without a width."""
    width = sum(_width(field.type) for field in schema)
    return max(1024, min(_ROWS_PER_GROUP, _GROUP_BYTES // max(1, width)))


def _width(kind: Any) -> int:
    try:
        return max(1, int(kind.bit_width) // 8)
    except ValueError:
        return 64


def _refuse_equal_names(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise SchemaError(f"two columns have the name {name!r}", next_step="give every column a name of its own")


def read_table(path: Path) -> Any:
    """Read a table that `write_table` or `write_stream` wrote, or any other Parquet file.

    Raises:
        InputError: the file is not Parquet.
    """
    return original_types(parquet_file(path).read())


def parquet_file(path: Path) -> Any:
    """Open a Parquet file.

    Raises:
        InputError: the file is not Parquet.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise InputError(
            f"{path} is not a Parquet table: {error}",
            next_step="load it as a file, or store a DataFrame under this key",
        ) from error


def table_frame(table: Any) -> "pd.DataFrame":
    """Return an Arrow table as a pandas frame; integers with nulls get pandas' nullable types and stay exact."""
    import pandas as pd
    import pyarrow

    frame: pd.DataFrame = table.to_pandas()
    for place, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if column.null_count and pyarrow.types.is_integer(column.type) and str(frame.columns[place]) == name:
            dtype: Any = pd.api.types.pandas_dtype(str(column.type).replace("int", "Int").replace("uInt", "UInt"))
            frame.isetitem(place, dtype.__from_arrow__(column))
    return frame


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

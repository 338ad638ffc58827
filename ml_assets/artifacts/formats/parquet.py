"""The format of tables: pandas, Polars and Arrow, stored as Parquet, read as any of them."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from ml_assets.artifacts.formats.interface import Format, name_of
from ml_assets.resources.dvc.frames import read_parquet, write_parquet
from ml_assets.resources.dvc.logical_digest import logical_digest
from ml_assets.resources.dvc.tables import original_types, parquet_file, read_table, table_frame, write_stream
from ml_assets.resources.errors import InputError, SchemaError
from ml_assets.resources.extras import require
from ml_assets.resources.identity import Digest

__all__ = ["Parquet", "joined_tables"]

_WRITTEN_BY: Final = "ml_assets.type"
"""Key of the file's metadata: the type that was written, unless it was a pandas frame."""
_PANDAS: Final = "pandas.DataFrame"
_STREAMS: Final = ("polars.LazyFrame", "pyarrow.RecordBatchReader")
_PREVIEW_ROWS: Final = 5
_POLARS_ROWS_PER_GROUP: Final = 1 << 17


class Parquet(Format):
    """Stores a table as one Parquet file."""

    name = "parquet"
    types = (pd.DataFrame, "polars.DataFrame", "polars.LazyFrame", "pyarrow.Table", "pyarrow.RecordBatchReader")
    suffix = ".parquet"

    def write(self, value: Any, path: Path) -> None:
        """Write a table: a lazy frame and a reader part by part, without holding all rows in memory."""
        kind = _kind(type(value))
        if kind == _PANDAS:
            _refuse_own_attributes(value)
            write_parquet(value, path)
        elif kind.startswith("polars."):
            _write_polars(value, path, kind)
        else:
            reader = value.to_reader() if kind == "pyarrow.Table" else value
            write_stream(reader.schema, reader, path, {_WRITTEN_BY: kind})

    def read(self, path: Path, wanted: type) -> Any:
        """Return the table; values of another library's file are converted as Arrow does."""
        written_by = _written_by(path)
        kind = written_by if wanted is object else _kind(wanted)
        if kind == _PANDAS:
            return read_parquet(path) if written_by == _PANDAS else table_frame(_table(path))
        return _READERS[kind](path)

    def describe(self, value: Any, path: Path) -> Mapping[str, Any]:
        """Return schema, number of rows, and the first rows."""
        from ml_assets.artifacts.metadata import frame_metadata, table_metadata

        if isinstance(value, pd.DataFrame):
            return frame_metadata(value)
        file = parquet_file(path)
        head = next(file.iter_batches(_PREVIEW_ROWS), None)
        rows = head.to_pylist() if head is not None else []
        columns = [(field.name, str(field.type), _has_nulls(file.metadata, field.name)) for field in file.schema_arrow]
        return table_metadata(file.metadata.num_rows, columns, rows)

    def values_digest(self, value: Any, path: Path) -> Digest | None:
        """Return the digest of the table; None for a stream, whose rows may not fit into memory."""
        return None if _kind(type(value)) in _STREAMS else logical_digest(path)


def joined_tables(values: list[Any]) -> Any:
    """Return several tables of one type as one, in their order; None if they are not tables of one type.

    Raises:
        InputError: their schemas differ.
    """
    kinds = {_kind(type(value), none="") for value in values}
    if len(kinds) != 1 or kinds == {""}:
        return None
    (kind,) = kinds
    if kind == _PANDAS:
        return pd.concat(values, ignore_index=all(map(_counts_rows, values)))
    library = sys.modules[kind.partition(".")[0]]
    try:
        if kind.startswith("polars."):
            return library.concat(values)
        if kind == "pyarrow.Table":
            return library.concat_tables(values)
        return library.RecordBatchReader.from_batches(
            values[0].schema, (batch.cast(values[0].schema) for value in values for batch in value)
        )
    except Exception as error:
        if not type(error).__module__.startswith(("polars", "pyarrow")):
            raise
        raise InputError(
            f"the partitions have different schemas and cannot be concatenated: {str(error).splitlines()[0]}",
            next_step="annotate the parameter as dict[str, ...] to receive one value per partition",
        ) from error


def _kind(kind: type, none: str | None = None) -> str:
    """Return the name of the tabular type of which a type is a subclass or a base."""
    names = [name for each in kind.__mro__ for name in [_public_name(each)] if name in _NAMES]
    if names or none is not None:
        return names[0] if names else str(none)
    return _PANDAS


def _public_name(kind: type) -> str:
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"


def _refuse_own_attributes(frame: pd.DataFrame) -> None:
    own = set(frame._metadata)
    if type(frame) is not pd.DataFrame and own:
        raise SchemaError(
            f"{name_of(type(frame))} would be read back as pandas.DataFrame, without {', '.join(sorted(own))}",
            next_step="return pandas.DataFrame(value), or add a format: a subclass of ml_assets.Format",
        )


def _write_polars(frame: Any, path: Path, kind: str) -> None:
    options: Any = {
        "compression": "snappy",
        "row_group_size": _POLARS_ROWS_PER_GROUP,
        "metadata": {_WRITTEN_BY: kind},
        "statistics": True,
    }
    errors = sys.modules["polars"].exceptions
    try:
        if kind == "polars.LazyFrame":
            frame.sink_parquet(path, maintain_order=True, **options)
            kept = _polars("scan_parquet", path).collect_schema() == frame.collect_schema()
        else:
            frame.write_parquet(path, **options)
            kept = _polars("read_parquet", path).equals(frame)
    except (errors.InvalidOperationError, errors.SchemaError, errors.ComputeError) as error:
        raise SchemaError(
            f"the frame cannot be written as Parquet: {error}",
            next_step="convert its columns to types that Parquet has",
        ) from error
    if not kept:
        raise SchemaError(
            "the frame would not be read back equal", next_step="convert its columns to types that Parquet has"
        )


def _polars(function: str, path: Path) -> Any:
    require("polars")
    import polars

    return getattr(polars, function)(path, glob=False, hive_partitioning=False)


def _reader(path: Path) -> Any:
    import pyarrow

    file = parquet_file(path)
    first = _without_mark(original_types(file.schema_arrow.empty_table()))

    def batches() -> Any:
        for batch in file.iter_batches():
            table = original_types(pyarrow.Table.from_batches([batch], file.schema_arrow))
            yield from _without_mark(table).to_batches()

    return pyarrow.RecordBatchReader.from_batches(first.schema, batches())


def _table(path: Path) -> Any:
    return _without_mark(read_table(path))


def _without_mark(table: Any) -> Any:
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key != _WRITTEN_BY.encode()}
    return table.replace_schema_metadata(metadata or None)


def _written_by(path: Path) -> str:
    file = parquet_file(path)
    metadata = file.metadata.metadata or {}
    return str(metadata.get(_WRITTEN_BY.encode(), _PANDAS.encode()).decode())


def _has_nulls(metadata: Any, name: str) -> bool:
    """Return False if the statistics of each part of a column count no null."""
    for place in range(metadata.num_columns):
        column = metadata.schema.column(place)
        if column.path.partition(".")[0] == name:
            groups = (metadata.row_group(i).column(place).statistics for i in range(metadata.num_row_groups))
            if any(each is None or each.null_count is None or each.null_count > 0 for each in groups):
                return True
    return False


def _counts_rows(frame: pd.DataFrame) -> bool:
    index = frame.index
    return isinstance(index, pd.RangeIndex) and index.name is None and index.equals(pd.RangeIndex(len(frame)))


_READERS: Final[Mapping[str, Callable[[Path], Any]]] = {
    "polars.DataFrame": lambda path: _polars("read_parquet", path),
    "polars.LazyFrame": lambda path: _polars("scan_parquet", path),
    "pyarrow.Table": _table,
    "pyarrow.RecordBatchReader": _reader,
}
_NAMES: Final = frozenset({_PANDAS, *_READERS})

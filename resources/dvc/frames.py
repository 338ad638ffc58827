"""Frames as Parquet files whose bytes depend only on the frame, and from which an equal frame is read."""

import json
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from ml_assets.resources.dvc.described_frames import counts_rows, described_table, frame_of_description, is_described
from ml_assets.resources.dvc.frame_columns import text_field
from ml_assets.resources.dvc.frame_equality import first_difference, same_index
from ml_assets.resources.dvc.tables import parquet_errors, read_table, write_table
from ml_assets.resources.errors import SchemaError

__all__ = ["frame_of", "read_parquet", "write_parquet"]

_PANDAS: Final = b"pandas"
_NOT_CONTENT: Final = ("attributes", "creator", "pandas_version")


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as Parquet; equal frames give equal bytes in every process.

    `read_parquet` returns an equal frame: dtypes, values, missing values, index and labels. Where pandas' own metadata
    does not achieve this, the file holds a description (`described_frames`). An index is written as columns, unless it
    only counts rows. `attrs`, flags and versions of libraries are omitted; the Parquet library still records its own
    version in the file.

    Raises:
        SchemaError: a column, an index or a label cannot be read back equal; a column holds UUIDs; or two columns have
            the same label.
    """
    if not frame.columns.is_unique:
        label = frame.columns[frame.columns.duplicated()][0]
        raise SchemaError(f"two columns have the label {label!r}", next_step="give every column a label of its own")
    with parquet_errors():
        table = _plain_table(frame)
        if table is not None and (write_table(table, path) is None or _is_read_back(frame, path)):
            return
        table = described_table(frame)
        _refuse_uuids(table.schema)
        changed = write_table(table, path)
    if changed is not None and not _is_read_back(frame, path):
        raise SchemaError(
            f"Parquet does not keep column {changed!r}",
            next_step="convert it to a type that Parquet has, such as a number, time or text",
        )


def _is_read_back(frame: pd.DataFrame, path: Path) -> bool:
    """Return True if the file holds an equal frame, although its Arrow table differs, such as by NaN in lists."""
    read = read_parquet(path)
    pairs = ((frame.iloc[:, i], read.iloc[:, i]) for i in range(len(frame.columns)))
    return same_index(frame.index, read.index) and not any(first_difference(*pair) for pair in pairs)


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a frame that `write_parquet` wrote.

    Raises:
        InputError: the file is not Parquet.
    """
    return frame_of(read_table(path))


def frame_of(table: Any) -> pd.DataFrame:
    """Return the frame of an Arrow table that `write_parquet` wrote; the table may lack rows at its end."""
    return frame_of_description(table) if is_described(table.schema) else _plain_frame(table)


def _plain_table(frame: pd.DataFrame) -> Any:
    """Return the table with pandas' own metadata; None if it does not restore the frame."""
    import pyarrow

    counted = counts_rows(frame)
    if counted:
        frame = frame.set_axis(pd.RangeIndex(len(frame), name=frame.index.name))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # labels of several types become text: found below
            table = pyarrow.Table.from_pandas(frame, preserve_index=None if counted else True)
    except (pyarrow.ArrowException, ValueError, TypeError, OverflowError):
        return None
    _refuse_uuids(table.schema)
    notes = json.loads(table.schema.metadata[_PANDAS])
    content = json.dumps({name: notes[name] for name in notes if name not in _NOT_CONTENT}, sort_keys=True)
    table = table.replace_schema_metadata({_PANDAS: content.encode()})
    try:
        return table if _is_restored(frame, table) else None
    except (KeyError, TypeError, ValueError, AttributeError, pyarrow.ArrowException):  # the metadata cannot be read
        return None


def _is_restored(frame: pd.DataFrame, table: Any) -> bool:
    """Return True if the table converts to an equal frame; only values that a conversion may change are converted."""
    width = len(frame.columns)
    empty = _plain_frame(table.schema.empty_table())
    if not same_index(frame.columns, empty.columns):
        return False
    changeable = [i for i in range(width) if not _keeps_values(frame.iloc[:, i], empty.iloc[:, i].dtype)]
    names = table.column_names
    read = _plain_frame(table.select([names[i] for i in changeable] + names[width:]))
    if not same_index(frame.index, read.index):
        return False
    pairs = ((frame.iloc[:, i], read.iloc[:, place]) for place, i in enumerate(changeable))
    return not any(first_difference(*pair) for pair in pairs)


def _keeps_values(column: "pd.Series[Any]", read_as: Any) -> bool:
    """Return True if the conversion keeps all values of a column, so that equal dtypes suffice."""
    dtype: Any = column.dtype
    if isinstance(dtype, pd.DatetimeTZDtype) or (isinstance(dtype, np.dtype) and dtype.kind in "iufbM"):
        return bool(dtype == read_as)
    field = text_field(column)
    return field is not None and field.get("missing", ["nan"]) == ["nan"]


def _plain_frame(table: Any) -> pd.DataFrame:
    """Return the frame of a table with pandas' metadata; missing text is NaN, as it is in frames that pandas reads."""
    frame: pd.DataFrame = table.to_pandas()
    for place, column in enumerate(table.columns[: len(frame.columns)]):
        if (
            column.null_count
            and str(column.type) in ("string", "large_string")
            and frame.dtypes.iloc[place] == "object"
        ):
            values = frame.iloc[:, place].to_numpy(copy=True)
            values[column.is_null().to_numpy()] = np.nan
            frame.isetitem(place, values)
    return frame


def _refuse_uuids(schema: Any) -> None:
    import pyarrow

    for field in schema:
        values = field.type.value_type if pyarrow.types.is_dictionary(field.type) else field.type
        if values == pyarrow.uuid():
            raise SchemaError(
                f"column {field.name!r} contains UUIDs, which would be read back as bytes",
                next_step=f"store them as text, such as frame[{field.name!r}].astype(str)",
            )

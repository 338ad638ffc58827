"""Frames as Arrow tables with a description of what pandas' own metadata does not restore."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pandas as pd

from ml_assets.resources.dvc.frame_columns import decoded, encoded, text_field
from ml_assets.resources.dvc.frame_equality import first_difference, same_index, same_object
from ml_assets.resources.errors import SchemaError

__all__ = ["counts_rows", "described_table", "frame_of_description", "is_described"]

_DESCRIPTION: Final = b"ml_assets.frame"
"""Key of the schema's metadata: JSON with the fields of the columns, the labels, and the form of the index."""
_UNNAMED: Final = "__index_level_{}__"
"""Column of an index level that has no name, as in pandas' own files."""


def described_table(frame: pd.DataFrame) -> Any:
    """Return an Arrow table from which `frame_of_description` returns an equal frame.

    Columns are named by their labels as text, so that other libraries can read the table. Index levels follow them. An
    index that only counts rows is left out.

    Raises:
        SchemaError: a column, an index level or a label cannot be read back equal.
    """
    import pyarrow

    levels = [] if counts_rows(frame) else list(_levels(frame.index))
    columns = [(f"column {label!r}", frame.iloc[:, i]) for i, label in enumerate(frame.columns)]
    kept = [_kept(what, column, may_mix=False) for what, column in columns]
    kept += [
        _kept(f"index level {name!r}", level, may_mix=True)
        for name, level in zip(frame.index.names, levels, strict=False)
    ]
    names = [*map(str, frame.columns)]
    names += [
        _UNNAMED.format(i) if name is None else str(name) for i, name in enumerate(frame.index.names[: len(levels)])
    ]
    description = {
        "fields": [field for _, field in kept],
        "index": _form(frame.index),
        "labels": None if _is_plain(frame.columns) else _to_json(frame.columns),
        "levels": len(levels),
    }
    text = json.dumps(description, sort_keys=True)
    arrays = [array for array, _ in kept]
    return pyarrow.table(arrays, list(_distinct(names))).replace_schema_metadata({_DESCRIPTION: text.encode()})


def is_described(schema: Any) -> bool:
    """Return True if `described_table` made the table with this schema."""
    return _DESCRIPTION in (schema.metadata or {})


def frame_of_description(table: Any) -> pd.DataFrame:
    """Return the frame of a table that `described_table` made; the table may lack rows at its end."""
    description = json.loads(table.schema.metadata[_DESCRIPTION])
    columns = [
        decoded(array, field, _from_json) for array, field in zip(table.columns, description["fields"], strict=True)
    ]
    width = len(columns) - description["levels"]
    frame = pd.DataFrame(dict(enumerate(columns[:width])), index=pd.RangeIndex(table.num_rows))
    if description["levels"]:
        frame.index = _index(columns[width:], description["index"])
    else:
        frame.index.name = description["index"]["names"][0]
    labels = description["labels"]
    frame.columns = pd.Index(table.column_names[:width], dtype=object) if labels is None else _from_json(labels)
    return frame


def counts_rows(frame: pd.DataFrame) -> bool:
    """Return True if the index only counts rows, as a range or as integers, and the rows are known without it."""
    counted = pd.RangeIndex(len(frame))
    return bool(len(frame.columns)) and frame.index.dtype == "int64" and frame.index.equals(counted)


def _kept(what: str, column: "pd.Series[Any]", *, may_mix: bool) -> tuple[Any, Mapping[str, Any]]:
    import pyarrow

    column = column.reset_index(drop=True)
    try:
        if text := text_field(column):
            return pyarrow.chunked_array([pyarrow.array(column, pyarrow.string(), from_pandas=True)]), text
        array, field = encoded(column, _to_json, may_mix=may_mix)
        chunked = array if isinstance(array, pyarrow.ChunkedArray) else pyarrow.chunked_array([array])
        difference: object = first_difference(column, decoded(chunked, field, _from_json))
    except SchemaError as error:
        raise SchemaError(f"{what}: {error.what}", next_step=error.next_step) from error
    except (pyarrow.ArrowException, ValueError, TypeError, OverflowError, AttributeError) as error:
        difference = error
    if difference:
        raise SchemaError(
            f"{what} cannot be stored so that it is read back equal: {difference}",
            next_step="convert it to one type that Parquet has: a number, time, text, bytes, list or dict",
        )
    return chunked, field


def _levels(index: pd.Index) -> "Iterator[pd.Series[Any]]":
    return (pd.Series(index.get_level_values(i)) for i in range(index.nlevels))


def _is_plain(labels: pd.Index) -> bool:
    return labels.names == [None] and same_index(labels, pd.Index([*map(str, labels)], dtype=object))


def _distinct(names: Iterable[str]) -> Iterator[str]:
    """Yield the names, with underscores after each that was there already."""
    seen = set[str]()
    for name in names:
        while name in seen:
            name += "_"
        seen.add(name)
        yield name


def _form(index: pd.Index) -> dict[str, Any]:
    """Return what an index has besides its levels: names, frequency, and True if it is a MultiIndex."""
    names = list(index.names)
    if not all(map(same_object, _through_json(names), names)):
        raise SchemaError(f"the names {names!r} of an index cannot be kept", next_step="name its levels by text")
    form = {"freq": getattr(index, "freqstr", None), "multi": isinstance(index, pd.MultiIndex), "names": names}
    try:
        kept = same_index(index, _index(list(_levels(index)), form))
    except ValueError:
        kept = False
    if not kept:
        raise SchemaError(
            f"the frequency {form['freq']!r} of an index cannot be kept", next_step="remove it: frame.index.freq = None"
        )
    return form


def _through_json(names: list[Any]) -> list[Any]:
    try:
        read: list[Any] = json.loads(json.dumps(names))
    except TypeError:
        read = [object()] * len(names)
    return read


def _index(levels: "Sequence[pd.Series[Any]]", form: Mapping[str, Any]) -> pd.Index:
    parts = [pd.Index(level.array, dtype=level.dtype, tupleize_cols=False) for level in levels]
    if form["multi"]:
        return pd.MultiIndex.from_arrays(parts, names=form["names"])
    index = parts[0].rename(form["names"][0])
    if form["freq"] is not None and isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex):
        return type(index)(index, freq=form["freq"], copy=False)
    return index


def _to_json(index: pd.Index) -> dict[str, Any]:
    """Return labels or categories as JSON; their values are an Arrow stream in base64."""
    import pyarrow

    kept = [_kept(f"labels {index.names!r}", level, may_mix=True) for level in _levels(index)]
    table = pyarrow.table([array for array, _ in kept], [str(i) for i in range(len(kept))])
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    values = base64.b64encode(sink.getvalue()).decode()
    return {**_form(index), "fields": [field for _, field in kept], "values": values}


def _from_json(description: Mapping[str, Any]) -> pd.Index:
    import pyarrow

    with pyarrow.ipc.open_stream(base64.b64decode(description["values"])) as stream:
        table = stream.read_all()
    levels = (
        decoded(array, field, _from_json) for array, field in zip(table.columns, description["fields"], strict=True)
    )
    return _index(list(levels), description)

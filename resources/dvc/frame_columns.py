"""Columns as Arrow arrays with a description from which exactly the same column is read back."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from ml_assets.resources.dvc.frame_equality import first_difference, same_object
from ml_assets.resources.errors import SchemaError

__all__ = ["Axis", "Field", "decoded", "encoded", "text_field"]

Field = Mapping[str, Any]
"""Description of a column, in JSON: with it, `decoded` returns the column that `encoded` received."""

Axis = Callable[[Any], Any]
"""Converts an index to JSON, and back."""

_MISSING: Final[Mapping[str, Any]] = {"None": None, "nan": np.nan, "NaT": pd.NaT, "NA": pd.NA}


def encoded(column: "pd.Series[Any]", keep_index: Axis, *, may_mix: bool = False) -> tuple[Any, Field]:
    """Return a column as an Arrow array, and its description.

    Args:
        column: the column.
        keep_index: converts an index to JSON, for categories.
        may_mix: allow objects of several types, such as ``[1, "1"]``, which are written as JSON text.

    Raises:
        SchemaError: the column cannot be read back equal.
        ArrowException, ValueError, TypeError, OverflowError: Arrow cannot hold it.
    """
    dtype: Any = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _encoded_categories(column, keep_index)
    if isinstance(dtype, pd.SparseDtype):
        sparse: Any = column.array
        array, field = encoded(pd.Series(sparse.to_dense()), keep_index)
        fill: Any = dtype.fill_value
        return array, {**field, "sparse": fill.item() if hasattr(fill, "item") else fill}
    if column.dtype == "object":
        return _encoded_objects(column, may_mix)
    import pyarrow

    array = pyarrow.array(column, from_pandas=True)
    if isinstance(dtype, pd.ArrowDtype):
        return array, {"dtype": "arrow"}
    if isinstance(dtype, pd.StringDtype):
        return array, {
            "dtype": "string",
            "storage": dtype.storage,
            "missing": "NA" if dtype.na_value is pd.NA else "nan",
        }
    zone = getattr(dtype, "tz", None)
    return array, {"dtype": str(dtype), **({"zone": zone.key} if isinstance(zone, ZoneInfo) else {})}


def decoded(array: Any, field: Field, read_index: Axis) -> "pd.Series[Any]":
    """Return the column of an Arrow chunked array and its description.

    Args:
        array: the Arrow array; it may be a part of the one that was written.
        field: the description.
        read_index: converts an index from JSON, for categories.
    """
    column = _decoded(array, field, read_index)
    if "sparse" in field:
        column = column.astype(pd.SparseDtype(column.dtype, field["sparse"]))
    return column


def text_field(column: "pd.Series[Any]") -> Field | None:
    """Return the description of a column of text with missing values of one kind; None for any other column.

    Arrow is certain to keep it, so that it need not be read back.
    """
    if column.dtype != "object":
        return None
    missing = column.isna().to_numpy()
    kinds = set(map(type, column.to_numpy()[missing].tolist()))
    if len(kinds) > 1 or set(map(type, column.to_numpy()[~missing].tolist())) != {str}:
        return None
    names = [name for name, value in _MISSING.items() if {type(value)} == kinds]
    return {"dtype": "object", "as": "values", **({"missing": names} if names else {})} if names or not kinds else None


def _decoded(array: Any, field: Field, read_index: Axis) -> "pd.Series[Any]":
    if "categories" in field:
        return _decoded_categories(array, field, read_index)
    if field["dtype"] == "object":
        return pd.Series(_objects(array, field), dtype=object)
    if field["dtype"] == "arrow":
        return pd.Series(pd.arrays.ArrowExtensionArray(array))
    if field["dtype"] == "string":
        missing = pd.NA if field["missing"] == "NA" else np.nan
        dtype: Any = pd.StringDtype(field["storage"], na_value=missing)
    else:
        dtype = pd.api.types.pandas_dtype(field["dtype"])
    if "zone" in field:  # pandas and Arrow themselves read a zone's name as one of pytz
        dtype = pd.DatetimeTZDtype(dtype.unit, ZoneInfo(field["zone"]))
    if hasattr(dtype, "__from_arrow__") and not isinstance(dtype, pd.DatetimeTZDtype):
        return pd.Series(dtype.__from_arrow__(array))
    column: pd.Series[Any] = array.to_pandas()
    return column.astype(dtype)


def _encoded_categories(column: "pd.Series[Any]", keep_index: Axis) -> tuple[Any, Field]:
    """Return the values, or the text of each value that Arrow does not compare, such as an interval."""
    import pyarrow

    categories, codes = column.cat.categories, column.cat.codes.to_numpy()
    field = {"categories": keep_index(categories), "ordered": bool(column.cat.ordered)}
    values, how = _comparable(categories)
    positions = pyarrow.array(codes, mask=codes < 0)
    return values.take(positions), {**field, "values": how}


def _decoded_categories(array: Any, field: Field, read_index: Axis) -> "pd.Series[Any]":
    from pyarrow import compute

    categories = read_index(field["categories"])
    values = _comparable(categories)[0]
    codes = compute.index_in(array, value_set=values.cast(array.type)).fill_null(-1).to_numpy()
    return pd.Series(pd.Categorical.from_codes(codes, categories, field["ordered"]))


def _comparable(categories: pd.Index) -> tuple[Any, str]:
    import pyarrow
    from pyarrow import compute

    try:
        values = pyarrow.array(categories, from_pandas=True)
        compute.index_in(values, value_set=values)
    except (pyarrow.ArrowException, TypeError, ValueError):
        pass
    else:
        return values, "as they are"
    return pyarrow.array([str(category) for category in categories], pyarrow.string()), "as text"


def _encoded_objects(column: "pd.Series[Any]", may_mix: bool) -> tuple[Any, Field]:
    import pyarrow

    reason: Any = None
    # NaN is a missing value of text and numbers, but a value inside of lists.
    for nan_is_missing in (True, False):
        try:
            array = pyarrow.array(column, from_pandas=nan_is_missing)
        except (pyarrow.ArrowException, ValueError, TypeError, OverflowError) as error:
            reason = reason or error
            continue
        for way in ("values", "python"):
            field = {"dtype": "object", "as": way, **_missing(column, array)}
            read = pd.Series(_objects(pyarrow.chunked_array([array]), field), dtype=object)
            difference = first_difference(column, read)
            if difference is None:
                return array, field
            reason = reason or difference
    if may_mix:
        return _encoded_mixture(column)
    if isinstance(reason, Exception):
        raise reason
    raise SchemaError(
        f"it would not be read back equal: {reason}", next_step="convert it to a type that Parquet has, or to text"
    )


def _encoded_mixture(column: "pd.Series[Any]") -> tuple[Any, Field]:
    import pyarrow

    texts = [json.dumps(label) for label in column]
    if not all(map(same_object, map(json.loads, texts), column)):
        raise SchemaError("its labels have types that cannot be kept together", next_step="make all labels text")
    return pyarrow.array(texts, pyarrow.string()), {"dtype": "object", "as": "json"}


def _missing(column: "pd.Series[Any]", array: Any) -> Field:
    """Return the kind of the missing values, and which are of the second kind if there are two."""
    values = column.to_numpy()[np.asarray(array.is_null())]
    kinds = (
        [_kind(value) for value in values]
        if len(set(map(type, values))) > 1
        else [_kind(value) for value in values[:1]]
    )
    known = [name for name in _MISSING if name in set(kinds)]
    if len(known) > 2:
        raise SchemaError(
            f"it has missing values of {len(known)} kinds: {', '.join(known)}",
            next_step="replace them by one, such as column.where(column.notna(), None)",
        )
    field: dict[str, Any] = {"missing": known} if known else {}
    if len(known) == 2:
        bits = np.packbits(np.array([kind == known[1] for kind in kinds]))
        field["second"] = base64.b64encode(bits.tobytes()).decode()
    return field


def _kind(value: Any) -> str:
    return next((name for name, missing in _MISSING.items() if same_object(value, missing)), "None")


def _objects(array: Any, field: Field) -> "np.ndarray[Any, Any]":
    if field["as"] == "values":
        values: np.ndarray[Any, Any] = array.to_pandas(integer_object_nulls=True).astype(object).to_numpy(copy=True)
    else:
        read = array.to_pylist()
        values = np.fromiter(map(json.loads, read) if field["as"] == "json" else read, dtype=object, count=len(read))
    names = field.get("missing", [])
    if names:
        rows = np.flatnonzero(np.asarray(array.is_null()))
        values[rows] = _MISSING[names[0]]
        if "second" in field:
            bits = np.unpackbits(np.frombuffer(base64.b64decode(field["second"]), dtype=np.uint8))
            values[rows[bits[: len(rows)].astype(bool)]] = _MISSING[names[1]]
    return values

"""MLflow's scoring protocol, ``POST /invocations``: data frames as JSON or CSV, and TensorFlow Serving's two formats.

Source: MLflow's documentation of ``mlflow models serve`` and ``mlflow.pyfunc.scoring_server``.
"""

import csv
import io
import logging
import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import orjson

from ml_assets.resources.errors import InvalidInput, MediaTypeRefused, RequestError
from ml_assets.serving.bodies import read_json
from ml_assets.serving.inference_protocol import check_tensor
from ml_assets.serving.servable import Servable
from ml_assets.serving.signature import WHOLE_NUMBERS
from ml_assets.serving.tables import Feeds, TableReader
from ml_assets.serving.tensors import decode_json, encode_json
from ml_assets.serving.values import shown

__all__ = ["read_invocation", "write_predictions"]

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
MEDIA_TYPES = ("application/json", "text/csv")
_MISSING = {"", "nan", "na", "n/a", "null", "none"}
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_BOOLEANS = {"true": True, "false": False}

_log = logging.getLogger(__name__)


def read_invocation(body: bytes, media_type: str, servable: Servable) -> Feeds:
    """Parse and validate a request.

    Args:
        body: body of the HTTP request.
        media_type: its ``Content-Type``.
        servable: the model that runs it.

    Raises:
        MediaTypeRefused: the body is neither JSON nor CSV.
        RequestError: the body is malformed.
        InvalidInput: a value does not match the model's inputs.
    """
    kind, *options = (part.strip().lower() for part in media_type.split(";"))
    if kind not in MEDIA_TYPES or any(option not in ("", "charset=utf-8", 'charset="utf-8"') for option in options):
        raise MediaTypeRefused(
            f"the Content-Type {shown(media_type)} is not supported",
            next_step=f"send {' or '.join(MEDIA_TYPES)}, in UTF-8",
        )
    if kind == "text/csv":
        return _csv(body, _table(servable, "CSV"))
    tree = read_json(body)
    if not isinstance(tree, dict):
        raise RequestError("the body must be a JSON object", next_step=f"send an object with one of {', '.join(FORMS)}")
    if extra := sorted(tree.keys() - {*FORMS, "params"}):
        raise InvalidInput(
            f"the request has the unknown field {shown(extra[0])}", next_step=f"send one of {', '.join(FORMS)}"
        )
    if tree.get("params"):
        _ignore_params(tree["params"])
    forms = [form for form in FORMS if form in tree]
    if len(forms) != 1:
        raise RequestError(
            f"the request has {' and '.join(forms) or 'no data'}", next_step=f"send exactly one of {', '.join(FORMS)}"
        )
    return _READERS[forms[0]](tree[forms[0]], servable)


def write_predictions(outputs: Feeds, servable: Servable) -> bytes:
    """Return the response body."""
    predicted = outputs[servable.prediction]
    values = np.ascontiguousarray(predicted) if predicted.dtype.kind not in "OUS" else _nested(predicted)
    return orjson.dumps({"predictions": values}, option=orjson.OPT_SERIALIZE_NUMPY)


def _ignore_params(params: Any) -> None:
    """Accept any params and ignore them, as MLflow does for a model without a params schema."""
    if not isinstance(params, dict):
        raise InvalidInput("params must be an object", next_step="correct params or remove them")
    _warn_of_params()


@cache
def _warn_of_params() -> None:
    _log.warning("params are ignored, because the model has no params schema")


def _split(frame: Any, servable: Servable) -> Feeds:
    table = _table(servable, "dataframe_split")
    if not isinstance(frame, dict) or not isinstance(frame.get("data"), list) or "columns" not in frame:
        raise InvalidInput(
            "dataframe_split must be an object with columns and data",
            next_step="send the result of pandas' to_dict(orient='split')",
        )
    columns, data = frame["columns"], frame["data"]
    if extra := sorted(frame.keys() - {"columns", "data", "index"}):
        raise InvalidInput(f"dataframe_split has the unknown field {shown(extra[0])}", next_step="remove the field")
    if columns != table.names or not data:
        if not isinstance(columns, list):
            raise InvalidInput("dataframe_split.columns must be a list of names", next_step="list the column names")
        order = table.order(columns, "dataframe_split.columns")
    else:
        order = None
    return _rows(table, data, order, len(columns), "dataframe_split.data")


def _rows(table: TableReader, data: Any, order: list[int | None] | None, width: int, where: str) -> Feeds:
    if not data:
        raise InvalidInput(f"{where} has no rows", next_step="send at least one row")
    for index, row in enumerate(data):
        if not isinstance(row, list) or len(row) != width:
            given = f"{len(row)} values" if isinstance(row, list) else "a value that is not a list"
            raise InvalidInput(
                f"{where}[{index}] must be a list of {width} values, one per column, got {given}",
                next_step="send one value per column",
            )
    if order is None:
        return table.feeds(data, lambda row, column: f"{where}[{row}][{column}]")
    rows = [[None if at is None else row[at] for at in order] for row in data]
    return table.feeds(rows, lambda row, column: f"{where}[{row}][{order[column]}]")


def _records(records: Any, servable: Servable, where: str = "dataframe_records") -> Feeds:
    table = _table(servable, where)
    if not isinstance(records, list) or not records:
        raise InvalidInput(f"{where} must be a list of at least one object", next_step="send one object per row")
    rows, names = [], table.names
    for index, record in enumerate(records):
        if not isinstance(record, dict):
            raise InvalidInput(f"{where}[{index}] must be an object", next_step="send one object per row")
        if len(record) != len(names) or any(name not in record for name in names):
            table.order(list(record), f"{where}[{index}]")
        rows.append([record.get(name) for name in names])
    return table.feeds(rows, lambda row, column: f"{where}[{row}].{names[column]}")


def _instances(values: Any, servable: Servable) -> Feeds:
    if not isinstance(values, list) or not values:
        raise InvalidInput("instances must be a list of at least one row", next_step="send one entry per row")
    if servable.table is not None:
        if isinstance(values[0], dict):
            return _records(values, servable, "instances")
        return _rows(servable.table, values, None, len(servable.table.names), "instances")
    if not isinstance(values[0], dict):
        return _inputs(values, servable, "instances")
    names = [spec.name for spec in servable.graph_inputs]
    for index, value in enumerate(values):
        if not isinstance(value, dict) or set(value) != set(names):
            raise InvalidInput(
                f"instances[{index}] must have exactly the fields {', '.join(names)}",
                next_step="send every input of the model",
            )
    return _inputs({name: [value[name] for value in values] for name in names}, servable, "instances")


def _inputs(values: Any, servable: Servable, where: str = "inputs") -> Feeds:
    if servable.table is not None:
        if isinstance(values, dict):
            return _columns(values, servable.table)
        return _instances(values, servable)
    specs = servable.graph_inputs
    given = values if isinstance(values, dict) else {specs[0].name: values}
    if set(given) != {spec.name for spec in specs}:
        raise InvalidInput(
            f"{where} must have exactly the inputs {', '.join(spec.name for spec in specs)}",
            next_step="send every input of the model",
        )
    return {
        spec.name: check_tensor(
            spec, decode_json(spec.datatype, _shape(given[spec.name]), given[spec.name], f"{where}.{spec.name}")
        )
        for spec in specs
    }


def _columns(values: dict[str, Any], table: TableReader) -> Feeds:
    order = table.order(list(values), "inputs")
    columns = [value if isinstance(value, list) else [value] for value in values.values()]
    if len({len(column) for column in columns}) != 1:
        raise InvalidInput(
            "the columns of inputs differ in length", next_step="send the same number of values for each column"
        )
    return _rows(table, [list(row) for row in zip(*columns, strict=True)], order, len(columns), "inputs")


def _csv(body: bytes, table: TableReader) -> Feeds:
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"the body is not CSV: {error}", next_step="send CSV in UTF-8 with a header") from error
    lines = [line for line in lines if line]
    if len(lines) < 2:
        raise InvalidInput("the CSV has no data rows", next_step="send a header and at least one row")
    header, *rows = lines
    if header[0] == "":  # the index, which pandas writes by default
        header, rows = header[1:], [row[1:] for row in rows]
    order = table.order(header, "the CSV's header")
    for index, row in enumerate(rows):
        if len(row) != len(header):
            raise InvalidInput(
                f"row {index + 1} of the CSV has {len(row)} values, but the header has {len(header)}",
                next_step="send one value per column",
            )
    kinds = [column.type for column in table.columns]
    parsed = [
        [None if at is None else _cell(row[at], kind) for at, kind in zip(order, kinds, strict=True)] for row in rows
    ]
    return table.feeds(parsed, lambda row, column: f"row {row + 1} of the CSV, column {table.names[column]},")


def _cell(text: str, kind: str) -> Any:
    if kind == "string":
        return text or None
    if text.strip().lower() in _MISSING:
        return None
    if kind == "boolean":
        return _BOOLEANS.get(text.strip().lower(), text)
    if kind in WHOLE_NUMBERS and _INTEGER.fullmatch(text):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        return text
    return value if math.isfinite(value) else text


def _table(servable: Servable, form: str) -> TableReader:
    if servable.table is None:
        names = ", ".join(spec.name for spec in servable.graph_inputs)
        raise InvalidInput(
            f"{form} contains columns, but the model takes tensors", next_step=f"send the tensors {names} as inputs"
        )
    return servable.table


def _shape(value: Any) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _nested(array: np.ndarray[Any, Any]) -> Any:
    if array.ndim <= 1:
        return encode_json(array)
    return [_nested(part) for part in array]


_Reader = Callable[[Any, Servable], Feeds]
_READERS: dict[str, _Reader] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _instances,
    "inputs": _inputs,
}

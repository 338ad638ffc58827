"""The served form of a model: its conversion to ONNX, and the proof that the model server predicts what it does.

A conversion counts only if the model server, which opens the directory as in production, returns the estimator's
outputs for all rows of `ml_assets.resources.models.probes`. The outputs for the recorded example are stored beside it,
so that a server on another machine can compare its own with them.
"""

import functools
import json
import math
import re
import reprlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd

from ml_assets.resources.errors import DefinitionError, MlAssetsError
from ml_assets.resources.models.columns import InputColumn, feeds
from ml_assets.resources.models.graph import ONNX_FILE, with_outputs
from ml_assets.resources.models.interface import Conversion, Flavor, class_name
from ml_assets.resources.models.outputs import (
    PREDICTIONS,
    Array,
    Method,
    Outputs,
    first_mismatch,
    largest_difference,
)
from ml_assets.resources.models.probes import Probes, probes

__all__ = ["EXAMPLE_FILE", "Server", "write_served"]

EXAMPLE_FILE: Final = "example.json"
_EXAMPLE_ROWS = 5
_DIGITS = 5

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxdict = _SHORT.maxlist = 12


class Server(Protocol):
    """The model server's code. The caller passes it, because `resources` does not import it."""

    missing_text: str
    """The text that the server feeds for a missing string."""

    def open(self, directory: Path) -> Callable[[pd.DataFrame], Outputs]:
        """Open a model's directory, and return the function that computes all its outputs for a frame.

        Raises:
            ServingError: the model cannot be served. The function raises it for rows that the server refuses.
        """


@dataclass(frozen=True)
class _Case:
    """Rows with the estimator's outputs."""

    rows: Probes
    trained: Outputs


@dataclass(frozen=True)
class _Failure:
    """The reason why a conversion does not count. The conversion that came furthest has the true reason."""

    progress: int
    reason: str
    next_step: str


def write_served(
    estimator: Any, copy: Any, flavor: Flavor, directory: Path, example: pd.DataFrame, columns: tuple[InputColumn, ...],
    server: Server,
) -> float:  # fmt: skip
    """Write ``model.onnx`` and ``example.json`` into a model's directory. Equal estimators give equal bytes.

    Args:
        estimator: the fitted estimator.
        copy: the estimator as loaded from the directory; it is changed.
        flavor: operations of its library.
        directory: the canonical directory, with its signature.
        example: rows that the estimator accepts.
        columns: columns of the signature.
        server: the model server's code.

    Returns:
        The largest difference between the predictions of both forms: absolute for numbers, 0 for labels.

    Raises:
        DefinitionError: no conversion exists, or the server predicts different values with all of them.
    """
    worst: _Failure | None = None
    try:
        _check_types(example, columns)
        cases = list(_cases(flavor.methods(estimator), example))
        for convert in flavor.conversions(copy, columns, server.missing_text):
            result = _attempt(convert, cases, directory, columns, server)
            if isinstance(result, float):
                return result
            worst = result if worst is None or result.progress > worst.progress else worst
    except DefinitionError as error:
        worst = _Failure(0, error.what, error.next_step)
    (directory / ONNX_FILE).unlink(missing_ok=True)
    (directory / EXAMPLE_FILE).unlink(missing_ok=True)
    worst = worst or _Failure(0, "its library has no conversion", _NOT_SERVED)
    next_step = _TREES if worst.progress == _DIFFERS and _has_trees_after_steps(estimator) else worst.next_step
    raise DefinitionError(f"{class_name(estimator)} cannot be served as ONNX: {worst.reason}", next_step=next_step)


_TYPES = ("boolean", "integer", "long", "float", "double", "string")
_NOT_SERVED = "declare the model with served=False, which stores it without serving it"
_TREES = (
    "remove scalers before the trees, which need none: 32-bit arithmetic moves scaled values across the trees' "
    f"thresholds; or {_NOT_SERVED}"
)
_DIFFERS = 3
_OTHER_ESTIMATOR = f"use an estimator that docs/models.md lists as served, or {_NOT_SERVED}"


def _attempt(
    convert: Conversion, cases: list[_Case], directory: Path, columns: tuple[InputColumn, ...], server: Server
) -> float | _Failure:
    example = cases[0]
    try:
        model = convert()
    except Exception as error:  # converters raise errors of any type
        return _Failure(0, _reason(error), _OTHER_ESTIMATOR)
    try:
        content = with_outputs(
            model,
            lambda types: feeds(example.rows.rows, types, server.missing_text),
            example.trained,
            [column.name for column in columns],
        )
    except Exception as error:
        return _Failure(1, f"the converted model does not run: {_first_line(error)}", _OTHER_ESTIMATOR)
    (directory / ONNX_FILE).write_bytes(content)
    rows = example.rows.rows.head(_EXAMPLE_ROWS)
    _write_example(directory, rows, columns)
    try:
        predict = server.open(directory)
        served = predict(example.rows.rows)
    except Exception as error:
        return _Failure(2, f"the server fails on its input example: {_first_line(error)}", _NOT_SERVED)
    if len(next(iter(served.values()))) != len(example.rows.rows):
        return _Failure(2, "it does not return a prediction for each row", _NOT_SERVED)
    for case in cases:
        if failure := _compare(case, predict, example.trained):
            return failure
    _write_example(directory, rows, columns, predict(rows))
    server.open(directory)
    return largest_difference(example.trained, served)


def _compare(case: _Case, predict: Callable[[pd.DataFrame], Outputs], example: Outputs) -> _Failure | None:
    for start, outputs in _accepted(predict, case.rows.rows):
        count = len(outputs[PREDICTIONS])
        expected = {name: values[start : start + count] for name, values in case.trained.items()}
        mismatch = first_mismatch(expected, outputs, example)
        if mismatch is None:
            continue
        row = start + mismatch.row
        values = {str(name): value for name, value in case.rows.rows.iloc[row].items()}
        trained, served = _SHORT.repr(mismatch.trained), _SHORT.repr(mismatch.served)
        return _Failure(
            _DIFFERS,
            f"the output {mismatch.output} differs for {case.rows.names[row]}: {trained} as trained, {served} as "
            f"served (columns: {_SHORT.repr(values)})",
            _OTHER_ESTIMATOR,
        )
    return None


def _check_types(example: pd.DataFrame, columns: tuple[InputColumn, ...]) -> None:
    for position, column in enumerate(columns):
        if column.type not in _TYPES:
            raise DefinitionError(
                f"its column {column.name!r} has the type {example.dtypes.iloc[position]}",
                next_step=f"convert it to numbers, booleans or strings, or {_NOT_SERVED}",
            )


def _cases(methods: Mapping[str, Method], example: pd.DataFrame) -> Iterator[_Case]:
    """Return the rows that the estimator accepts, with its outputs; first the whole example."""
    usable = {name: method for name, method in methods.items() if _is_usable(name, method, example)}
    predict = functools.partial(_outputs, usable)
    for group in probes(example):
        for start, trained in _accepted(predict, group.rows):
            end = start + len(trained[PREDICTIONS])
            yield _Case(Probes(group.rows.iloc[start:end].reset_index(drop=True), group.names[start:end]), trained)


def _is_usable(name: str, method: Method, rows: pd.DataFrame) -> bool:
    if name == PREDICTIONS:
        return True
    try:
        found = method(rows)
    except Exception:  # the estimator offers it, but not with its settings
        return False
    return found.ndim in (1, 2) and len(found) == len(rows) and found.dtype.kind in "fiu"


def _outputs(methods: Mapping[str, Method], rows: pd.DataFrame) -> Outputs:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # about rows that are strange on purpose
        return {name: method(rows) for name, method in methods.items()}


def _accepted(
    predict: Callable[[pd.DataFrame], Outputs], rows: pd.DataFrame, start: int = 0
) -> Iterator[tuple[int, Outputs]]:
    """Return the outputs for the parts of the rows that are accepted, each with the position of its first row."""
    try:
        yield start, predict(rows)
        return
    except Exception:
        if len(rows) == 1:
            return
    middle = len(rows) // 2
    yield from _accepted(predict, rows.iloc[:middle], start)
    yield from _accepted(predict, rows.iloc[middle:], start + middle)


def _has_trees_after_steps(estimator: Any) -> bool:
    steps: Any = getattr(estimator, "steps", ())
    return len(steps) > 1 and any(part in type(steps[-1][1]).__name__ for part in ("Tree", "Forest", "Boost", "XGB"))


def _reason(error: Exception) -> str:
    text = str(error)
    if type(error).__name__ in ("MissingShapeCalculator", "MissingConverter"):
        name = re.search(r"<class '(.+?)'>", text)
        return f"skl2onnx has no converter for {name.group(1) if name else _first_line(error)}"
    return f"the converter fails: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    if isinstance(error, MlAssetsError):
        return error.what
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0].rstrip('.')}"


def _write_example(
    directory: Path, rows: pd.DataFrame, columns: tuple[InputColumn, ...], outputs: Outputs | None = None
) -> None:
    tree: dict[str, Any] = {"inputs": {"columns": [column.name for column in columns], "data": _data(rows)}}
    if outputs is not None:
        tree["outputs"] = {name: _recorded(values) for name, values in sorted(outputs.items())}
    (directory / EXAMPLE_FILE).write_text(json.dumps(tree, indent=1, sort_keys=True) + "\n")


def _data(frame: pd.DataFrame) -> list[list[Any]]:
    """Return rows as JSON values; missing values are null."""
    columns = [
        [None if missing else value for value, missing in zip(column.tolist(), column.isna(), strict=True)]
        for column in (frame.iloc[:, position] for position in range(frame.shape[1]))
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def _recorded(values: Array) -> Any:
    """Return an output as JSON, with five digits of the largest number, which every processor computes alike."""
    if values.dtype.kind != "f":
        return values.tolist()
    largest = float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))
    # The factor keeps the power of ten away from round values, such as a probability of 1.
    digits = _DIGITS - math.floor(math.log10(largest * 1.3)) if largest else 0
    return _json((np.round(values.astype(np.float64), digits) + 0.0).tolist())


def _json(value: Any) -> Any:
    if isinstance(value, list):
        return [_json(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

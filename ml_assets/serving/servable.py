"""A loaded model: its ONNX graph in a session of ONNX Runtime, and its inputs and outputs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml_assets.resources.errors import InvalidInput, ModelUnavailable, ServingError
from ml_assets.serving.model_files import EXAMPLE, GRAPH, SIGNATURE, ModelFiles, read_directory
from ml_assets.serving.reference import ModelIdentity
from ml_assets.serving.signature import Signature, read_signature
from ml_assets.serving.tables import MISSING_TEXT, Feeds, TableReader
from ml_assets.serving.tensors import DATATYPES, decode_json, onnx_datatype

__all__ = ["MISSING_TEXT", "Servable", "TensorSpec", "load_servable", "open_servable"]

PREDICTIONS = "predictions"
PROBABILITIES = "probabilities"
_TOLERANCE = 1e-4
"""Of a recorded number: relative, and absolute as a part of the output's largest number."""
_COLUMN_DATATYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of the graph."""

    name: str
    datatype: str
    """Datatype in the Open Inference Protocol."""
    shape: tuple[int, ...]
    """-1 for a dimension of any size."""

    @property
    def has_rows(self) -> bool:
        """True if the first dimension may have any size, so that requests can be batched."""
        return bool(self.shape) and self.shape[0] == -1

    def as_json(self) -> dict[str, Any]:
        """Return the tensor as in the protocol's metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


class Servable:
    """A loaded model.

    Args:
        identity: identity of the model.
        session: session of ONNX Runtime.
        signature: signature of the model.
    """

    def __init__(self, identity: ModelIdentity, session: Any, signature: Signature) -> None:
        self.identity = identity
        self._session = session
        self._rank = signature.prediction_rank
        self.graph_inputs = tuple(_spec(each) for each in session.get_inputs())
        outputs = tuple(_spec(each) for each in session.get_outputs())
        self._output_names = [output.name for output in outputs]
        self.prediction = PREDICTIONS if PREDICTIONS in self._output_names else self._output_names[0]
        self.outputs = tuple(self._as_given(output) for output in outputs)
        self.table = _table(signature, self.graph_inputs)
        self.example: dict[str, Any] | None = None
        """Example inputs recorded with the model: columns and data of a table, or tensors by name."""
        self.shares_runs = all(each.has_rows for each in (*self.graph_inputs, *self.outputs))

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs for clients: one tensor for each column of a table, otherwise the graph's own inputs."""
        if self.table is None:
            return self.graph_inputs
        return tuple(TensorSpec(each.name, _COLUMN_DATATYPES[each.type], (-1, 1)) for each in self.table.columns)

    def run(self, feeds: Feeds) -> Feeds:
        """Return all outputs by name for validated feeds."""
        values = self._session.run(self._output_names, feeds)
        outputs = dict(zip(self._output_names, values, strict=True))
        predicted = outputs[self.prediction]
        if self._rank == 1 and predicted.ndim == 2 and predicted.shape[1] == 1:
            outputs[self.prediction] = predicted.reshape(-1)
        return outputs

    def _as_given(self, output: TensorSpec) -> TensorSpec:
        """Return the output as `run` does: a column of predictions as a list, if the signature says so."""
        if output.name == self.prediction and self._rank == 1 and output.shape == (-1, 1):
            return TensorSpec(output.name, output.datatype, (-1,))
        return output

    def predict_columns(self, columns: Mapping[str, Sequence[Any] | np.ndarray[Any, Any]]) -> Feeds:
        """Return all outputs by name for the columns of a table, such as a data frame; for batch jobs.

        Raises:
            InvalidInput: the columns do not match the signature.
        """
        if self.table is None:
            raise InvalidInput("the model takes tensors, not columns", next_step="call run with the graph's inputs")
        self.table.order(list(columns), "the table")
        arrays = {name: np.asarray(values) for name, values in columns.items()}
        return self.run(self.table.feeds_of_columns(arrays, lambda name: name))


def open_servable(directory: Path) -> Servable:
    """Load a model's canonical directory for use in this process.

    Raises:
        ModelUnavailable: the directory is not a servable model.
    """
    content = read_directory(directory)
    return load_servable(content, ModelIdentity(directory.name, content.digest.hex, content.digest))


def load_servable(content: ModelFiles, identity: ModelIdentity) -> Servable:
    """Load a model from its verified files, and compare its outputs for the recorded example with the recorded ones.

    Raises:
        ModelUnavailable: the model cannot be loaded, it fails on the example, or its outputs differ.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread: processes share the CPUs, and a session without its own threads survives a fork.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(content.files[GRAPH], options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelUnavailable(
            f"ONNX Runtime {onnxruntime.__version__} cannot load model.onnx: {error}",
            next_step="export the model with operators that this version supports",
        ) from error
    servable = Servable(identity, session, read_signature(content.files[SIGNATURE]))
    _check_example(servable, content.files[EXAMPLE])
    return servable


def _check_example(servable: Servable, content: bytes) -> None:
    try:
        example = json.loads(content)
        servable.example = example.get("inputs", example)
        outputs = servable.run(_example_feeds(servable, servable.example))
        recorded = {name: _array(values, outputs[name]) for name, values in example.get("outputs", {}).items()}
    except ServingError as error:
        raise ModelUnavailable(
            f"the model does not accept its recorded example: {error}", next_step="materialize the model again"
        ) from error
    except Exception as error:
        raise ModelUnavailable(
            f"the model fails on its recorded example: {type(error).__name__}: {error}",
            next_step="materialize the model again",
        ) from error
    for name, expected in recorded.items():
        if expected.shape != outputs[name].shape or not _close(name, outputs, recorded):
            raise ModelUnavailable(
                f"the recorded {name} differ: the model returns {_first(outputs[name])} for its recorded example, but "
                f"{_first(expected)} is recorded",
                next_step="find out who changed the model's files, or materialize the model again with this version of "
                "ONNX Runtime",
            )


def _array(values: Any, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return recorded values as an array; null is a number that is not finite."""
    if like.dtype.kind == "f":
        return np.array(values, dtype=np.float64)
    return np.array(values, dtype=object if like.dtype.kind in "OUS" else None)


def _first(values: np.ndarray[Any, Any]) -> list[Any]:
    first: list[Any] = values.reshape(-1)[:5].tolist()
    return first


def _example_feeds(servable: Servable, inputs: Any) -> Feeds:
    if servable.table is not None:
        order = servable.table.order(inputs["columns"], "its example")
        rows = [[None if at is None else row[at] for at in order] for row in inputs["data"]]
        return servable.table.feeds(rows, lambda row, column: f"row {row}, column {column}")
    return {
        spec.name: decode_json(spec.datatype, list(np.shape(inputs[spec.name])), inputs[spec.name], spec.name)
        for spec in servable.graph_inputs
    }


def _close(name: str, outputs: Feeds, recorded: Feeds) -> bool:
    found, expected = outputs[name], recorded[name]
    if found.dtype.kind == "f":
        found = np.where(np.isfinite(found), found, np.nan)
        largest = float(np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected)))
        return bool(np.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE * largest, equal_nan=True))
    different = (found != expected).reshape(len(found), -1).any(axis=1)
    return not (different & ~_tied(recorded.get(PROBABILITIES), len(found))).any()


def _tied(probabilities: np.ndarray[Any, Any] | None, rows: int) -> np.ndarray[Any, Any]:
    """Return True for each row whose two best labels have the same probability, so that either may be predicted."""
    if probabilities is None or probabilities.ndim != 2 or probabilities.shape[1] < 2:
        return np.zeros(rows, dtype=bool)
    best = np.sort(probabilities, axis=1)
    return np.asarray(best[:, -1] - best[:, -2] <= _TOLERANCE)


def _spec(value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return TensorSpec(value.name, onnx_datatype(value.type), shape)


def _table(signature: Signature, inputs: Sequence[TensorSpec]) -> TableReader | None:
    """Return the reader of tables, whose columns the graph takes as one matrix, by name, or by position."""
    if signature.columns is None:
        return None
    names = [column.name for column in signature.columns]
    strings = any(column.type == "string" for column in signature.columns)
    is_matrix = len(inputs) == 1 and inputs[0].shape[1:] in ((len(names),), (-1,)) and not strings
    # ONNX allows no input with the name of an output, so an input may have another name than its column.
    is_by_column = len(inputs) == len(names) and all(each.shape[1:] in ((1,), ()) for each in inputs)
    if not is_matrix and not is_by_column and {each.name for each in inputs} != set(names):
        raise ModelUnavailable(
            f"the ONNX graph takes {', '.join(f'{each.name} {list(each.shape)}' for each in inputs)}, but the "
            f"signature has the columns {', '.join(sorted(names))}",
            next_step="export the graph with one input for all columns, or with one input per column",
        )
    return TableReader(signature.columns, {each.name: (DATATYPES[each.datatype], len(each.shape)) for each in inputs})

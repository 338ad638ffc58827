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
from ml_assets.serving.tables import Feeds, TableReader
from ml_assets.serving.tensors import DATATYPES, decode_json, onnx_datatype

__all__ = ["Servable", "TensorSpec", "load_servable", "open_servable"]

PREDICTIONS = "predictions"
_TOLERANCE = 1e-4
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
    """Load a model from its verified files, and check its prediction for the recorded example.

    The prediction must succeed, and must equal the recorded prediction if there is one.

    Raises:
        ModelUnavailable: the model cannot be loaded, or its prediction differs.
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
        predicted = servable.run(_example_feeds(servable, servable.example))[servable.prediction]
        recorded = np.array(example.get(PREDICTIONS, predicted))
    except ServingError as error:
        raise ModelUnavailable(
            f"the model does not accept its recorded example: {error}", next_step="materialize the model again"
        ) from error
    except Exception as error:
        raise ModelUnavailable(
            f"the model fails on its recorded example: {type(error).__name__}: {error}",
            next_step="materialize the model again",
        ) from error
    recorded = recorded.reshape(predicted.shape) if recorded.size == predicted.size else recorded
    if predicted.shape != recorded.shape or not _close(predicted, recorded):
        raise ModelUnavailable(
            f"the model predicts {predicted.reshape(-1)[:5].tolist()} for its recorded example, but "
            f"{recorded.reshape(-1)[:5].tolist()} is recorded",
            next_step="materialize the model again, with the versions of onnx and onnxruntime of this image",
        )


def _example_feeds(servable: Servable, inputs: Any) -> Feeds:
    if servable.table is not None:
        order = servable.table.order(inputs["columns"], "its example")
        rows = [[None if at is None else row[at] for at in order] for row in inputs["data"]]
        return servable.table.feeds(rows, lambda row, column: f"row {row}, column {column}")
    return {
        spec.name: decode_json(spec.datatype, list(np.shape(inputs[spec.name])), inputs[spec.name], spec.name)
        for spec in servable.graph_inputs
    }


def _close(predicted: np.ndarray[Any, Any], recorded: np.ndarray[Any, Any]) -> bool:
    if predicted.dtype.kind == "f":
        return bool(np.allclose(predicted, recorded.astype(np.float64), rtol=_TOLERANCE, atol=1e-6, equal_nan=True))
    return bool((predicted == recorded).all())


def _spec(value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return TensorSpec(value.name, onnx_datatype(value.type), shape)


def _table(signature: Signature, inputs: Sequence[TensorSpec]) -> TableReader | None:
    if signature.columns is None:
        return None
    names = {column.name for column in signature.columns}
    strings = any(column.type == "string" for column in signature.columns)
    one_matrix = len(inputs) == 1 and inputs[0].shape[1:] in ((len(names),), (-1,)) and not strings
    if not one_matrix and {each.name for each in inputs} != names:
        raise ModelUnavailable(
            f"the ONNX graph takes {', '.join(f'{each.name} {list(each.shape)}' for each in inputs)}, but the "
            f"signature has the columns {', '.join(sorted(names))}",
            next_step="export the graph with one input for all columns, or with one input per column of the same name",
        )
    return TableReader(signature.columns, {each.name: (DATATYPES[each.datatype], len(each.shape)) for each in inputs})

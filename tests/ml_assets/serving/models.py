"""Models to serve: small ONNX graphs in canonical directories, as training writes them."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ml_assets.serving.model_files import directory_listing

COLUMNS = ("distance", "hour", "late")
TYPES = ("double", "long", "boolean")
ROWS = [[100.5, 7, False], [2000.0, 23, True]]


def write_model(
    directory: Path,
    *,
    weights: Sequence[float] = (0.01, 1.0, 5.0),
    types: Sequence[str] = TYPES,
    required: bool = True,
    listed: bool = False,
) -> str:
    """Write a linear model of three columns, which also outputs a probability, and return its data version."""
    columns = [{"name": name, "type": kind, "required": required} for name, kind in zip(COLUMNS, types, strict=True)]
    outputs = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1]}}]
    example = np.array(ROWS, dtype=np.float32)
    predictions = example @ np.array(weights, dtype=np.float32)
    return write_files(
        directory,
        linear_graph(weights),
        {"inputs": columns, "outputs": outputs},
        {"inputs": {"columns": list(COLUMNS), "data": ROWS}, "outputs": {"predictions": predictions.tolist()}},
        listed=listed,
    )


def linear_graph(weights: Sequence[float]) -> bytes:
    """Return a graph with ``predictions = features @ weights``; ``probabilities`` are 1 - sigmoid, and sigmoid."""
    rows = "rows"
    weight = np.array(weights, dtype=np.float32).reshape(-1, 1)
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["column"]),
        helper.make_node("Squeeze", ["column", "last"], ["predictions"]),
        helper.make_node("Sigmoid", ["column"], ["positive"]),
        helper.make_node("Sub", ["one", "positive"], ["negative"]),
        helper.make_node("Concat", ["negative", "positive"], ["probabilities"], axis=1),
    ]
    constants = [
        numpy_helper.from_array(weight, "weights"),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "last"),
        numpy_helper.from_array(np.array([1], dtype=np.float32), "one"),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [rows, len(weights)])],
        [
            helper.make_tensor_value_info("predictions", TensorProto.FLOAT, [rows]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [rows, 2]),
        ],
        constants,
    )
    return serialized(graph)


def echo_graph(kind: int) -> bytes:
    """Return a graph whose ``predictions`` are the tensor ``values``, of any shape with rows and one more dimension."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["values"], ["predictions"])],
        "echo",
        [helper.make_tensor_value_info("values", kind, ["rows", "width"])],
        [helper.make_tensor_value_info("predictions", kind, ["rows", "width"])],
    )
    return serialized(graph)


def write_echo(directory: Path, kind: int, example: Any) -> str:
    """Write a model that returns its input tensor, and return its data version."""
    spec = {"type": "tensor", "name": "values", "tensor-spec": {"dtype": "any", "shape": [-1, -1]}}
    signature = {"inputs": [spec], "outputs": [{**spec, "name": "predictions"}]}
    return write_files(
        directory, echo_graph(kind), signature, {"inputs": {"values": example}, "outputs": {"predictions": example}}
    )


TYPED_COLUMNS = ("carrier", "flight", "distance", "late")


def write_typed(directory: Path, **required: bool) -> str:
    """Write a model with separate columns, including a string and a whole number, and return its data version.

    ``predictions`` is the distance, and ``flights`` is the flight's number.
    """
    types = ("string", "long", "double", "boolean")
    kinds = (TensorProto.STRING, TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL)
    columns = [
        {"name": name, "type": kind, "required": required.get(name, True)}
        for name, kind in zip(TYPED_COLUMNS, types, strict=True)
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Squeeze", ["distance", "last"], ["predictions"]),
            *(helper.make_node("Identity", [name], [f"{name}s"]) for name in ("carrier", "flight")),
        ],
        "typed",
        [
            helper.make_tensor_value_info(name, kind, ["rows", 1])
            for name, kind in zip(TYPED_COLUMNS, kinds, strict=True)
        ],
        [
            helper.make_tensor_value_info("predictions", TensorProto.FLOAT, ["rows"]),
            helper.make_tensor_value_info("carriers", TensorProto.STRING, ["rows", 1]),
            helper.make_tensor_value_info("flights", TensorProto.INT64, ["rows", 1]),
        ],
        [numpy_helper.from_array(np.array([1], dtype=np.int64), "last")],
    )
    outputs = [{"type": "double", "name": "predictions"}]
    example = {"columns": list(TYPED_COLUMNS), "data": [["UA", 7, 100.5, False]]}
    signature = {"inputs": columns, "outputs": outputs}
    return write_files(
        directory, serialized(graph), signature, {"inputs": example, "outputs": {"predictions": [100.5]}}
    )


def write_files(directory: Path, graph: bytes, signature: Any, example: Any, *, listed: bool = False) -> str:
    """Write a canonical directory and return its data version."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.onnx").write_bytes(graph)
    (directory / "signature.json").write_text(json.dumps(signature))
    (directory / "example.json").write_text(json.dumps(example))
    (directory / "model.skops").write_bytes(b"weights of the training library, which the server does not read")
    listing = directory_listing(directory)
    if listed:
        (directory / "listing.json").write_bytes(listing)
    return f"md5:{hashlib.md5(listing).hexdigest()}.dir"


def serialized(graph: onnx.GraphProto) -> bytes:
    """Return the graph as the bytes of a file for ONNX Runtime."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())

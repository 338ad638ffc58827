"""The Open Inference Protocol v2 over REST: converts requests to feeds, and outputs to responses.

Sources: kserve/open-inference-protocol, specification/protocol/inference_rest.md; Triton's binary tensor data
extension, which the common Python clients use by default.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from ml_assets.resources.errors import InvalidInput, RequestError
from ml_assets.serving.bodies import read_json
from ml_assets.serving.servable import Servable, TensorSpec
from ml_assets.serving.tables import Feeds, TableReader
from ml_assets.serving.tensors import DATATYPES, datatype_of, decode_binary, decode_json, encode_binary, encode_json
from ml_assets.serving.values import shown

__all__ = ["InferenceRequest", "check_tensor", "read_inference_request", "write_inference_response"]

BINARY_EXTENSION = "binary_tensor_data"
PLATFORM = "onnx_onnxv1"
_REQUEST = {"id", "parameters", "inputs", "outputs"}
_INPUT = {"name", "shape", "datatype", "parameters", "data"}
_OUTPUT = {"name", "parameters"}


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A validated request."""

    id: str | None
    feeds: Feeds
    outputs: dict[str, bool]
    """The requested outputs by name; True if the output is binary."""


def read_inference_request(body: bytes, json_length: int | None, servable: Servable) -> InferenceRequest:
    """Parse and validate a request.

    Args:
        body: body of the HTTP request.
        json_length: the header ``Inference-Header-Content-Length``: bytes of JSON before the binary data.
        servable: the model that runs it.

    Raises:
        RequestError: the request does not follow the protocol.
        InvalidInput: a tensor does not match the model's inputs.
    """
    if json_length is not None and not 0 <= json_length <= len(body):
        raise RequestError(
            f"Inference-Header-Content-Length is {json_length}, but the body has {len(body)} bytes",
            next_step="send the length of the JSON part",
        )
    tree = _object(read_json(body if json_length is None else body[:json_length]), "the request", _REQUEST)
    binary = memoryview(b"" if json_length is None else body[json_length:])
    identifier = tree.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise InvalidInput("id must be a string", next_step="correct id or remove it")
    arrays = _arrays(tree.get("inputs"), binary)
    feeds = _table_feeds(arrays, servable.table) if servable.table else _tensor_feeds(arrays, servable)
    return InferenceRequest(identifier, feeds, _wanted(tree, servable))


def write_inference_response(
    outputs: Feeds, request: InferenceRequest, head: dict[str, Any]
) -> tuple[list[bytes], int | None]:
    """Return the parts of the response body, and the length of its JSON if binary data follows.

    Args:
        outputs: all outputs of the model.
        request: the request to answer.
        head: the other fields of the response.
    """
    tensors, binary = [], []
    for name, as_binary in request.outputs.items():
        array = outputs[name]
        tensor = {"name": name, "datatype": datatype_of(array), "shape": array.shape}
        if as_binary:
            binary.append(encode_binary(array))
            tensor["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            tensor["data"] = encode_json(array)
        tensors.append(tensor)
    content = orjson.dumps({**head, "outputs": tensors}, option=orjson.OPT_SERIALIZE_NUMPY)
    return [content, *binary], len(content) if binary else None


def _object(value: Any, where: str, known: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"{where} must be an object", next_step=f"send an object with {', '.join(sorted(known))}")
    if not value.keys() <= known:
        extra = sorted(value.keys() - known)[0]
        raise InvalidInput(
            f"{where} has the unknown field {shown(extra)}; allowed fields: {', '.join(sorted(known))}",
            next_step="remove the field",
        )
    if not isinstance(value.get("parameters", {}), dict | None):
        raise InvalidInput(f"{where}: parameters must be an object", next_step="correct parameters or remove them")
    return value


def _arrays(inputs: Any, binary: memoryview) -> dict[str, np.ndarray[Any, Any]]:
    if not isinstance(inputs, list) or not inputs:
        raise InvalidInput("inputs must be a list of at least one tensor", next_step="send the model's inputs")
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    at = 0
    for index, item in enumerate(inputs):
        where = f"inputs[{index}]"
        tensor = _object(item, where, _INPUT)
        name = tensor.get("name")
        if not isinstance(name, str):
            raise InvalidInput(f"{where}.name must be a string", next_step="name the tensor")
        if name in arrays:
            raise InvalidInput(f"{where}.name {shown(name)} occurs twice", next_step="send each tensor once")
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if size is None:
            if "data" not in tensor:
                raise InvalidInput(f"{where} lacks data", next_step="send the tensor's values")
            arrays[name] = decode_json(tensor.get("datatype"), tensor.get("shape"), tensor["data"], where)  # type: ignore[arg-type]
            continue
        if type(size) is not int or not 0 <= size <= len(binary) - at:
            raise InvalidInput(
                f"{where}.parameters.binary_data_size is {shown(size)}, "
                f"but {len(binary) - at} bytes of binary data are left",
                next_step="send the tensor's number of bytes, and the header Inference-Header-Content-Length",
            )
        arrays[name] = decode_binary(tensor.get("datatype"), tensor.get("shape"), binary[at : at + size], where)  # type: ignore[arg-type]
        at += size
    if at != len(binary):
        raise InvalidInput(
            f"{len(binary) - at} bytes of binary data belong to no tensor",
            next_step="correct binary_data_size of the tensors",
        )
    return arrays


def _table_feeds(arrays: dict[str, np.ndarray[Any, Any]], table: TableReader) -> Feeds:
    (first, array), *others = arrays.items()
    if not others and first not in table.names and array.ndim == 2:
        feeds = table.feeds_of_matrix(array, "inputs[0].data")
    else:
        table.order(list(arrays), "inputs")
        for name, each in arrays.items():
            if each.ndim not in (1, 2) or (each.ndim == 2 and each.shape[1] != 1):
                raise InvalidInput(
                    f"the input {name} must have the shape [rows] or [rows, 1], got {list(each.shape)}",
                    next_step="send one value per row",
                )
        feeds = table.feeds_of_columns(
            {name: each.reshape(-1) for name, each in arrays.items()}, lambda name: f"the input {name}"
        )
    return _with_rows(feeds)


def _tensor_feeds(arrays: dict[str, np.ndarray[Any, Any]], servable: Servable) -> Feeds:
    specs = {spec.name: spec for spec in servable.graph_inputs}
    if unknown := [name for name in arrays if name not in specs]:
        raise InvalidInput(
            f"inputs has the unknown tensor {shown(unknown[0])}; the model's tensors are {', '.join(specs)}",
            next_step="remove the tensor or correct its name",
        )
    if missing := [name for name in specs if name not in arrays]:
        raise InvalidInput(f"inputs lacks the tensor {missing[0]!r}", next_step=f"send all of {', '.join(specs)}")
    feeds = {name: check_tensor(spec, arrays[name]) for name, spec in specs.items()}
    if servable.shares_runs:
        if len({len(array) for array in feeds.values()}) > 1:
            raise InvalidInput(
                "the inputs have different numbers of rows", next_step="send the same number of rows for each input"
            )
        _with_rows(feeds)
    return feeds


def check_tensor(spec: TensorSpec, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the array if its type and shape match the model's input.

    Raises:
        InvalidInput: they do not match.
    """
    fits = len(spec.shape) == array.ndim and all(
        size in (-1, given) for size, given in zip(spec.shape, array.shape, strict=True)
    )
    if not fits or array.dtype != DATATYPES[spec.datatype]:
        raise InvalidInput(
            f"the input {spec.name} must be {spec.datatype} of shape {list(spec.shape)} (-1 is any size), got "
            f"{datatype_of(array)} of shape {list(array.shape)}",
            next_step="see the model's metadata",
        )
    return array


def _with_rows(feeds: Feeds) -> Feeds:
    if not all(map(len, feeds.values())):
        raise InvalidInput("the inputs have no rows", next_step="send at least one row")
    return feeds


def _wanted(tree: dict[str, Any], servable: Servable) -> dict[str, bool]:
    """Return the requested outputs by name; True if the output is binary."""
    binary = bool((tree.get("parameters") or {}).get("binary_data_output", False))
    asked = tree.get("outputs")
    names = [output.name for output in servable.outputs]
    if not asked and isinstance(asked, list | None):
        return dict.fromkeys(names, binary)
    if not isinstance(asked, list):
        raise InvalidInput("outputs must be a list", next_step=f"list some of {', '.join(names)}, or remove outputs")
    wanted: dict[str, bool] = {}
    for index, item in enumerate(asked):
        output = _object(item, f"outputs[{index}]", _OUTPUT)
        name = output.get("name")
        if name not in names:
            raise InvalidInput(
                f"outputs[{index}].name is {shown(name)}, but the model's outputs are {', '.join(names)}",
                next_step="request one of the model's outputs",
            )
        wanted[name] = bool((output.get("parameters") or {}).get("binary_data", binary))
    return wanted

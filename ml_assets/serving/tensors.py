"""Tensors of the Open Inference Protocol v2, in JSON and in the binary extension, and as NumPy arrays.

Sources: the protocol's REST specification (tensor data types, tensor data); Triton's binary tensor data extension.
"""

import math
from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np

from ml_assets.resources.errors import InvalidInput, ModelUnavailable
from ml_assets.serving.values import shown

__all__ = ["datatype_of", "decode_binary", "decode_json", "encode_binary", "encode_json", "onnx_datatype"]

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
_ONNX = {
    "bool": "BOOL",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_EXPECTED = {"b": "true or false", "u": "whole numbers of at least 0", "i": "whole numbers", "f": "numbers or null"}
_ACCEPTED: dict[str, set[type]] = {
    "b": {bool},
    "u": {int, float},
    "i": {int, float},
    "f": {int, float, type(None)},
    "O": {str},
}


def onnx_datatype(onnx_type: str) -> str:
    """Return the protocol's datatype of an ONNX type such as ``tensor(float)``.

    Raises:
        ModelUnavailable: the protocol has no such type.
    """
    inner = onnx_type.removeprefix("tensor(").removesuffix(")")
    if inner not in _ONNX:
        raise ModelUnavailable(
            f"the ONNX graph has a value of type {onnx_type}, which the Open Inference Protocol does not support",
            next_step="export the model with plain tensors (for scikit-learn: options={'zipmap': False})",
        )
    return _ONNX[inner]


def datatype_of(array: np.ndarray[Any, Any]) -> str:
    """Return the protocol's datatype of an array."""
    return _NAMES.get(array.dtype, "BYTES")


def decode_json(datatype: str, shape: Any, data: Any, where: str) -> np.ndarray[Any, Any]:
    """Return the values of a request as an array.

    Args:
        datatype: datatype of the protocol.
        shape: as in the request.
        data: as in the request: one flat list, or nested by shape. ``null`` in a floating-point tensor is NaN.
        where: the tensor's position in the request, for messages.

    Raises:
        InvalidInput: shape, type or number of values are wrong.
    """
    dtype = _dtype(datatype, where)
    size = math.prod(_shape(shape, where))
    if not isinstance(data, list):
        raise InvalidInput(f"{where}.data must be a list, got {_kind(data)}", next_step="send the values as a list")
    flat = data if not data or not isinstance(data[0], list) else _flattened(data, shape, where)
    if len(flat) != size:
        raise InvalidInput(
            f"{where}.data must have {size} values for its shape {shape}, got {len(flat)}",
            next_step="correct shape or data",
        )
    kinds = set(map(type, flat))
    mixed = dtype.kind in "ui" and float in kinds  # NumPy would drop the fractional part
    if not kinds <= _ACCEPTED[dtype.kind] or (mixed and not all(_fits(value, dtype) for value in flat)):
        raise _unfitting(flat, datatype, dtype, where)
    try:
        array = np.array(flat, dtype=np.float64 if dtype.kind == "f" else dtype)
    except (OverflowError, ValueError) as error:
        raise _unfitting(flat, datatype, dtype, where) from error
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            array = array.astype(dtype, copy=False)
        if np.isinf(array).any():
            raise _unfitting(flat, datatype, dtype, where)
    return _reshaped(array, shape, where)


def decode_binary(datatype: str, shape: Any, content: memoryview, where: str) -> np.ndarray[Any, Any]:
    """Return little-endian bytes as an array; a four-byte length precedes each element of BYTES.

    Raises:
        InvalidInput: the number of bytes does not match shape and type.
    """
    dtype = _dtype(datatype, where)
    size = math.prod(_shape(shape, where))
    if dtype.kind == "O":
        array = np.array(_strings(content, size, where), dtype=object)
        return _reshaped(array, shape, where)
    if len(content) != size * dtype.itemsize:
        raise InvalidInput(
            f"{where} must have {size * dtype.itemsize} bytes for its shape {shape} of {datatype}, got {len(content)}",
            next_step="correct shape, datatype or binary_data_size",
        )
    if dtype.kind == "b" and np.frombuffer(content, np.uint8).max(initial=0) > 1:
        raise InvalidInput(f"{where} has bytes other than 0 and 1", next_step="send one byte, 0 or 1, per BOOL")
    return _reshaped(np.frombuffer(content, dtype.newbyteorder("<")), shape, where)


def encode_json(array: np.ndarray[Any, Any]) -> Any:
    """Return the values as one flat list for orjson; NaN becomes ``null``."""
    if array.dtype.kind in "OUS":
        return [_text(value) for value in array.reshape(-1).tolist()]
    return np.ascontiguousarray(array).reshape(-1)


def encode_binary(array: np.ndarray[Any, Any]) -> bytes:
    """Return the bytes that `decode_binary` reads."""
    if array.dtype.kind in "OUS":
        encoded = [_text(value).encode() for value in array.reshape(-1).tolist()]
        return b"".join(len(value).to_bytes(4, "little") + value for value in encoded)
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _dtype(datatype: Any, where: str) -> np.dtype[Any]:
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise InvalidInput(
            f"{where}.datatype must be one of {', '.join(DATATYPES)}, got {shown(datatype)}",
            next_step="send the datatype of the values",
        )
    return DATATYPES[datatype]


def _shape(shape: Any, where: str) -> list[int]:
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 1 << 63 for size in shape[:33]):
        raise InvalidInput(
            f"{where}.shape must be a list of whole numbers of at least 0, got {shown(shape)}",
            next_step="send the size of each dimension",
        )
    if len(shape) > 32:
        raise InvalidInput(f"{where}.shape has {len(shape)} dimensions", next_step="send at most 32 dimensions")
    return shape


def _reshaped(array: np.ndarray[Any, Any], shape: list[int], where: str) -> np.ndarray[Any, Any]:
    try:
        return array.reshape(shape)
    except ValueError as error:  # an empty array whose other dimensions are too large together
        raise InvalidInput(
            f"{where}.shape {shape} is too large for an array", next_step="send the size of each dimension"
        ) from error


def _flattened(data: list[Any], shape: list[int], where: str) -> list[Any]:
    level: list[Any] = [data]
    for axis, size in enumerate(shape):
        if not all(isinstance(part, list) and len(part) == size for part in level):
            raise InvalidInput(
                f"{where}.data must be a flat list, or lists nested by its shape {shape}; "
                f"it differs in dimension {axis}",
                next_step="correct shape or data",
            )
        level = list(chain.from_iterable(level))
    return level


def _strings(content: memoryview, size: int, where: str) -> Iterable[str]:
    at, found = 0, []
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "little")
        element = content[at + 4 : at + 4 + length]
        if len(element) < length or len(content) < at + 4:
            break
        found.append(_decoded(bytes(element), where))
        at += 4 + length
    if at != len(content) or len(found) != size:
        raise InvalidInput(
            f"{where} must have {size} elements, each preceded by its length in four bytes",
            next_step="correct shape or binary_data_size",
        )
    return found


def _decoded(element: bytes, where: str) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{where} has an element that is not valid UTF-8", next_step="send text in UTF-8") from error


def _unfitting(flat: list[Any], datatype: str, dtype: np.dtype[Any], where: str) -> InvalidInput:
    for index, value in enumerate(flat):
        if not _fits(value, dtype):
            return InvalidInput(
                f"{where}.data[{index}] must be a value of {datatype} ({_EXPECTED.get(dtype.kind, 'strings')}, within "
                f"its range), got {shown(value)}",
                next_step="correct the value or the datatype",
            )
    return InvalidInput(f"{where}.data does not fit {datatype}", next_step="correct the values or the datatype")


def _fits(value: Any, dtype: np.dtype[Any]) -> bool:
    if type(value) not in _ACCEPTED[dtype.kind]:
        return False
    if dtype.kind in "ui":
        bounds = np.iinfo(dtype)
        return bool(bounds.min <= value <= bounds.max) and float(value).is_integer()
    if dtype.kind == "f" and value is not None:
        most = float(np.finfo(dtype).max)
        return bool(value != value or -most <= value <= most)
    return True


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}.get(
        type(value), "a number"
    )


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ml_assets.resources.errors import InvalidInput, ModelUnavailable
from ml_assets.serving.tensors import (
    DATATYPES,
    datatype_of,
    decode_binary,
    decode_json,
    encode_binary,
    encode_json,
    onnx_datatype,
)

every_datatype = pytest.mark.parametrize("datatype", DATATYPES)


def _values(datatype: str) -> Any:
    dtype = DATATYPES[datatype]
    if dtype.kind == "O":
        return st.lists(st.text(max_size=5), min_size=6, max_size=6).map(
            lambda each: np.array(each, dtype=object).reshape(2, 3)
        )
    elements = {"allow_infinity": False} if dtype.kind == "f" else None
    return arrays.arrays(dtype, (2, 3), elements=arrays.from_dtype(dtype, **(elements or {})))


@every_datatype
def test_tensor_comes_back_as_it_was_written_in_json_and_in_binary(datatype: str) -> None:
    @given(_values(datatype))
    def check(array: np.ndarray[Any, Any]) -> None:
        data = orjson.loads(orjson.dumps(encode_json(array), option=orjson.OPT_SERIALIZE_NUMPY))
        for again in (
            decode_json(datatype, [2, 3], data, "inputs[0]"),
            decode_binary(datatype, [2, 3], memoryview(encode_binary(array)), "inputs[0]"),
        ):
            assert datatype_of(again) == datatype
            np.testing.assert_array_equal(again, array)

    check()


def _nested(depth: int) -> Any:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_data_may_be_nested_or_flat() -> None:
    nested = decode_json("INT32", [2, 2], [[1, 2], [3, 4]], "inputs[0]")
    np.testing.assert_array_equal(nested, decode_json("INT32", [2, 2], [1, 2, 3, 4], "inputs[0]"))


def test_whole_numbers_may_be_written_with_a_point() -> None:
    assert decode_json("INT64", [1], [3.0], "inputs[0]").tolist() == [3]


def test_null_is_a_missing_floating_point_number() -> None:
    assert np.isnan(decode_json("FP32", [1], [None], "inputs[0]")).all()


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "said"),
    [
        ("FP23", [1], [1], r"inputs\[0\].datatype must be one of BOOL.*got 'FP23'"),
        (None, [1], [1], r"datatype must be one of"),
        (["FP32"], [1], [1], r"datatype must be one of"),
        ("FP32", [-1], [1], r"shape must be a list of whole numbers"),
        ("FP32", [True], [1], r"shape must be"),
        ("FP32", "1", [1], r"shape must be"),
        ("FP32", [1 << 62], [1], r"must have 4611686018427387904 values"),
        ("FP32", [0, 1 << 62], [], r"inputs\[0\].shape \[0, 4611686018427387904\] is too large for an array"),
        ("FP32", [0, 1 << 70], [], r"shape must be"),
        ("FP32", _nested(1000), [], r"inputs\[0\].shape must be a list of whole numbers.*got \[\["),
        (_nested(1000), [1], [1], r"datatype must be one of"),
        ("FP32", [1], [_nested(1000)], r"data\[0\] must be a value of FP32"),
        ("FP32", [2], [1, _nested(1000)], r"data\[1\] must be a value of FP32"),
        ("FP32", [2], [1], r"data must have 2 values.*got 1"),
        ("FP32", [1], 1, r"data must be a list, got a number"),
        ("FP32", [2, 2], [[1, 2], [3]], r"nested by its shape \[2, 2\]"),
        ("FP32", [2, 2], [[1, 2], 3], r"nested by its shape"),
        ("FP32", [4], [[1, 2], [3, 4]], r"nested by its shape"),
        ("FP32", [2], [1, "2"], r"inputs\[0\].data\[1\] must be a value of FP32 \(numbers or null.*got '2'"),
        ("FP32", [1], [True], r"data\[0\] must be a value of FP32"),
        ("FP32", [1], [1e300], r"within its range"),
        ("FP16", [1], [70000], r"data\[0\] must be a value of FP16"),
        ("FP64", [1], [10**400], r"data\[0\] must be a value of FP64"),
        ("INT8", [2], [1, 128], r"data\[1\] must be a value of INT8.*got 128"),
        ("UINT8", [1], [-1], r"whole numbers of at least 0"),
        ("INT32", [1], [1.5], r"data\[0\] must be a value of INT32.*got 1.5"),
        ("INT64", [1], [1e30], r"got 1e\+30"),
        ("UINT64", [1], [float("inf")], r"got inf"),
        ("INT64", [2], [1.0, 1 << 4000], r"data\[1\] must be"),
        ("INT32", [1], [None], r"got None"),
        ("INT32", [1], [float("nan")], r"got nan"),
        ("BOOL", [1], [1], r"true or false"),
        ("BYTES", [1], [1], r"strings"),
        ("FP32", [2, 1], [[1], [[2]]], r"data\[1\] must be a value of FP32"),
    ],
)
def test_wrong_tensor_is_refused_with_the_place_and_what_was_expected(
    datatype: Any, shape: Any, data: Any, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        decode_json(datatype, shape, data, "inputs[0]")


@pytest.mark.parametrize(
    ("datatype", "shape", "content", "said"),
    [
        ("FP32", [2], b"1234", "must have 8 bytes.*got 4"),
        ("FP32", [0, 1 << 62], b"", "is too large for an array"),
        ("BYTES", [0, 1 << 62], b"", "is too large for an array"),
        ("BOOL", [1], b"\x02", "bytes other than 0 and 1"),
        ("BYTES", [1], b"\x05\x00\x00\x00abc", "preceded by its length"),
        ("BYTES", [2], b"\x01\x00\x00\x00a", "must have 2 elements"),
        ("BYTES", [1], b"\x01\x00", "preceded by its length"),
        ("BYTES", [1], b"\x01\x00\x00\x00\xff", "not valid UTF-8"),
    ],
)
def test_binary_data_of_the_wrong_length_is_refused(datatype: str, shape: list[int], content: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        decode_binary(datatype, shape, memoryview(content), "inputs[0]")


def test_type_that_the_protocol_cannot_carry_is_refused() -> None:
    assert onnx_datatype("tensor(uint16)") == "UINT16"
    with pytest.raises(ModelUnavailable, match="zipmap"):
        onnx_datatype("seq(map(int64,tensor(float)))")

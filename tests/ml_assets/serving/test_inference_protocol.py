import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_assets.resources.errors import InvalidInput, RequestError
from ml_assets.serving.inference_protocol import read_inference_request, write_inference_response
from ml_assets.serving.servable import Servable, open_servable
from ml_assets.serving.tensors import DATATYPES, encode_binary, encode_json
from tests.ml_assets.serving.models import COLUMNS, ROWS, write_echo

ONE = {"name": "features", "shape": [1, 3], "datatype": "FP32", "data": [1.5, 7, 1]}
BY_COLUMN = [
    {"name": "late", "shape": [1], "datatype": "BOOL", "data": [True]},
    {"name": "hour", "shape": [1, 1], "datatype": "INT64", "data": [[7]]},
    {"name": "distance", "shape": [1], "datatype": "FP64", "data": [1.5]},
]


def _read(tree: Any, servable: Servable) -> Any:
    return read_inference_request(json.dumps(tree).encode(), None, servable)


@pytest.mark.parametrize("inputs", [[ONE], [ONE | {"name": "input-0"}], BY_COLUMN])
def test_table_comes_as_one_tensor_or_as_one_for_each_column(inputs: Any, servable: Servable) -> None:
    feeds = _read({"inputs": inputs}, servable).feeds
    np.testing.assert_array_equal(feeds["features"], np.array([[1.5, 7, 1]], dtype=np.float32))


def test_response_has_all_outputs_or_those_that_are_asked_for(servable: Servable) -> None:
    request = _read({"id": "7", "inputs": [ONE]}, servable)
    [content], length = write_inference_response(servable.run(request.feeds), request, {"model_name": "linear"})
    tree = json.loads(content)
    assert length is None
    assert [(each["name"], each["datatype"], each["shape"]) for each in tree["outputs"]] == [
        ("predictions", "FP32", [1]),
        ("probabilities", "FP32", [1, 2]),
    ]
    assert tree["outputs"][0]["data"] == pytest.approx([12.015])
    assert _read({"inputs": [ONE], "outputs": [{"name": "probabilities"}]}, servable).outputs == {
        "probabilities": False
    }


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_goes_in_and_comes_out_in_json_and_in_binary(datatype: str, tmp_path: Path) -> None:
    from onnx import TensorProto

    kinds = {"FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE", "BYTES": "STRING"}
    values: Any = {"BOOL": [True, False], "BYTES": ["a", "ü"]}.get(datatype, [1, 2])
    write_echo(tmp_path / "echo", TensorProto.DataType.Value(kinds.get(datatype, datatype)), [values])
    echo = open_servable(tmp_path / "echo")
    array = np.array([values], dtype=DATATYPES[datatype])
    plain = {"name": "values", "shape": [1, 2], "datatype": datatype}
    request = _read({"inputs": [plain | {"data": values}]}, echo)
    [content], _ = write_inference_response(echo.run(request.feeds), request, {})
    [output] = json.loads(content)["outputs"]
    assert (output["datatype"], output["shape"], output["data"]) == (datatype, [1, 2], values)

    binary = encode_binary(array)
    head = json.dumps(
        {
            "inputs": [plain | {"parameters": {"binary_data_size": len(binary)}}],
            "outputs": [{"name": "predictions", "parameters": {"binary_data": True}}],
        }
    ).encode()
    request = read_inference_request(head + binary, len(head), echo)
    parts, length = write_inference_response(echo.run(request.feeds), request, {})
    assert length == len(parts[0])
    assert json.loads(parts[0])["outputs"][0]["parameters"] == {"binary_data_size": len(binary)}
    assert parts[1] == binary
    assert encode_json(array) is not None


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ([], "the request must be an object"),
        ({}, "inputs must be a list of at least one tensor"),
        ({"inputs": []}, "inputs must be a list of at least one tensor"),
        ({"inputs": [1]}, r"inputs\[0\] must be an object"),
        ({"inputs": [ONE], "input": 1}, "the unknown field 'input'"),
        ({"inputs": [ONE | {"dtype": "FP32"}]}, r"inputs\[0\] has the unknown field 'dtype'"),
        ({"inputs": [ONE], "id": 7}, "id must be a string"),
        ({"inputs": [ONE], "parameters": 7}, "parameters must be an object"),
        ({"inputs": [ONE | {"name": 7}]}, r"inputs\[0\].name must be a string"),
        ({"inputs": [ONE, ONE]}, r"inputs\[1\].name 'features' occurs twice"),
        ({"inputs": [{"name": "features"}]}, r"inputs\[0\] lacks data"),
        ({"inputs": [ONE | {"shape": [3], "data": [1, 2, 3]}]}, "inputs has the unknown column 'features'"),
        (
            {"inputs": [ONE | {"shape": [1, 2], "data": [1, 2]}]},
            r"inputs\[0\].data must be numbers of shape \[rows, 3\]",
        ),
        ({"inputs": [ONE | {"shape": [0, 3], "data": []}]}, "no rows"),
        ({"inputs": [ONE | {"data": [1, 7.5, 1]}]}, r"inputs\[0\].data\[0, 1\] \(hour\) must be a whole number"),
        ({"inputs": [ONE | {"data": [None, 7, 1]}]}, r"\(distance\) must be a number.*got null"),
        ({"inputs": BY_COLUMN[1:]}, "inputs lacks the column late"),
        ({"inputs": [*BY_COLUMN, ONE]}, "the unknown column 'features'"),
        (
            {"inputs": [BY_COLUMN[0], BY_COLUMN[1] | {"datatype": "BYTES", "data": ["7"]}, BY_COLUMN[2]]},
            "the input hour",
        ),
        ({"inputs": [ONE], "outputs": {}}, "outputs must be a list"),
        (
            {"inputs": [ONE], "outputs": [{"name": "label"}]},
            r"outputs\[0\].name is 'label'.*outputs are predictions, prob",
        ),
        ({"inputs": [ONE], "outputs": [{"name": ["a"]}]}, r"outputs\[0\].name"),
    ],
)
def test_wrong_request_is_refused_with_the_field(tree: Any, said: str, servable: Servable) -> None:
    with pytest.raises(InvalidInput, match=said):
        _read(tree, servable)


@pytest.mark.parametrize(
    ("size", "length", "said"),
    [(13, None, "binary_data_size is 13"), (8, None, "belong to no tensor"), (12, 1000, "Content-Length is 1000")],
)
def test_binary_data_that_does_not_add_up_is_refused(
    size: int, length: int | None, said: str, servable: Servable
) -> None:
    tensor = {"name": "features", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    if size == 8:
        tensor |= {"shape": [1, 2]}
    head = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(RequestError, match=said):
        read_inference_request(head + bytes(12), length or len(head), servable)


def test_tensor_of_another_type_or_shape_is_refused_with_what_the_model_takes(tmp_path: Path) -> None:
    write_echo(tmp_path / "echo", 1, [[1.0, 2.0]])
    echo = open_servable(tmp_path / "echo")
    tensor = {"name": "values", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}
    for wrong, said in (
        (tensor, r"the input values must be FP32 of shape \[-1, -1\].*got FP64 of shape \[1, 2\]"),
        (tensor | {"datatype": "FP32", "shape": [2]}, r"got FP32 of shape \[2\]"),
        (tensor | {"name": "value"}, "unknown tensor 'value'; the model's tensors are values"),
    ):
        with pytest.raises(InvalidInput, match=said):
            _read({"inputs": [wrong]}, echo)


def test_metadata_names_what_the_example_has(servable: Servable) -> None:
    assert [spec.name for spec in servable.inputs] == list(COLUMNS)
    assert len(ROWS[0]) == len(servable.inputs)

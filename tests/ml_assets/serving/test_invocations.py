import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml_assets.resources.errors import InvalidInput, MediaTypeRefused, RequestError
from ml_assets.serving.invocations import read_invocation, write_predictions
from ml_assets.serving.servable import Servable, open_servable
from tests.ml_assets.serving.models import COLUMNS, ROWS, TYPED_COLUMNS, write_echo, write_typed

FRAME = pd.DataFrame(ROWS, columns=list(COLUMNS))
SPLIT = {"columns": list(COLUMNS), "data": ROWS}
RECORDS = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]


def _read(tree: Any, servable: Servable) -> Any:
    return read_invocation(json.dumps(tree).encode(), "application/json; charset=UTF-8", servable)


@pytest.mark.parametrize(
    "tree",
    [
        {"dataframe_split": SPLIT},
        {"dataframe_split": FRAME.to_dict(orient="split")},
        {"dataframe_split": {"columns": list(COLUMNS)[::-1], "data": [row[::-1] for row in ROWS]}},
        {"dataframe_records": RECORDS},
        {"dataframe_records": [dict(reversed(record.items())) for record in RECORDS]},
        {"instances": RECORDS},
        {"instances": ROWS},
        {"inputs": FRAME.to_dict(orient="list")},
        {"inputs": RECORDS, "params": {}},
        {"inputs": RECORDS, "params": None},
        {"inputs": RECORDS, "params": {"temperature": 1}},
    ],
)
def test_every_form_of_json_gives_the_same_rows(tree: Any, servable: Servable) -> None:
    np.testing.assert_array_equal(_read(tree, servable)["features"], np.array(ROWS, dtype=np.float32))


@pytest.mark.parametrize("index", [True, False])
def test_csv_as_pandas_writes_it_gives_the_same_rows(index: bool, servable: Servable) -> None:
    feeds = read_invocation(FRAME.to_csv(index=index).encode(), "text/csv", servable)
    np.testing.assert_array_equal(feeds["features"], np.array(ROWS, dtype=np.float32))


def test_whole_numbers_of_64_bits_are_the_same_in_json_and_in_csv(tmp_path: Path) -> None:
    write_typed(tmp_path / "typed")
    typed = open_servable(tmp_path / "typed")
    row = dict(zip(TYPED_COLUMNS, ("UA", 2**53 + 1, 1.5, True), strict=True))
    csv = "carrier,flight,distance,late\nUA,9007199254740993,1.5,true\n"
    for feeds in (
        _read({"dataframe_records": [row]}, typed),
        read_invocation(csv.encode(), "text/csv", typed),
        read_invocation(
            json.dumps({"instances": [row], "params": {"a": float("nan")}}).encode(), "application/json", typed
        ),
    ):
        assert typed.run(feeds)["flights"].tolist() == [[2**53 + 1]]


def test_word_nan_that_python_writes_is_a_missing_value(tmp_path: Path) -> None:
    from tests.ml_assets.serving.models import write_model

    write_model(tmp_path / "linear", required=False)
    optional = open_servable(tmp_path / "linear")
    assert np.isnan(_read({"instances": [[float("nan"), 7, True]]}, optional)["features"][0, 0])
    assert np.isnan(read_invocation(b"late,hour,distance\ntrue,7,\n", "text/csv", optional)["features"][0, 0])
    assert np.isnan(_read({"dataframe_records": [{"hour": 7, "late": True}]}, optional)["features"][0, 0])


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ([ROWS], "the body must be a JSON object"),
        ({}, "no data"),
        ({"dataframe_split": SPLIT, "instances": ROWS}, "dataframe_split and instances"),
        ({"data": ROWS}, "the unknown field 'data'"),
        ({"instances": ROWS, "params": ["temperature"]}, "params must be an object"),
        ({"dataframe_split": ROWS}, "must be an object with columns and data"),
        ({"dataframe_split": {"data": ROWS}}, "must be an object with columns and data"),
        ({"dataframe_split": SPLIT | {"columns": "distance"}}, "columns must be a list of names"),
        ({"dataframe_split": SPLIT | {"columns": ["distance", "hour", "early"]}}, "the unknown column 'early'"),
        ({"dataframe_split": SPLIT | {"dtypes": []}}, "the unknown field 'dtypes'"),
        ({"dataframe_split": SPLIT | {"data": []}}, "no rows"),
        ({"dataframe_split": SPLIT | {"data": [[1, 2]]}}, r"data\[0\] must be a list of 3 values.*got 2 values"),
        ({"dataframe_split": SPLIT | {"data": [1]}}, r"data\[0\] must be a list of 3 values"),
        (
            {"dataframe_split": SPLIT | {"data": [[1, "x", True]]}},
            r"dataframe_split.data\[0\]\[1\] must be a whole number",
        ),
        ({"dataframe_records": {}}, "must be a list of at least one object"),
        ({"dataframe_records": [1]}, r"dataframe_records\[0\] must be an object"),
        ({"dataframe_records": [RECORDS[0], {"hour": 7}]}, r"dataframe_records\[1\] lacks the columns distance, late"),
        ({"dataframe_records": [RECORDS[0] | {"tail": "N1"}]}, r"dataframe_records\[0\] has the unknown column 'tail'"),
        ({"dataframe_records": [RECORDS[0] | {"late": None}]}, r"dataframe_records\[0\].late must be true or false"),
        ({"instances": 1}, "instances must be a list"),
        ({"inputs": {"distance": [1], "hour": [1, 2], "late": [True]}}, "differ in length"),
    ],
)
def test_wrong_request_is_refused_with_the_field(tree: Any, said: str, servable: Servable) -> None:
    with pytest.raises((InvalidInput, RequestError), match=said):
        _read(tree, servable)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no data rows"),
        (b"distance,hour,late\n", "no data rows"),
        (b"distance,hour,late\n1,2\n", "row 1 of the CSV has 2 values"),
        (b"distance,hour\n1,2\n", "lacks the column late"),
        (b"distance,hour,late\n1,x,true\n", "row 1 of the CSV, column hour, must be a whole number.*got 'x'"),
        (b"distance,hour,late\n1,2,maybe\n", "column late, must be true or false"),
        (b'distance,hour,late\n"1,2,true\n', "not CSV"),
        (b"\xff\xfe", "not CSV"),
    ],
)
def test_wrong_csv_is_refused_with_row_and_column(body: bytes, said: str, servable: Servable) -> None:
    with pytest.raises((InvalidInput, RequestError), match=said):
        read_invocation(body, "text/csv", servable)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/json; charset=latin-1", "application/x-parquet"])
def test_other_types_of_body_are_refused(kind: str, servable: Servable) -> None:
    with pytest.raises(MediaTypeRefused, match=r"Content-Type .* is not supported"):
        read_invocation(b"{}", kind, servable)


def test_what_is_not_json_is_refused_without_a_trace(servable: Servable) -> None:
    for body in (b"", b"{", b"\xff", b"[" * 100_000 + b"NaN", b'{"a": NaN', b'["\\ud800", NaN]'):
        with pytest.raises(RequestError, match="the body is not JSON"):
            read_invocation(body, "application/json", servable)


def test_tensors_come_as_inputs_or_instances(tmp_path: Path) -> None:
    write_echo(tmp_path / "echo", 1, [[1.0, 2.0]])
    echo = open_servable(tmp_path / "echo")
    for tree in (
        {"inputs": [[1, 2]]},
        {"inputs": {"values": [[1, 2]]}},
        {"instances": [[1, 2]]},
        {"instances": [{"values": [1, 2]}]},
    ):
        feeds = _read(tree, echo)
        assert json.loads(write_predictions(echo.run(feeds), echo)) == {"predictions": [[1.0, 2.0]]}
    for tree, said in (
        ({"dataframe_split": SPLIT}, "dataframe_split contains columns"),
        ({"inputs": {"value": [[1]]}}, "inputs must have exactly the inputs values"),
        ({"inputs": [["x"]]}, r"inputs.values.data\[0\]"),
        ({"inputs": [1, 2]}, "must be FP32 of shape"),
        ({"instances": [{"value": 1}]}, r"instances\[0\] must have exactly the fields values"),
    ):
        with pytest.raises(InvalidInput, match=said):
            _read(tree, echo)


def test_predictions_that_are_labels_are_strings(tmp_path: Path) -> None:
    write_echo(tmp_path / "echo", 8, [["a", "b"]])
    echo = open_servable(tmp_path / "echo")
    feeds = _read({"inputs": [["late", "early"]]}, echo)
    assert json.loads(write_predictions(echo.run(feeds), echo)) == {"predictions": [["late", "early"]]}

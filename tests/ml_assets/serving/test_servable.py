import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_assets.resources.errors import InvalidInput, ModelUnavailable
from ml_assets.serving.servable import Servable, open_servable
from tests.ml_assets.serving.models import COLUMNS, ROWS, linear_graph, write_files, write_model

COLUMN = {"type": "double", "required": True}
EXAMPLE = {"inputs": {"columns": list(COLUMNS), "data": ROWS}, "outputs": {"predictions": [13.0, 48.0]}}


def _signature(*kinds: str) -> dict[str, Any]:
    columns = [{"name": name, "type": kind, "required": True} for name, kind in zip(COLUMNS, kinds, strict=True)]
    return {"inputs": columns}


def test_batch_gives_the_numbers_that_requests_get(servable: Servable) -> None:
    columns = {name: [row[index] for row in ROWS] for index, name in enumerate(COLUMNS)}
    outputs = servable.predict_columns(columns)
    np.testing.assert_allclose(outputs["predictions"], [8.005, 48.0], rtol=1e-5)
    with pytest.raises(InvalidInput, match="lacks the columns hour, late"):
        servable.predict_columns({"distance": [1.0]})


@pytest.mark.parametrize(
    ("graph", "signature", "example", "said"),
    [
        (b"no graph", _signature("double", "long", "boolean"), EXAMPLE, "ONNX Runtime .* cannot load model.onnx"),
        (None, {"inputs": [1]}, EXAMPLE, "not a model's signature"),
        (None, _signature("double", "long", "datetime"), EXAMPLE, "column 'late' has the type datetime"),
        (
            None,
            _signature("double", "long", "string"),
            EXAMPLE,
            r"takes features \[-1, 3\].* columns distance, hour, late",
        ),
        (None, {"inputs": [{"name": "a", **COLUMN}]}, EXAMPLE, "the columns a"),
        (
            None,
            _signature("double", "long", "boolean"),
            EXAMPLE,
            r"the recorded predictions differ.* \[8.00.*but \[13.0, 48.0\] is recorded",
        ),
        (
            None,
            _signature("double", "long", "boolean"),
            EXAMPLE | {"outputs": {"predictions": [8.005]}},
            "recorded predictions differ",
        ),
        (
            None,
            _signature("double", "double", "double"),
            EXAMPLE,
            "does not accept its recorded example.*must be a number",
        ),
        (None, _signature("double", "long", "boolean"), {}, "fails on its recorded example: KeyError"),
    ],
)
def test_model_that_cannot_be_served_says_why(
    graph: bytes | None, signature: Any, example: Any, said: str, tmp_path: Path
) -> None:
    write_files(tmp_path / "model", graph or linear_graph((0.01, 1, 5)), signature, example)
    with pytest.raises(ModelUnavailable, match=said):
        open_servable(tmp_path / "model")


def test_one_column_of_predictions_is_a_list_where_the_signature_says_so(tmp_path: Path) -> None:
    from onnx import TensorProto

    from tests.ml_assets.serving.models import echo_graph

    column = {"name": "a", **COLUMN}
    output = {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1]}}
    example = {"inputs": {"columns": ["a"], "data": [[1.0]]}, "outputs": {"predictions": [1.0]}}
    write_files(tmp_path / "m", echo_graph(TensorProto.FLOAT), {"inputs": [column], "outputs": [output]}, example)
    servable = open_servable(tmp_path / "m")
    assert servable.predict_columns({"a": [1.0, 2.0]})["predictions"].shape == (2,)


def test_no_file_but_graph_signature_and_example_is_opened(tmp_path: Path) -> None:
    write_model(tmp_path / "m", listed=True)
    (tmp_path / "m" / "model.skops").unlink()
    assert json.loads((tmp_path / "m" / "example.json").read_text())["inputs"] == open_servable(tmp_path / "m").example

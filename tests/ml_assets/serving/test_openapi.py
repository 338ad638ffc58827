"""The server's OpenAPI description, and the server fuzzed with it."""

import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ml_assets.serving.servable import Servable, open_servable
from ml_assets.serving.tensors import DATATYPES
from tests.ml_assets.serving.asgi import application, ask
from tests.ml_assets.serving.models import write_echo, write_model, write_typed
from tests.ml_assets.serving.servers import Server, serving

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


MODELS: dict[str, Callable[[Path], str]] = {
    "matrix": write_model,
    "columns": write_typed,
    "tensor": lambda directory: write_echo(directory, 1, [[1.0, 2.0]]),
}


@pytest.fixture(scope="module", params=MODELS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp(request.param)
    MODELS[request.param](folder / "model")
    with serving(folder / "server", f"file:{folder / 'model'}", workers=1, log_requests="errors") as started:
        started.wait_until_ready()
        yield started


def test_whatever_is_sent_is_answered_as_described(server: Server) -> None:
    described = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    for operation in described.get_all_operations():
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if operation.ok().method == "post" else ():

            @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            @given(case=operation.ok().as_strategy(generation_mode=mode))
            def check(case: schemathesis.Case) -> None:
                case.call_and_validate(checks=CHECKS)

            check()


def test_tensors_whose_shape_and_data_agree_are_predicted_or_refused(server: Server) -> None:
    """A description cannot state that both agree, so tensors generated from it are seldom consistent."""
    inputs = json.loads(server.ask("/v2/models/model")[2])["inputs"]
    described = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    infer, invoke = described["/v2/models/model/infer"]["POST"], described["/invocations"]["POST"]

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(tensors=st.integers(1, 3).flatmap(lambda rows: st.tuples(*(_tensor(each, rows) for each in inputs))))
    def check(tensors: tuple[Any, ...]) -> None:
        values = {each["name"]: each["data"] for each in tensors}
        if inputs[0]["shape"][1:] != [1]:
            values = {each["name"]: np.reshape(each["data"], each["shape"]).tolist() for each in tensors}
        for operation, sent in ((infer, list(tensors)), (invoke, values)):
            case = operation.Case(body={"inputs": sent}, media_type="application/json")
            case.call_and_validate(checks=CHECKS)

    check()


def _tensor(spec: dict[str, Any], rows: int) -> st.SearchStrategy[dict[str, Any]]:
    shape = [rows, *(2 if size == -1 else size for size in spec["shape"][1:])]
    dtype = DATATYPES[spec["datatype"]]
    value: st.SearchStrategy[Any] = {
        "b": st.booleans(),
        "i": st.integers(-(2**63), 2**63 - 1),
        "f": st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32),
        "O": st.text(),
    }[dtype.kind]
    size = math.prod(shape)
    return st.lists(value, min_size=size, max_size=size).map(
        lambda data: {"name": spec["name"], "datatype": spec["datatype"], "shape": shape, "data": data}
    )


def test_no_worker_died_of_it(server: Server) -> None:
    metrics = server.ask("/metrics")[2].decode()
    for endpoint, status in itertools.product(("infer", "invocations"), (200, 400)):
        assert f'requests_total{{endpoint="{endpoint}",status="{status}"}}' in metrics
    assert server.ask("/v2/health/ready")[0] == 200
    assert not [line for line in server.log_lines() if "is replaced" in line["message"]]
    assert not [line for line in server.log_lines() if line["message"] == "a request failed"]


def test_document_describes_the_models_own_columns(servable: Servable) -> None:
    document = ask(application(servable), "/openapi.json").json
    record = document["components"]["schemas"]["Invocation"]["anyOf"][1]["properties"]["dataframe_records"]["items"]
    assert record["properties"]["hour"]["type"] == "integer"
    assert record["required"] == ["distance", "hour", "late"]
    assert record["additionalProperties"] is False
    assert f"/v2/models/linear/versions/{servable.identity.version}/infer" in document["paths"]


def test_page_needs_no_network_and_its_example_works(servable: Servable) -> None:
    page = ask(application(servable), "/docs")
    text = page.body.decode()
    assert page.headers["content-type"].startswith("text/html")
    assert "http://" not in text
    assert "https://" not in text
    import html
    import re

    example = html.unescape(re.search(r"<textarea[^>]*>(.*?)</textarea>", text, re.S)[1])  # type: ignore[index]
    assert ask(application(servable), "/invocations", json.loads(example)).status == 200
    assert ask(application(servable), "/example").json == json.loads(example)


def test_model_of_tensors_is_described_by_them(tmp_path: Path) -> None:
    write_echo(tmp_path / "echo", 1, [[1.0, 2.0]])
    app = application(open_servable(tmp_path / "echo"))
    tensor = ask(app, "/openapi.json").json["components"]["schemas"]["InferenceRequest"]["properties"]["inputs"][
        "items"
    ]
    assert tensor["properties"]["name"] == {"const": "values"}
    assert ask(app, "/docs").status == 200

"""The server's description of itself, and the server fuzzed from it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ml_assets.serving.servable import Servable, open_servable
from tests.ml_assets.serving.asgi import application, ask
from tests.ml_assets.serving.models import write_echo
from tests.ml_assets.serving.servers import Server, serving

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model_directory: Path) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("server"), f"file:{model_directory}", workers=1, log_requests="errors"
    ) as started:
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


def test_no_worker_died_of_it(server: Server) -> None:
    metrics = server.ask("/metrics")[2].decode()
    # A description cannot say that shape and data agree, so what is made up of it is seldom a whole tensor.
    for endpoint, status in (("infer", 400), ("invocations", 400), ("invocations", 200)):
        assert f'requests_total{{endpoint="{endpoint}",status="{status}"}}' in metrics
    assert server.ask("/v2/health/ready")[0] == 200
    assert not [line for line in server.log_lines() if "another takes its place" in line["message"]]
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

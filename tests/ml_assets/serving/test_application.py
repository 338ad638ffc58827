import asyncio
import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ml_assets.serving.application import BEGAN, VERSION
from ml_assets.serving.ipc import Readiness
from ml_assets.serving.servable import Servable
from tests.ml_assets.serving.asgi import Answer, application, ask, request
from tests.ml_assets.serving.models import COLUMNS, ROWS

SPLIT = {"dataframe_split": {"columns": list(COLUMNS), "data": ROWS}}
INFER = {"inputs": [{"name": "features", "shape": [1, 3], "datatype": "FP32", "data": [1.5, 7, 1]}]}


@pytest.fixture
def version(servable: Servable) -> str:
    return servable.identity.version


def test_pages_of_the_protocol_answer_as_it_says(servable: Servable, version: str) -> None:
    app = application(servable)
    assert ask(app, "/v2/health/live").json == {"live": True}
    assert ask(app, "/v2/health/ready").status == 200
    assert ask(app, "/v2").json == {"name": "ml-assets-serve", "version": VERSION, "extensions": ["binary_tensor_data"]}
    for model in ("/v2/models/linear", f"/v2/models/linear/versions/{version}"):
        assert ask(app, f"{model}/ready").json == {"name": "linear", "ready": True}
        metadata = ask(app, model).json
        assert (metadata["name"], metadata["versions"], metadata["platform"]) == ("linear", [version], "onnx_onnxv1")
        assert metadata["inputs"][1] == {"name": "hour", "datatype": "INT64", "shape": [-1, 1]}
        assert metadata["outputs"][0] == {"name": "predictions", "datatype": "FP32", "shape": [-1]}
        answer = ask(app, f"{model}/infer", {"id": "42", **INFER}).json
        assert (answer["id"], answer["model_name"], answer["model_version"]) == ("42", "linear", version)


def test_pages_of_mlflow_answer_as_its_server_does(servable: Servable) -> None:
    app = application(servable)
    assert ask(app, "/ping").status == ask(app, "/health").status == 200
    assert ask(app, "/version").body.decode() == VERSION
    assert ask(app, "/invocations", SPLIT).json == {"predictions": pytest.approx([8.005, 48.0])}


def test_every_answer_names_model_digest_image_and_request(servable: Servable) -> None:
    app = application(servable)
    identity = servable.identity
    for answer in (ask(app, "/invocations", SPLIT), ask(app, "/v2/models/linear/infer", INFER), ask(app, "/nowhere")):
        assert answer.headers["ml-assets-model"] == str(identity.digest)
        assert answer.headers["ml-assets-model-digest"] == str(identity.digest)
        assert answer.headers["ml-assets-image-digest"] == "sha256:" + "1" * 64
        assert len(answer.headers["x-request-id"]) == 32
    parameters = ask(app, "/v2/models/linear/infer", INFER).json["parameters"]
    assert parameters == {"model_digest": str(identity.digest), "image_digest": "sha256:" + "1" * 64}


def test_request_id_is_the_clients_or_that_of_its_trace(servable: Servable) -> None:
    app = application(servable)
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    assert ask(app, "/v2", headers={"X-Request-Id": "mine", "traceparent": trace}).headers["x-request-id"] == "mine"
    assert ask(app, "/v2", headers={"traceparent": trace}).headers["x-request-id"] == "a" * 32
    forged = ask(app, "/v2", headers={"X-Request-Id": "a\tb"}).headers["x-request-id"]
    assert "\t" not in forged


@pytest.mark.parametrize(
    ("path", "method", "status", "said"),
    [
        ("/v2/models/other/infer", "POST", 404, "model 'other' is not served. Next: request model linear"),
        ("/v2/models/linear/versions/9/infer", "POST", 404, "version '9' of linear is not served"),
        ("/v2/models/linear/versions", "GET", 404, "no page exists at"),
        ("/v2/models/linear/train", "POST", 404, "no page exists at"),
        ("/v2/models/", "GET", 404, "model '' is not served"),
        ("/v2/models", "GET", 404, "no page exists at"),
        ("/v2/models/linear/infer", "GET", 405, "does not allow the method GET. Next: use POST"),
        ("/v2/health/ready", "DELETE", 405, "does not allow the method DELETE. Next: use GET"),
    ],
)
def test_unknown_page_model_or_method_is_refused_as_the_protocol_says(
    path: str, method: str, status: int, said: str, servable: Servable
) -> None:
    answer = ask(application(servable), path, INFER if method == "POST" else None, method=method)
    assert answer.status == status
    assert said in answer.json["error"]
    assert ("allow" in answer.headers) == (status == 405)


def test_refusal_on_mlflows_pages_is_written_as_mlflow_does(servable: Servable) -> None:
    answer = ask(application(servable), "/invocations", {"instances": [[1, "x", True]]})
    assert answer.status == 400
    assert answer.json["error_code"] == "BAD_REQUEST"
    assert "instances[0][1] must be a whole number" in answer.json["message"]
    assert ask(application(servable), "/invocations", b"a", headers={"Content-Type": "text/plain"}).status == 415


def test_body_that_is_too_long_is_refused_by_what_it_says_and_by_what_it_is(servable: Servable) -> None:
    app = application(servable, max_body_bytes=100)
    said = ask(app, "/invocations", b"{}", headers={"Content-Length": "1000"})
    sent = ask(app, "/invocations", chunks=[b"x" * 60, b"x" * 60, b"x"])
    for answer in (said, sent):
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert "more than 100 bytes" in answer.json["message"]


def test_body_that_never_ends_is_given_up(servable: Servable) -> None:
    answer = ask(application(servable, timeout_seconds=0.05), "/invocations", chunks=[b"{"], hangs=True)
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert "did not arrive within 0.05 s" in answer.json["message"]


def test_time_of_a_request_is_counted_once_from_its_first_byte(servable: Servable) -> None:
    async def late() -> Answer:
        began = asyncio.get_running_loop().time() - 0.9
        return await request(app, "/invocations", chunks=[b"{"], hangs=True, scope={BEGAN: began})

    app, started = application(servable, timeout_seconds=1.0), time.monotonic()
    assert asyncio.run(late()).status == 408
    assert time.monotonic() - started < 0.8


def test_chunked_body_is_read_whole(servable: Servable) -> None:
    content = json.dumps(SPLIT).encode()
    answer = ask(application(servable), "/invocations", chunks=[content[:20], content[20:50], content[50:], b""])
    assert answer.status == 200


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_packed_body_is_understood(encoding: str, pack: Callable[[bytes], bytes], servable: Servable) -> None:
    app, packed = application(servable), pack(json.dumps(SPLIT).encode())
    answer = ask(app, "/invocations", packed, headers={"Content-Encoding": encoding})
    assert answer.json == ask(app, "/invocations", SPLIT).json
    for broken in (packed[:-9], b"not packed"):
        refused = ask(app, "/invocations", broken, headers={"Content-Encoding": encoding})
        assert refused.status == 400
        assert "cannot be decompressed" in refused.json["message"]


def test_small_body_that_unpacks_to_a_large_one_is_refused(servable: Servable) -> None:
    packed = gzip.compress(b"0" * 10_000_000)
    answer = ask(
        application(servable, max_body_bytes=100_000), "/invocations", packed, headers={"Content-Encoding": "gzip"}
    )
    assert len(packed) < 100_000
    assert answer.status == 413


def test_body_packed_in_another_way_is_refused(servable: Servable) -> None:
    answer = ask(application(servable), "/invocations", SPLIT, headers={"Content-Encoding": "br"})
    assert answer.status == 415
    assert "with gzip or deflate" in answer.json["message"]


def test_more_bodies_than_there_is_room_for_are_refused_for_now(servable: Servable) -> None:
    answer = ask(application(servable, queue_bytes=10), "/invocations", SPLIT)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "memory limit" in answer.json["message"]


def test_room_is_given_back_whatever_becomes_of_a_request(servable: Servable) -> None:
    app = application(servable, queue_bytes=200)
    for body in (b"{", b"x" * 150, SPLIT) * 5:
        assert ask(app, "/invocations", body).status in (200, 400)
    assert ask(app, "/invocations", chunks=[b"x" * 150, b"x" * 100, b""]).status == 503
    assert ask(app, "/invocations", SPLIT).status == 200


def test_without_a_model_it_lives_and_says_why_it_is_not_ready() -> None:
    app = application(None, readiness=Readiness(False, "the registry does not answer"))
    assert ask(app, "/v2/health/live").status == 200
    ready = ask(app, "/v2/health/ready")
    assert (ready.status, ready.json["detail"]) == (503, "the registry does not answer")
    for path in ("/invocations", "/v2/models/linear/infer"):
        answer = ask(app, path, INFER)
        assert answer.status == 503
        assert b"the registry does not answer" in answer.body
    assert ask(app, "/ping").status == 503


def test_server_that_stops_asks_clients_to_go(servable: Servable) -> None:
    app = application(servable, readiness=Readiness(False, "the server is stopping", stopping=True))
    app.tick()
    answer = ask(app, "/invocations", SPLIT)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert ask(app, "/v2/health/ready").status == ask(app, "/ping").status == 503


def test_failure_of_the_server_shows_no_stack_trace(servable: Servable, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("ml_assets.serving.application.read_invocation", fail)
    answer = ask(application(servable), "/invocations", SPLIT, headers={"X-Request-Id": "r1"})
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert "look for request r1 in the server's log" in answer.json["message"]


_TENSOR = '{"name": "features", "shape": [1, 3], "datatype": "FP32", "data": [1, 7, 1]}'


@pytest.mark.parametrize(
    ("page", "body", "said"),
    [
        ("infer", '{"inputs": [{"shape": DEEP, "name": "a", "datatype": "FP32", "data": []}]}', "inputs[0].shape must"),
        (
            "infer",
            '{"inputs": [{"shape": [1], "name": "a", "datatype": DEEP, "data": [1]}]}',
            "inputs[0].datatype must",
        ),
        (
            "infer",
            '{"inputs": [{"shape": [0, LARGE], "name": "a", "datatype": "FP32", "data": []}]}',
            "is too large for an array",
        ),
        ("infer", '{"inputs": [{"name": "a", "parameters": {"binary_data_size": DEEP}}]}', "binary_data_size is"),
        ("infer", '{"inputs": [TENSOR], "outputs": [{"name": DEEP}]}', "outputs[0].name is"),
        ("infer", '{"inputs": [TENSOR], "id": "\\ud800", "parameters": {"a": NaN}}', "surrogates"),
        ("invocations", '{"instances": [[DEEP, 7, true]]}', "instances[0][0] must be a number"),
        ("invocations", '{"dataframe_split": {"columns": [DEEP], "data": [[1]]}}', "has the unknown column"),
        ("invocations", '{"instances": [{"\\ud800": NaN}]}', "surrogates"),
    ],
)
def test_what_can_hardly_be_shown_is_refused_with_the_field(
    page: str, body: str, said: str, servable: Servable
) -> None:
    path = "/v2/models/linear/infer" if page == "infer" else "/invocations"
    content = body.replace("DEEP", "[" * 1000 + "]" * 1000).replace("TENSOR", _TENSOR).replace("LARGE", str(1 << 62))
    answer = ask(application(servable), path, content.encode())
    assert (answer.status, said in answer.body.decode()) == (400, True), answer.body
    assert len(answer.body) < 1000


def test_field_of_any_length_is_named_in_few_words(servable: Servable) -> None:
    for tree in ({"x" * 100_000: 1}, {"instances": [{"x" * 100_000: 1}]}, {"dataframe_split": {"x" * 100_000: 1}}):
        assert len(ask(application(servable), "/invocations", tree).body) < 1000
    for tree in ({"inputs": [INFER["inputs"][0] | {"x" * 100_000: 1}]}, {"x" * 100_000: 1}):
        assert len(ask(application(servable), "/v2/models/linear/infer", tree).body) < 1000


def test_head_has_the_headers_of_get(servable: Servable) -> None:
    app = application(servable)
    head, get = ask(app, "/v2", method="HEAD"), ask(app, "/v2")
    assert head.body == b""
    assert head.headers["content-length"] == get.headers["content-length"]


def test_metrics_count_requests_errors_runs_and_what_was_seen(servable: Servable) -> None:
    app = application(servable)
    ask(app, "/invocations", SPLIT)
    ask(app, "/invocations", b"{")
    lines = set(_samples(ask(app, "/metrics")))
    model = f'model="linear",version="{servable.identity.version}"'
    assert {
        'ml_assets_serve_requests_total{endpoint="invocations",status="200"} 1.0',
        'ml_assets_serve_errors_total{cause="RequestError"} 1.0',
        "ml_assets_serve_batch_rows_sum 2.0",
        "ml_assets_serve_queue_seconds_count 1.0",
        f'ml_assets_serve_feature_sum{{feature="hour",{model}}} 30.0',
        f"ml_assets_serve_prediction_count{{{model}}} 2.0",
    } <= lines


def _samples(answer: Answer) -> Iterator[str]:
    return (line for line in answer.body.decode().splitlines() if not line.startswith("#"))


def test_version_is_that_of_the_project() -> None:
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION


def test_batch_and_online_give_the_same_numbers(servable: Servable) -> None:
    import numpy as np

    random = np.random.default_rng(0)
    columns = {
        "distance": random.uniform(0, 5000, 200),
        "hour": random.integers(0, 24, 200),
        "late": random.random(200) < 0.5,
    }
    batch = servable.predict_columns(columns)["predictions"]
    body = {"inputs": {name: values.tolist() for name, values in columns.items()}}
    online = ask(application(servable), "/invocations", body).json["predictions"]
    np.testing.assert_array_equal(np.array(online, dtype=np.float32), batch)

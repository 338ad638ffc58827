"""Spans as a collector receives them over HTTP."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ml_assets.serving.servable import Servable
from ml_assets.serving.tracing import Tracer
from tests.ml_assets.serving.asgi import application, ask

TRACE, PARENT = "a" * 32, "b" * 16


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            import gzip

            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            request = ExportTraceServiceRequest.FromString(body)
            spans.extend(
                span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
            )
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", spans
        server.shutdown()
        thread.join()


def test_request_is_a_span_of_the_clients_trace(servable: Servable, collector: tuple[str, list[Any]]) -> None:
    address, spans = collector
    app = application(servable)
    app._tracer = Tracer(address, {"model.name": "linear"})
    body = {"inputs": [{"name": "features", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 0]}]}
    ask(app, "/v2/models/linear/infer", body, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    ask(app, "/v2/health/live")
    app._tracer.close()
    [span] = spans
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.name) == (TRACE, PARENT, "POST infer")
    attributes = {each.key: each.value for each in span.attributes}
    assert attributes["model.digest"].string_value == str(servable.identity.digest)
    assert attributes["http.response.status_code"].int_value == 200
    assert span.end_time_unix_nano > span.start_time_unix_nano

"""OpenTelemetry spans of requests, if an endpoint is set; otherwise OpenTelemetry is not imported."""

import time
from typing import Any

from ml_assets.resources.extras import require

__all__ = ["Tracer"]


class Tracer:
    """Sends one span per request, within the client's trace if there is one.

    Args:
        endpoint: endpoint of an OpenTelemetry collector, over HTTP.
        attributes: attributes of every span's resource.
    """

    def __init__(self, endpoint: str, attributes: dict[str, str]) -> None:
        require("opentelemetry.exporter.otlp.proto.http")
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = TracerProvider(resource=Resource.create({"service.name": "ml-assets-serve", **attributes}))
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("ml_assets.serving")
        self._extract = TraceContextTextMapPropagator().extract
        self._kind, self._error = SpanKind.SERVER, StatusCode.ERROR

    def request(self, headers: dict[bytes, bytes], name: str, seconds: float, status: int, **attributes: Any) -> None:
        """Record a request that ends now."""
        parent = self._extract(
            {key: headers[key.encode()].decode("latin-1") for key in _CONTEXT if key.encode() in headers}
        )
        ended = time.time_ns()
        span = self._tracer.start_span(name, parent, self._kind, attributes, start_time=ended - int(seconds * 1e9))
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(self._error)
        span.end(ended)

    def close(self) -> None:
        """Send the remaining spans."""
        self._provider.shutdown()


_CONTEXT = ("traceparent", "tracestate")

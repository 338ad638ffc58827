"""The ASGI application of one worker: routes, limits, and the headers of every response.

It uses plain ASGI, because a framework would need more time per request than the model.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import orjson

from ml_assets.resources.errors import (
    MethodNotAllowed,
    NotServed,
    Overloaded,
    PredictionFailed,
    ServingError,
)
from ml_assets.serving.batching import Batcher, BatchReport
from ml_assets.serving.bodies import BodyReader, Receive, json_length
from ml_assets.serving.drift_stats import Observer
from ml_assets.serving.inference_protocol import (
    BINARY_EXTENSION,
    PLATFORM,
    read_inference_request,
    write_inference_response,
)
from ml_assets.serving.invocations import read_invocation, write_predictions
from ml_assets.serving.ipc import Readiness
from ml_assets.serving.logs import LogLines
from ml_assets.serving.metrics import CONTENT_TYPE, Metrics
from ml_assets.serving.responses import Reply, json_reply, refusal
from ml_assets.serving.servable import Servable
from ml_assets.serving.settings import ServeSettings

__all__ = ["BEGAN", "Application"]

SERVER_NAME = "ml-assets-serve"
VERSION = "0.1.0"
BEGAN = "ml_assets.began"
"""Key of an ASGI scope: the arrival time of the request's first byte, by the event loop's clock."""

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_IN_HEADERS = "".join(map(chr, range(0x20, 0x7F)))
_TRACE_ID = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-")
_WARM_UPS = 20
_QUIET = ("live", "ready", "ping", "metrics")
_Send = Callable[[dict[str, Any]], Awaitable[None]]

_log = logging.getLogger(__name__)


class Application:
    """Answers the requests of one worker.

    Args:
        settings: limits, and names for the responses.
        servable: the model; None if no model is loaded.
        metrics: metrics of this process.
        readiness: called for each readiness request.
        lines: the log; None logs no requests.
        tracer: tracer of this process, if tracing is on.
    """

    def __init__(
        self,
        settings: ServeSettings,
        servable: Servable | None,
        metrics: Metrics,
        readiness: Callable[[], Readiness],
        lines: LogLines | None = None,
        tracer: Any = None,
    ) -> None:
        self._settings = settings
        self._servable = servable
        self._metrics = metrics
        self._readiness = readiness
        self._lines = lines
        self._tracer = tracer
        self.closing = False
        """True if every response asks the client to open a new connection for its next request."""
        self._in_flight = 0
        self._bodies = BodyReader(settings)
        self._batcher: Batcher | None = None
        self._observer: Observer | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._head: dict[str, Any] = {}
        if servable is not None:
            self._serve(servable)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: _Send) -> None:
        """Answer one ASGI request."""
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = _request_id(headers)
        endpoint = "unknown"
        self._in_flight += 1
        try:
            endpoint, reply = await self._answered(scope, headers, receive, request_id)
            await self._send(send, reply, request_id, scope["method"] == "HEAD")
        finally:
            self._in_flight -= 1
        seconds = time.perf_counter() - started
        self._metrics.request(endpoint, reply.status, seconds)
        if reply.cause:
            self._metrics.error(reply.cause)
        self._write_log(scope, endpoint, reply, request_id, seconds)
        if self._tracer is not None and endpoint not in _QUIET:
            identity = self._servable.identity if self._servable else None
            self._tracer.request(
                headers,
                f"{scope['method']} {endpoint}",
                seconds,
                reply.status,
                **{"request.id": request_id, "model.digest": str(identity.digest) if identity else ""},
            )

    def warm_up(self) -> None:
        """Run warm-up requests, so that the first client does not wait for initialization."""
        servable = self._servable
        if servable is None or servable.example is None:
            return
        form = "inputs" if servable.table is None else "dataframe_split"
        body = orjson.dumps({form: servable.example})
        for _ in range(_WARM_UPS):
            write_predictions(servable.run(read_invocation(body, "application/json", servable)), servable)

    def tick(self) -> None:
        """Publish the collected metrics; called about once a second."""
        self.closing = self.closing or self._readiness().stopping
        self._metrics.set_load(self._in_flight, self._batcher.waiting_rows if self._batcher else 0)
        observation = self._observer.take() if self._observer else None
        if observation is not None:
            self._metrics.observed(observation)
        if self._lines is not None:
            self._lines.flush()

    def _serve(self, servable: Servable) -> None:
        settings, identity = self._settings, servable.identity
        image = settings.image_digest or "unknown"
        self._batcher = Batcher(
            servable,
            most_rows=settings.batch_rows,
            delay=settings.batch_delay_ms / 1000,
            queue_rows=settings.queue_rows,
            report=self._ran,
        )
        self._observer = Observer(servable)
        self._headers = [
            (b"ml-assets-model", quote(identity.traced_by, safe=_IN_HEADERS).encode()),
            (b"ml-assets-model-digest", str(identity.digest).encode()),
            (b"ml-assets-image-digest", image.encode()),
        ]
        self._head = {
            "model_name": identity.name,
            "model_version": identity.version,
            "parameters": {"model_digest": str(identity.digest), "image_digest": image},
        }

    def _ran(self, report: BatchReport) -> None:
        self._metrics.batch(report)
        observation = self._observer.add(report) if self._observer else None
        if observation is not None:
            self._metrics.observed(observation)

    async def _answered(
        self, scope: dict[str, Any], headers: dict[bytes, bytes], receive: Receive, request_id: str
    ) -> tuple[str, Reply]:
        path: str = scope["path"]
        endpoint, handlers = "unknown", None
        try:
            endpoint, handlers = self._route(path)
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            if method not in handlers:
                raise MethodNotAllowed(
                    f"{path[:100]} does not allow the method {method}", next_step=f"use {' or '.join(handlers)}"
                )
            began = scope.get(BEGAN) or asyncio.get_running_loop().time()
            until = began + self._settings.timeout_seconds
            return endpoint, await handlers[method](headers, receive, until, request_id)
        except ServingError as error:
            reply = refusal(error, path)
            if isinstance(error, MethodNotAllowed) and handlers:
                reply.headers.append((b"allow", ", ".join(handlers).encode()))
            return endpoint, reply
        except Exception:
            _log.exception("a request failed", extra={"fields": {"request_id": request_id, "path": path[:200]}})
            failure = PredictionFailed(
                "internal server error", next_step=f"look for request {request_id} in the server's log"
            )
            return endpoint, refusal(failure, path)

    def _route(self, path: str) -> tuple[str, dict[str, Callable[..., Awaitable[Reply]]]]:
        """Return the name of the route for metrics, and its handlers by method."""
        if path in _PAGES:
            endpoint, method, name = _PAGES[path]
            return endpoint, {method: getattr(self, name)}
        parts = path.split("/")
        if parts[:3] == ["", "v2", "models"] and len(parts) > 3:
            rest = self._checked_model(parts[3:])
            if rest in _MODEL_PAGES:
                endpoint, method, name = _MODEL_PAGES[rest]
                return endpoint, {method: getattr(self, name)}
        raise NotServed(
            f"no page exists at {path[:100]}", next_step="see /docs, or /v2 for the Open Inference Protocol"
        )

    def _checked_model(self, parts: list[str]) -> str:
        """Return the rest of the path after model and version; raise an error if these are not served."""
        identity = self._model().identity
        name, rest = parts[0], parts[1:]
        if name != identity.name:
            raise NotServed(f"model {name[:100]!r} is not served", next_step=f"request model {identity.name}")
        if rest[:1] == ["versions"] and len(rest) > 1:
            version, rest = rest[1], rest[2:]
            if version != identity.version:
                raise NotServed(
                    f"version {version[:100]!r} of {name} is not served",
                    next_step=f"request version {identity.version}",
                )
        return "/".join(rest)

    def _model(self) -> Servable:
        if self._servable is None:
            raise Overloaded(
                f"no model is loaded yet: {self._readiness().detail or 'the model is being fetched'}",
                next_step="retry in a moment",
            )
        return self._servable

    async def _infer(self, headers: dict[bytes, bytes], receive: Receive, until: float, request_id: str) -> Reply:
        servable = self._model()
        body = await self._bodies.read(headers, receive, until)
        try:
            request = read_inference_request(body, json_length(headers), servable)
            outputs = await self._predicted(request.feeds, until)
        finally:
            self._bodies.release(body)
        head = {**self._head, "id": request.id if request.id is not None else request_id}
        parts, length_of_json = write_inference_response(outputs, request, head)
        if length_of_json is None:
            return Reply(200, parts)
        length = (b"inference-header-content-length", str(length_of_json).encode())
        return Reply(200, parts, b"application/octet-stream", [length])

    async def _invoke(self, headers: dict[bytes, bytes], receive: Receive, until: float, request_id: str) -> Reply:
        servable = self._model()
        body = await self._bodies.read(headers, receive, until)
        try:
            feeds = read_invocation(body, headers.get(b"content-type", b"").decode("latin-1"), servable)
            outputs = await self._predicted(feeds, until)
        finally:
            self._bodies.release(body)
        return Reply(200, [write_predictions(outputs, servable)])

    async def _predicted(self, feeds: Any, until: float) -> Any:
        if self._batcher is None:
            raise AssertionError("a model without a batcher")
        try:
            async with asyncio.timeout_at(until):
                return await self._batcher.predict(feeds)
        except TimeoutError as error:
            raise Overloaded(
                f"the request could not be answered within {self._settings.timeout_seconds:g} s",
                next_step="send fewer rows, or retry later",
            ) from error

    async def _live(self, *_: Any) -> Reply:
        return json_reply(200, {"live": True})

    async def _ready(self, *_: Any) -> Reply:
        found = self._readiness()
        detail = {"detail": found.detail} if found.detail else {}
        return json_reply(200 if found.ready else 503, {"live": True, "ready": found.ready, **detail})

    async def _model_ready(self, *_: Any) -> Reply:
        found, name = self._readiness(), self._model().identity.name
        return json_reply(200 if found.ready else 503, {"name": name, "ready": found.ready})

    async def _server(self, *_: Any) -> Reply:
        return json_reply(200, {"name": SERVER_NAME, "version": VERSION, "extensions": [BINARY_EXTENSION]})

    async def _metadata(self, *_: Any) -> Reply:
        servable = self._model()
        identity = servable.identity
        return json_reply(
            200,
            {
                "name": identity.name,
                "versions": [identity.version],
                "platform": PLATFORM,
                "inputs": [spec.as_json() for spec in servable.inputs],
                "outputs": [spec.as_json() for spec in servable.outputs],
                "parameters": self._head["parameters"],
            },
        )

    async def _ping(self, *_: Any) -> Reply:
        self._model()
        found = self._readiness()
        if not found.ready:
            raise Overloaded(found.detail or "the server is not ready", next_step="retry in a moment")
        return Reply(200, [b"\n"])

    async def _version(self, *_: Any) -> Reply:
        return Reply(200, [VERSION.encode()], b"text/plain; charset=utf-8")

    async def _exposition(self, *_: Any) -> Reply:
        self.tick()
        return Reply(200, [self._metrics.exposition()], CONTENT_TYPE.encode())

    async def _openapi(self, *_: Any) -> Reply:
        from ml_assets.serving.openapi import openapi_document

        return json_reply(200, openapi_document(self._model(), self._settings))

    async def _example(self, *_: Any) -> Reply:
        from ml_assets.serving.openapi import example_request

        return json_reply(200, example_request(self._model()))

    async def _docs(self, *_: Any) -> Reply:
        from ml_assets.serving.openapi import documentation_page

        return Reply(200, [documentation_page(self._model(), self._settings)], b"text/html; charset=utf-8")

    async def _send(self, send: _Send, reply: Reply, request_id: str, head_only: bool) -> None:
        body = reply.parts[0] if len(reply.parts) == 1 else b"".join(reply.parts)
        headers = [
            (b"content-type", reply.content_type),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            *self._headers,
            *reply.headers,
        ]
        if self.closing or reply.close:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if head_only else body})

    def _write_log(self, scope: dict[str, Any], endpoint: str, reply: Reply, request_id: str, seconds: float) -> None:
        if self._lines is None or (
            reply.status < 400 and (self._settings.log_requests == "errors" or endpoint in _QUIET)
        ):
            return
        client = scope.get("client")
        fields = {"error": orjson.Fragment(reply.parts[0])} if reply.cause else {}
        self._lines.line(
            "info" if reply.status < 500 else "error",
            "request",
            request_id=request_id,
            method=scope["method"],
            path=scope["path"][:200],
            status=reply.status,
            milliseconds=round(seconds * 1000, 3),
            client=client[0] if client else None,
            **fields,
        )


_PAGES = {
    "/v2": ("server", "GET", "_server"),
    "/v2/health/live": ("live", "GET", "_live"),
    "/v2/health/ready": ("ready", "GET", "_ready"),
    "/invocations": ("invocations", "POST", "_invoke"),
    "/ping": ("ping", "GET", "_ping"),
    "/health": ("ping", "GET", "_ping"),
    "/version": ("version", "GET", "_version"),
    "/metrics": ("metrics", "GET", "_exposition"),
    "/openapi.json": ("openapi", "GET", "_openapi"),
    "/example": ("example", "GET", "_example"),
    "/docs": ("docs", "GET", "_docs"),
}
_MODEL_PAGES = {
    "": ("metadata", "GET", "_metadata"),
    "ready": ("model_ready", "GET", "_model_ready"),
    "infer": ("infer", "POST", "_infer"),
}


def _request_id(headers: dict[bytes, bytes]) -> str:
    """Return the request id: the client's, the trace's, or a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode()
    trace = _TRACE_ID.match(headers.get(b"traceparent", b""))
    return trace[1].decode() if trace else os.urandom(16).hex()

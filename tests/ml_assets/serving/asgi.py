"""Requests to an application without a network."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_assets.serving.application import Application
from ml_assets.serving.ipc import Readiness
from ml_assets.serving.metrics import Metrics
from ml_assets.serving.servable import Servable
from ml_assets.serving.settings import ServeSettings


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def application(servable: Servable | None, *, readiness: Readiness | None = None, **settings: Any) -> Application:
    """Return an application with these settings."""
    chosen = ServeSettings(
        **({"model": "file:/models/linear", "image": "registry.example/serve@sha256:" + "1" * 64} | settings)
    )
    found = readiness or Readiness(True)
    return Application(chosen, servable, Metrics(None, "", servable.identity if servable else None), lambda: found)


def ask(app: Application, path: str, body: Any = None, **options: Any) -> Answer:
    """Send one request and return the answer: anything but bytes is sent as JSON; options are those of `request`."""
    return asyncio.run(request(app, path, body, **options))


async def request(
    app: Application,
    path: str,
    body: Any = None,
    *,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
    chunks: list[bytes] | None = None,
    hangs: bool = False,
    scope: Mapping[str, Any] | None = None,
) -> Answer:
    """Send one request, possibly concurrently with others, and return the answer; a body that hangs never ends."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    given = {"content-type": "application/json"} | {name.lower(): value for name, value in (headers or {}).items()}
    parts = list(chunks) if chunks is not None else [content]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not parts:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": parts.pop(0), "more_body": hangs or bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    whole = {
        "type": "http",
        "method": method or ("GET" if body is None and chunks is None else "POST"),
        "path": path,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        **(scope or {}),
    }
    await app(whole, receive, send)
    start, *rest = sent
    return Answer(
        start["status"],
        {name.decode(): value.decode() for name, value in start["headers"]},
        b"".join(message["body"] for message in rest),
    )

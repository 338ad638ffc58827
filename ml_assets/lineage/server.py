"""Trace pages for browsers, rendered on request, for users of the Dagster UI who have no shell.

``/trace?ref=REF`` shows the inputs and uses of REF; ``direction=up`` or ``down`` and ``depth=N`` narrow the answer.
``/health`` reports that the server is up. The server is read-only.
"""

import html
import logging
import re
import socket
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from string import Template
from threading import Lock
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

from ml_assets.addresses import Addresses
from ml_assets.lineage.graph import Trace
from ml_assets.lineage.html_page import page_policy, render_page
from ml_assets.lineage.service import Lineage
from ml_assets.resources.errors import AmbiguousReference, LineageError, MlAssetsError, SettingsError, UnknownReference
from ml_assets.resources.settings import Settings

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["application", "serve"]

NODE_LIMIT: Final = 2_000
"""Maximum number of nodes on a page, so that it stays readable."""

_DEPTH: Final = re.compile(r"[0-9]{0,4}")
_logger = logging.getLogger(__name__)
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_NARROWER: Final = (
    ("only upstream", {"direction": "up"}),
    ("only downstream", {"direction": "down"}),
    ("two steps in both directions", {"depth": "2"}),
    ("one step in both directions", {"depth": "1"}),
)


def serve(lineage: Lineage, settings: Settings, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Args:
        lineage: answers the questions.
        settings: the target's settings.
        host: address to bind.
        port: port to bind; 0 chooses a free one.
        say: called with a line for the user.

    Raises:
        SettingsError: the address cannot be bound.
    """
    import uvicorn

    try:
        listening = socket.create_server((host, port))
    except OSError as error:
        raise SettingsError(
            f"cannot bind {host}:{port}: {error.strerror or error}", next_step="set another --host or --port"
        ) from error
    public = settings.lineage.ui_url
    names = ["localhost", "127.0.0.1", host, (urlsplit(public).hostname if public else None) or host]
    config = uvicorn.Config(
        application(lineage, Addresses.of(settings), hosts=names),
        log_level="warning",
        server_header=False,
    )
    with listening:
        say(f"trace pages: http://{host}:{listening.getsockname()[1]} (Ctrl-C stops)")
        uvicorn.Server(config).run(sockets=[listening])


def application(lineage: Lineage, addresses: Addresses, hosts: list[str]) -> "Starlette":
    """Return the pages as an ASGI application.

    Args:
        lineage: answers the questions.
        addresses: addresses of the UIs that pages link to.
        hosts: accepted host names. A script of another site cannot read the server under a host name of its own.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    pages = _Pages(lineage, addresses)
    return Starlette(
        routes=[
            Route("/", pages.home),
            Route("/trace", pages.trace),
            Route("/health", lambda _: PlainTextResponse("ok")),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
    )


class _Pages:
    def __init__(self, lineage: Lineage, addresses: Addresses) -> None:
        self._lineage, self._addresses = lineage, addresses
        # Rendering the page of a large graph takes several hundred megabytes.
        self._one_at_a_time = Lock()

    def home(self, request: "Request") -> "Response":
        return _message("Lineage", "Enter a reference to show everything upstream and downstream of it.", 200)

    def trace(self, request: "Request") -> "Response":
        wanted = request.query_params
        if not wanted.get("ref", "").strip():
            return self.home(request)
        try:
            return _page(self._render(wanted), 200, page_policy())
        except MlAssetsError as error:
            return _refusal(wanted["ref"], error)

    def _render(self, wanted: Mapping[str, str]) -> str:
        with self._one_at_a_time:
            found = self._trace(wanted)
            return render_page(found, self._lineage.records(found.graph), self._addresses, served=True)

    def _trace(self, wanted: Mapping[str, str]) -> Trace:
        direction, depth = wanted.get("direction", ""), wanted.get("depth", "")
        if direction not in ("", "up", "down") or not _DEPTH.fullmatch(depth):
            raise UnknownReference(
                f"direction={direction} depth={depth} is not valid",
                next_step="set direction to up or down, and depth to 1 or more",
            )
        return self._lineage.trace(
            wanted["ref"],
            up=direction != "down",
            down=direction != "up",
            depth=int(depth) if depth else None,
            limit=NODE_LIMIT,
        )


def _refusal(reference: str, error: MlAssetsError) -> "Response":
    if isinstance(error, UnknownReference | AmbiguousReference):
        return _message(f"Lineage of {reference}", f"{error.what}. Next: {error.next_step}.", 404)
    if isinstance(error, LineageError):
        return _message(f"Lineage of {reference}", f"{error.what}.", 422, reference)
    _logger.error("%s", error)
    return _message(f"Lineage of {reference}", str(error), 503)


def _message(title: str, text: str, status: int, narrower: str | None = None) -> "Response":
    """Return a page with a form and no graph."""
    links = "".join(
        f'<li><a href="?{html.escape(urlencode({"ref": narrower} | options))}">{html.escape(shown)}</a></li>'
        for shown, options in (_NARROWER if narrower is not None else ())
    )
    filled = Template(_template()).substitute(title=html.escape(title), text=html.escape(text), links=links)
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'"
    return _page(filled, status, policy)


def _page(text: str, status: int, policy: str) -> "Response":
    from starlette.responses import HTMLResponse

    return HTMLResponse(text, status, {**_HEADERS, "Content-Security-Policy": f"{policy}; frame-ancestors 'none'"})


@cache
def _template() -> str:
    return (files("ml_assets.lineage") / "page" / "message.html").read_text(encoding="utf-8")

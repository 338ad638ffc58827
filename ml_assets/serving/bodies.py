"""Request bodies: read within limits of size, time and memory, and parsed as JSON."""

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from ml_assets.resources.errors import BodyTooLarge, BodyTooSlow, ClientGone, MediaTypeRefused, Overloaded, RequestError
from ml_assets.serving.settings import ServeSettings

__all__ = ["BodyReader", "Receive", "json_length", "read_json"]

_PACKED = (b"gzip", b"deflate")
_EITHER_HEADER = 32
"""Makes zlib accept gzip's header as well as its own."""

Receive = Callable[[], Awaitable[dict[str, Any]]]
"""An ASGI receive function."""


class BodyReader:
    """Reads the request bodies of one process.

    Args:
        settings: the limits.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._held = 0

    async def read(self, headers: dict[bytes, bytes], receive: Receive, until: float) -> bytes:
        """Return the whole body, decompressed. It counts as held memory until it is released.

        Args:
            headers: headers of the request.
            receive: yields the body in parts.
            until: deadline, by the event loop's clock.

        Raises:
            BodyTooLarge: the body exceeds the size limit.
            BodyTooSlow: the body did not arrive before the deadline.
            ClientGone: the client disconnected.
            MediaTypeRefused: the content encoding is not supported.
            RequestError: the body does not match its content encoding.
            Overloaded: all bodies together exceed the memory limit.
        """
        most, room = self._settings.max_body_bytes, self._settings.queue_bytes - self._held
        declared = headers.get(b"content-length", b"0")
        self._check_size(int(declared) if declared.isdigit() else 0, most, room)
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in (b"identity", *_PACKED):
            raise MediaTypeRefused(
                f"the content encoding {encoding.decode('latin-1')[:20]!r} is not supported",
                next_step="send the body uncompressed, or compress it with gzip or deflate",
            )
        message = await self._received(receive, until)
        body: bytes = message.get("body", b"")
        self._check_size(len(body), most, room)
        if message.get("more_body", False):
            body = await self._rest(body, receive, most, until)
        if encoding in _PACKED:
            body = _unpacked(body, most)
            self._check_size(len(body), most, self._settings.queue_bytes - self._held)
        self._held += len(body)
        return body

    async def _rest(self, first: bytes, receive: Receive, most: int, until: float) -> bytes:
        body = bytearray(first)
        counted = len(body)
        self._held += counted
        try:
            more = True
            while more:
                message = await self._received(receive, until)
                body += message.get("body", b"")
                more = message.get("more_body", False)
                self._held += len(body) - counted
                counted = len(body)
                self._check_size(counted, most, self._settings.queue_bytes - self._held + counted)
        finally:
            self._held -= counted
        return bytes(body)

    async def _received(self, receive: Receive, until: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError as error:
            raise BodyTooSlow(
                f"the body did not arrive within {self._settings.timeout_seconds:g} s",
                next_step="send a smaller body, or send it faster",
            ) from error
        if message["type"] == "http.disconnect":
            raise ClientGone("the client disconnected", next_step="send the request again")
        return message

    @staticmethod
    def _check_size(size: int, most: int, room: int) -> None:
        if size > most:
            raise BodyTooLarge(f"the body has more than {most} bytes", next_step="send fewer rows per request")
        if size > room:
            raise Overloaded("the memory limit for request bodies is reached", next_step="retry later")

    def release(self, body: bytes) -> None:
        """Release the memory of a body that was read."""
        self._held -= len(body)


def _unpacked(body: bytes, most: int) -> bytes:
    """Return the decompressed body, or one byte more than the limit."""
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | _EITHER_HEADER)
    try:
        found = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise RequestError(f"the body cannot be decompressed: {error}", next_step="compress it again") from error
    if len(found) <= most and not unpacker.eof:
        raise RequestError("the body cannot be decompressed: it is truncated", next_step="send the whole body")
    return found


def read_json(body: bytes) -> Any:
    """Return the JSON value in a body. NaN and Infinity, which Python clients write, are accepted.

    Raises:
        RequestError: the body is not JSON.
    """
    problem: Exception
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        problem = error
    try:
        if b"NaN" in body or b"Infinity" in body:
            tree = json.loads(body, parse_int=orjson.loads)
            orjson.dumps(tree)  # reject invalid UTF-8 and too deep nesting, which a response could not contain
            return tree
    except (ValueError, TypeError, RecursionError) as error:
        problem = error
    raise RequestError(
        f"the body is not JSON: {problem}", next_step="send JSON in UTF-8 with Content-Type: application/json"
    ) from problem


def json_length(headers: dict[bytes, bytes]) -> int | None:
    """Return the length of the JSON part of a body with binary tensors, if its header gives one.

    Raises:
        RequestError: the header is not a whole number.
    """
    given = headers.get(b"inference-header-content-length")
    if given is None:
        return None
    if not given.isdigit() or len(given) > 18:
        raise RequestError(
            "Inference-Header-Content-Length must be a whole number", next_step="send the length of the JSON part"
        )
    return int(given)

"""Responses before they are sent, and the mapping of errors to a status and the error format of the protocol."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from ml_assets.resources.errors import (
    BodyTooLarge,
    BodyTooSlow,
    ClientGone,
    InvalidInput,
    MediaTypeRefused,
    MethodNotAllowed,
    NotServed,
    Overloaded,
    PredictionFailed,
    RequestError,
    ServingError,
)

__all__ = ["Reply", "json_reply", "refusal"]

STATUSES: dict[type[ServingError], int] = {
    RequestError: 400,
    InvalidInput: 400,
    NotServed: 404,
    MethodNotAllowed: 405,
    BodyTooSlow: 408,
    BodyTooLarge: 413,
    MediaTypeRefused: 415,
    ClientGone: 499,
    PredictionFailed: 500,
    Overloaded: 503,
}
_MLFLOW_CODES = {
    400: "BAD_REQUEST",
    404: "RESOURCE_DOES_NOT_EXIST",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}


@dataclass
class Reply:
    """A response, without the headers that every response has."""

    status: int
    parts: list[bytes]
    content_type: bytes = b"application/json"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    close: bool = False
    """True if the connection closes after this response."""
    cause: str | None = None
    """Name of the error; None for a successful response."""


def json_reply(status: int, tree: dict[str, Any]) -> Reply:
    """Return a JSON response."""
    return Reply(status, [orjson.dumps(tree)])


def refusal(error: ServingError, path: str) -> Reply:
    """Return the response to an error: in the Open Inference Protocol's format on its routes, in MLflow's elsewhere."""
    status = STATUSES.get(type(error), 500)
    if path.startswith("/v2"):
        reply = json_reply(status, {"error": str(error)})
    else:
        code = _MLFLOW_CODES.get(status, "INVALID_PARAMETER_VALUE")
        reply = json_reply(status, {"error_code": code, "message": str(error)})
    reply.cause = type(error).__name__
    # An unread body must not be parsed as the next request.
    reply.close = isinstance(error, BodyTooLarge | BodyTooSlow)
    if status == 503:
        reply.headers.append((b"retry-after", b"1"))
    return reply

"""Answers before they are sent, and what becomes of errors: a status, and the words of the protocol that was spoken."""

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
    """An answer, without the headers that every answer has."""

    status: int
    parts: list[bytes]
    content_type: bytes = b"application/json"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    close: bool = False
    """Whether the connection ends with it."""
    cause: str | None = None
    """Why it is a refusal."""


def json_reply(status: int, tree: dict[str, Any]) -> Reply:
    """An answer in JSON."""
    return Reply(status, [orjson.dumps(tree)])


def refusal(error: ServingError, path: str) -> Reply:
    """The answer that an error becomes: on the pages of the Open Inference Protocol its words, elsewhere MLflow's."""
    status = STATUSES.get(type(error), 500)
    if path.startswith("/v2"):
        reply = json_reply(status, {"error": str(error)})
    else:
        code = _MLFLOW_CODES.get(status, "INVALID_PARAMETER_VALUE")
        reply = json_reply(status, {"error_code": code, "message": str(error)})
    reply.cause = type(error).__name__
    # What is left of a body that nobody reads must not be taken for the next request.
    reply.close = isinstance(error, BodyTooLarge | BodyTooSlow)
    if status == 503:
        reply.headers.append((b"retry-after", b"1"))
    return reply

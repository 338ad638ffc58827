"""What is in a request's body."""

import json
from typing import Any

import orjson

from resources.errors import RequestError

__all__ = ["read_json"]


def read_json(body: bytes) -> Any:
    """The JSON value in a body. The words NaN and Infinity, which Python's clients write and JSON has not, are read.

    Raises:
        RequestError: it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        problem = error
    try:
        if b"NaN" in body or b"Infinity" in body:
            return json.loads(body)
    except (ValueError, RecursionError):
        pass
    raise RequestError(
        f"the body is not JSON: {problem}", next_step="send JSON in UTF-8 with Content-Type: application/json"
    ) from problem

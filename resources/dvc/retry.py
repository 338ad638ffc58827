"""Repetition of requests to a server that fails for a moment."""

import errno
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from ml_assets.resources.errors import MlAssetsError

__all__ = ["is_transient", "repeated"]

_logger = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 10.0
_REPEATED_STATUSES: Final = {408, 425, 429, 500, 502, 503, 504}
_REPEATED_CODES: Final = {
    "BadDigest",
    "IncompleteBody",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
}
"""Codes of S3 that do not depend on the HTTP status: some come with status 200 or 400."""
_PERMANENT_ERRNOS: Final = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EINVAL,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOSYS,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
_TRANSIENT_NAMES: Final = (
    "ClientConnectionError",
    "ClientPayloadError",
    "ConnectionError",
    "ConnectionClosedError",
    "HTTPClientError",
    "IncompleteRead",
    "ProtocolError",
    "ResponseStreamingError",
    "ServerDisconnectedError",
    "ServiceRequestError",
    "ServiceResponseError",
    "SSHException",
    "Timeout",
    "TimeoutError",
)
"""Classes of the server libraries, by name, because only the library of the server in use is installed."""
_PERMANENT_NAMES: Final = ("SSLError", "InvalidProxiesConfigError")

_Result = TypeVar("_Result")


def repeated(operation: Callable[[], _Result], seconds: float, name: str) -> _Result:
    """Return the result of an operation; while it fails for a moment, repeat it with growing, random pauses.

    The operation must have the same effect once and twice, because a server may report a failure after it succeeded.

    Args:
        operation: called at least once.
        seconds: no repetition starts later than this after the first failure.
        name: of the server, for the log.

    Raises:
        Exception: the last error, if it is permanent or the time is over.
    """
    deadline, pause = 0.0, _FIRST_PAUSE
    while True:
        try:
            return operation()
        except Exception as error:
            now = time.monotonic()
            if not deadline:
                deadline = now + seconds
            wait = pause * random.uniform(0.5, 1.5)  # noqa: S311  # spreads the load; it is no secret
            if not is_transient(error) or now + wait > deadline:
                raise
            level = logging.WARNING if pause > 1 else logging.INFO
            _logger.log(level, "the %s failed and is asked again (%.0f s left): %s", name, deadline - now, error)
        time.sleep(wait)
        pause = min(pause * 2, _LONGEST_PAUSE)


def is_transient(error: BaseException) -> bool:
    """Return True if the same request may succeed later: the server failed, is busy, or the connection broke.

    A refusal (no such object, no permission, wrong request) and a full disk on this side are permanent.
    """
    if isinstance(error, MlAssetsError):
        return False
    for each in _chain(error):
        response = getattr(each, "response", None)
        if isinstance(response, dict):  # of botocore
            code = response.get("Error", {}).get("Code")
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return code in _REPEATED_CODES or status in _REPEATED_STATUSES
        for name in ("status", "status_code", "code"):
            status = getattr(each, name, getattr(response, name, None))
            if isinstance(status, int) and 400 <= status <= 599:  # HTTP's errors
                return status in _REPEATED_STATUSES
    names = {base.__name__ for base in type(error).__mro__}
    if not names.isdisjoint(_PERMANENT_NAMES):
        return False
    if isinstance(error, OSError) and error.errno in _PERMANENT_ERRNOS:
        return False
    if isinstance(error, FileNotFoundError | PermissionError | FileExistsError | IsADirectoryError):
        return False
    return isinstance(error, OSError | EOFError) or not names.isdisjoint(_TRANSIENT_NAMES)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__

"""Requests that fail for a moment are repeated, refusals are not."""

import errno
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
    SSLError,
)
from s3fs.errors import translate_boto_error

from ml_assets.resources.dvc import retry
from ml_assets.resources.dvc.retry import is_transient, repeated
from ml_assets.resources.errors import ContentCorrupt


def answer(code: str, status: int) -> Exception:
    error = ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")
    return translate_boto_error(error)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "error",
    [
        *(answer(str(status), status) for status in (408, 429, 500, 502, 503, 504)),
        answer("InternalError", 200),
        answer("RequestTimeout", 400),
        answer("SlowDown", 503),
        EndpointConnectionError(endpoint_url="http://x"),
        ConnectTimeoutError(endpoint_url="http://x"),
        ReadTimeoutError(endpoint_url="http://x"),
        aiohttp.ClientPayloadError("cut"),
        aiohttp.ServerDisconnectedError(),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        BrokenPipeError(errno.EPIPE, "broken"),
        TimeoutError("no answer"),
        OSError(errno.EIO, "input/output"),
        EOFError(),
    ],
    ids=repr,
)
def test_fault_of_a_moment_is_transient(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        *(answer(str(status), status) for status in (400, 401, 403, 404, 405, 412, 501)),
        answer("NoSuchBucket", 404),
        answer("AccessDenied", 403),
        answer("InvalidAccessKeyId", 403),
        NoCredentialsError(),
        ParamValidationError(report="x"),
        SSLError(endpoint_url="https://x", error="certificate"),
        FileNotFoundError("key"),
        PermissionError("Access Denied"),
        OSError(errno.ENOSPC, "full"),
        OSError(errno.EDQUOT, "quota"),
        ContentCorrupt("x", next_step="y"),
        TypeError("x"),
    ],
    ids=repr,
)
def test_refusal_is_permanent(error: Exception) -> None:
    assert not is_transient(error)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Times at which an operation ran; the clock moves only while it is slept."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(retry.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(retry.time, "sleep", sleep)
    return now


def failing(clock: list[float], error: Exception, times: float) -> tuple[Any, list[float]]:
    ran: list[float] = []

    def operation() -> str:
        ran.append(clock[0])
        if len(ran) <= times:
            raise error
        return "done"

    return operation, ran


def test_operation_is_repeated_with_growing_random_pauses(clock: list[float]) -> None:
    operation, ran = failing(clock, TimeoutError(), 8)
    assert repeated(operation, 120, "remote") == "done"
    pauses = [after - before for before, after in pairwise(ran)]
    assert len(pauses) == 8
    assert all(0.5 <= pause / (0.1 * 2**turn) <= 1.5 for turn, pause in enumerate(pauses[:7]))
    assert pauses[7] <= 15
    assert len({pause / (0.1 * 2**turn) for turn, pause in enumerate(pauses)}) == 8


def test_last_error_is_raised_at_the_deadline(clock: list[float]) -> None:
    operation, ran = failing(clock, TimeoutError("the last"), float("inf"))
    with pytest.raises(TimeoutError, match="the last"):
        repeated(operation, 30, "remote")
    assert 15 < ran[-1] <= 30


def test_refusal_is_raised_at_once(clock: list[float]) -> None:
    operation, ran = failing(clock, FileNotFoundError("key"), 1)
    with pytest.raises(FileNotFoundError):
        repeated(operation, 30, "remote")
    assert len(ran) == 1

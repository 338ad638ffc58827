"""Waits for an MLflow server that stops answering after a step has begun."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from ml_assets.resources.errors import TrackingError
from ml_assets.resources.sqlite_url import sqlite_file
from ml_assets.resources.tracking.store import check_server, public_uri, tracking_errors

__all__ = ["Patience"]

_logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_PAUSE_SECONDS = 2.0
_PASSING = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
"""MLflow's codes of errors that have nothing to do with the values sent. A lost connection is an internal error."""
_ANSWERED_REPEATS = 3
"""Repeats of an operation that fails although the server answers."""


@dataclass
class Patience:
    """Repeats operations on a server that does not answer, until it has waited long enough in all.

    Attributes:
        seconds: longest wait of one step for its server.
    """

    uri: str
    experiment: str
    seconds: float
    _waited: float = field(default=0.0, init=False)

    def repeat(self, operation: Callable[[], _Result]) -> _Result:
        """Return the result of an operation that may be repeated.

        Raises:
            TrackingError: the server refuses the operation, or has not answered for too long.
        """
        answered = 0
        while True:
            try:
                with _impatient(self.seconds), tracking_errors(self.uri):
                    return operation()
            except TrackingError as error:
                if not self._may_pass(error):
                    raise
                answered += self._answers_again(error)
                if answered >= _ANSWERED_REPEATS:
                    raise

    def _may_pass(self, error: TrackingError) -> bool:
        """Return False for an error that another try cannot mend: of a file, or of the values sent."""
        cause = error.__cause__
        passing = getattr(cause, "error_code", _PASSING[0]) in _PASSING
        return sqlite_file(self.uri) is None and cause is not None and passing

    def _answers_again(self, error: TrackingError) -> bool:
        """Wait until the server answers; return True if it did at once."""
        begun = time.monotonic()
        first = True
        while True:
            try:
                check_server(self.uri, self.experiment)
            except TrackingError:
                waited = self._waited + time.monotonic() - begun
                if waited >= self.seconds:
                    raise TrackingError(
                        f"the MLflow server {public_uri(self.uri)} has not answered for {waited:.0f} seconds: "
                        f"{error.what}",
                        next_step="start the server, and run the step again",
                    ) from error
                if first:
                    _logger.warning(
                        f"MLflow at {public_uri(self.uri)} does not answer; waiting up to {self.seconds - waited:.0f} "
                        "seconds for it"
                    )
                first = False
                time.sleep(min(_PAUSE_SECONDS, self.seconds - waited))
            else:
                self._waited += time.monotonic() - begun
                time.sleep(_PAUSE_SECONDS / 10)
                return first


@contextmanager
def _impatient(seconds: float) -> Iterator[None]:
    """Let MLflow's client fail at the first error or timeout; by itself it repeats a request for minutes."""
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

    limits = {
        MLFLOW_HTTP_REQUEST_MAX_RETRIES: 0,
        MLFLOW_HTTP_REQUEST_TIMEOUT: min(MLFLOW_HTTP_REQUEST_TIMEOUT.get(), max(1, round(seconds))),
    }
    before = {variable: variable.get_raw() for variable in limits}
    for variable, limit in limits.items():
        variable.set(limit)
    try:
        yield
    finally:
        for variable, value in before.items():
            variable.unset() if value is None else variable.set(value)

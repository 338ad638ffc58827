"""Retries of operations on Dagster's database during a short outage, such as a restart.

Dagster retries a connection for a few seconds, and then the run or the step fails. This module retries for minutes:
reads, idempotent writes, and the writing of an event. Before it writes an event again, it searches the log for the
event, because the first write may have succeeded before the connection broke.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

import dagster as dg
from sqlalchemy import Engine, exc
from sqlalchemy.event import listen

from ml_assets.dagster_internals import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    SqlEventLogStorage,
    SqlRunStorage,
    check_captured_interrupt,
    database_of,
)
from ml_assets.resources.errors import DatabaseUnreachable

__all__ = ["call_with_retries", "retry_database_operations"]

OUTAGE_SECONDS = 600.0
"""Maximum time that an operation waits for the database."""
_PAUSE_SECONDS = 1.0
_READS = ("all_", "fetch_", "get_", "has_")
_REPEATABLE = frozenset(
    {
        "add_dynamic_partitions",
        "check_concurrency_claim",
        "claim_concurrency_slot",
        "free_concurrency_slot_for_step",
        "handle_run_event",
        "initialize_concurrency_limit_to_default",
        "set_concurrency_slots",
    }
)
"""Idempotent write operations."""
_LATEST = 1000
"""Number of a run's latest events of the same type that are searched for an event that may have been written."""
_MARK = "_ml_assets_retries"

_Result = TypeVar("_Result")
_is_repeated: ContextVar[bool] = ContextVar("ml_assets_operation_is_repeated", default=False)


def retry_database_operations(instance: dg.DagsterInstance) -> None:
    """Make this process wait, from now on, while the database of a Dagster instance does not answer.

    It reports each outage once on standard error. An operation that has waited for `OUTAGE_SECONDS` raises
    `DatabaseUnreachable`. An operation in a process that was asked to end raises `DagsterExecutionInterruptedError`.
    Databases in files are not affected.
    """
    patience = _Patience()
    for storage in (instance.event_log_storage, instance.run_storage):
        engine = _server_of(storage)
        if engine is None or _MARK in vars(storage):
            continue
        vars(storage)[_MARK] = True
        listen(engine, "do_connect", _connect)
        for name in _operations(type(storage)):
            vars(storage)[name] = patience.with_each_call_of(getattr(storage, name))
        if isinstance(storage, SqlEventLogStorage):
            _store_with(patience, storage)


def call_with_retries(operation: Callable[[], _Result], seconds: float) -> _Result:
    """Return the result of an operation, once the database answers.

    Args:
        operation: called again while the database does not answer.
        seconds: maximum time to wait.

    Raises:
        DatabaseUnreachable: the database has not answered in that time.
    """
    return _Patience(seconds).call(operation)


class _Patience:
    """Waits for a database for a limited time."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._waits = self._is_spent = False

    def call(self, operation: Callable[[], _Result], again: Callable[[], _Result] | None = None) -> _Result:
        """Return the result of an operation; ``again`` replaces it once it has failed and may have taken effect."""
        since = time.monotonic()
        token = _is_repeated.set(True)
        try:
            while True:
                try:
                    result = operation()
                except Exception as error:
                    if not _is_outage(error):
                        raise
                    self._wait(since, error)
                    operation = again or operation
                else:
                    self._go_on(since)
                    return result
        finally:
            _is_repeated.reset(token)

    def with_each_call_of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that retries each call."""
        return lambda *arguments, **options: self.call(lambda: function(*arguments, **options))

    def _wait(self, since: float, error: Exception) -> None:
        seconds = OUTAGE_SECONDS if self._seconds is None else self._seconds
        cause = str(error.__cause__ or error).strip().partition("\n")[0]
        if check_captured_interrupt():
            raise dg.DagsterExecutionInterruptedError(
                f"the process was asked to end while Dagster's database did not answer: {cause}"
            )
        # After one operation has timed out, later ones, such as reporting the failure, do not wait again.
        if self._is_spent or time.monotonic() - since >= seconds:
            self._is_spent = True
            raise DatabaseUnreachable(
                f"Dagster's database has not answered for {seconds:g} seconds: {cause}",
                next_step="restore the database or the connection to it, then re-execute the run from failure",
            ) from error
        if not self._waits:
            self._waits = True
            _say(f"Dagster's database does not answer; waiting at most {seconds:g} seconds: {cause}")
        time.sleep(_PAUSE_SECONDS)

    def _go_on(self, since: float) -> None:
        if self._waits:
            _say(f"Dagster's database answers again after {time.monotonic() - since:.0f} seconds")
        self._waits = self._is_spent = False


def _store_with(patience: _Patience, storage: SqlEventLogStorage) -> None:
    store = storage.store_event

    def store_unless_stored(entry: dg.EventLogEntry) -> None:
        if not _is_stored(storage, entry):
            store(entry)

    def store_event(entry: dg.EventLogEntry) -> None:
        patience.call(lambda: store(entry), again=lambda: store_unless_stored(entry))

    def store_event_batch(entries: Sequence[dg.EventLogEntry]) -> None:
        for entry in entries:
            store_event(entry)

    vars(storage).update(store_event=store_event, store_event_batch=store_event_batch)


def _is_stored(storage: SqlEventLogStorage, entry: dg.EventLogEntry) -> bool:
    """Return True if an event is in the log, and restore the data that Dagster stores beside the log."""
    latest = storage.get_records_for_run(
        entry.run_id, of_type=entry.dagster_event_type, limit=_LATEST, ascending=False
    ).records
    found = next((record for record in latest if _identity(record.event_log_entry) == _identity(entry)), None)
    if found is None:
        return False
    written, event = found.event_log_entry, found.event_log_entry.dagster_event
    if event is not None and event.event_type in ASSET_EVENTS and event.asset_key is not None:
        if not storage.get_event_tags_for_asset(event.asset_key, filter_event_id=found.storage_id):
            storage.store_asset_event_tags([written], [found.storage_id])
        storage.store_asset_event(written, found.storage_id)
    if event is not None and event.event_type in ASSET_CHECK_EVENTS:
        storage.store_asset_check_event(written, found.storage_id)
    return True


def _identity(entry: dg.EventLogEntry) -> Sequence[object]:
    # The log stores an event's timestamp unchanged, to the microsecond.
    return entry.timestamp, entry.dagster_event_type, entry.step_key, entry.user_message


def _operations(storage: type) -> Iterator[str]:
    """Return the names of the operations that may be repeated."""
    for name in dir(storage):
        if (name in _REPEATABLE or name.startswith(_READS)) and callable(getattr(storage, name)):
            yield name


def _connect(dialect: Any, _: object, arguments: Sequence[Any], options: dict[str, Any]) -> object:
    try:
        return dialect.connect(*arguments, **options)
    except dialect.loaded_dbapi.OperationalError as error:
        if not _is_repeated.get():
            raise
        # Dagster retries by itself after an OperationalError; this module must do the waiting instead.
        raise ConnectionError(str(error)) from error


def _server_of(storage: object) -> Engine | None:
    engine = database_of(storage) if isinstance(storage, SqlEventLogStorage | SqlRunStorage) else None
    return engine if isinstance(engine, Engine) and engine.dialect.name != "sqlite" else None


def _is_outage(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ConnectionError | exc.OperationalError | exc.TimeoutError):
            return True
        if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
            return True
        error = error.__cause__
    return False


def _say(text: str) -> None:
    # Never use logging here: Dagster may be configured to write log messages into the unreachable database.
    print(text, file=sys.stderr, flush=True)

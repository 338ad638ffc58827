"""Patience with an SQLite database that another process writes to."""

import sqlite3
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Engine

__all__ = ["wait_for_busy_sqlite"]

_MILLISECONDS: Final = 60_000


def wait_for_busy_sqlite() -> None:
    """Let every connection of this process to an SQLite database wait up to a minute for other writers.

    MLflow and Dagster create their engines themselves, with a patience of 5 and 30 seconds.
    """
    if not event.contains(Engine, "connect", _set_patience):
        event.listen(Engine, "connect", _set_patience)


def _set_patience(connection: Any, _: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        [milliseconds] = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute(f"PRAGMA busy_timeout = {max(milliseconds, _MILLISECONDS)}")

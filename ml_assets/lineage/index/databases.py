"""Databases for the lineage index: the instance's own PostgreSQL database, otherwise an SQLite file or memory."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

import sqlalchemy as sql
from filelock import FileLock
from sqlalchemy.pool import NullPool, StaticPool

from ml_assets.lineage.index import schema

__all__ = ["Database", "MemoryDatabase", "PostgresDatabase", "SqliteDatabase"]

_PATIENCE_SECONDS: Final = 60
_LOCK: Final = 0x6D6C_6173_7365_7473
"""Number of the advisory lock that writers of the index take, chosen so that no other program is likely to take it."""
_TRAVERSAL_PLAN: Final = "SET LOCAL jit = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
"""The planner cannot estimate the size of a traversal. JIT compilation would take longer than the query, and hash and
merge joins would read whole tables where a few look-ups suffice."""


class Database(Protocol):
    """A database for the tables of the index."""

    @property
    def location(self) -> str:
        """Return the location in words."""

    def writing(self) -> AbstractContextManager[sql.Connection]:
        """Return an atomic transaction that excludes other writers."""

    def reading(self) -> AbstractContextManager[sql.Connection]:
        """Return a transaction that reads one snapshot of the database."""

    def analyze(self) -> None:
        """Gather statistics of the new tables for the query planner."""

    def discard(self) -> None:
        """Delete the index, even if it is broken or was not made by this project."""


class PostgresDatabase:
    """Tables in the database of Dagster's event log.

    Args:
        connection: a connection to PostgreSQL, outside a transaction.
    """

    def __init__(self, connection: sql.Connection) -> None:
        self._connection = connection

    @property
    def location(self) -> str:
        """Return the location in words."""
        return f"tables {schema.PREFIX}… of database {self._connection.engine.url.database}"

    @contextmanager
    def writing(self) -> Iterator[sql.Connection]:
        """Return a transaction that excludes other writers."""
        # Each statement sees everything committed before it, including by earlier holders of the lock.
        connection = self._connection.execution_options(isolation_level="READ COMMITTED")
        with connection.begin():
            connection.execute(sql.select(sql.func.pg_advisory_xact_lock(_LOCK)))
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sql.Connection]:
        """Return a transaction that reads one snapshot of the database."""
        connection = self._connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            connection.exec_driver_sql(_TRAVERSAL_PLAN)
            yield connection

    def analyze(self) -> None:
        """Let the server gather statistics and enable index-only scans."""
        connection = self._connection.execution_options(isolation_level="AUTOCOMMIT")
        # Another process may be rebuilding the index already.
        with contextlib.suppress(sql.exc.ProgrammingError), connection.begin():
            connection.exec_driver_sql(f"VACUUM (ANALYZE) {', '.join(schema.table_names())}")

    def discard(self) -> None:
        """Drop the tables."""
        with self.writing() as connection:
            schema.drop_tables(connection)


class SqliteDatabase:
    """An SQLite file with a lock file beside it.

    Args:
        path: path of the file, which is created if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path.with_name(path.name + ".lock"))
        self._engine = _engine_of(path)

    @property
    def location(self) -> str:
        """Return the location in words."""
        return str(self._path)

    @contextmanager
    def writing(self) -> Iterator[sql.Connection]:
        """Return a transaction that excludes other writers."""
        # SQLite's own lock times out, but building an index may take minutes.
        with self._lock, self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sql.Connection]:
        """Return a transaction that reads one snapshot of the file."""
        with self._engine.begin() as connection:
            yield connection

    def analyze(self) -> None:
        """Let SQLite gather statistics."""
        with self.writing() as connection:
            connection.exec_driver_sql("ANALYZE")

    def discard(self) -> None:
        """Delete the file."""
        with self._lock:
            for suffix in ("", "-journal", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


class MemoryDatabase:
    """An in-memory index, for an in-memory instance."""

    location = "memory"

    def __init__(self) -> None:
        self._engine = _sqlite("sqlite://", poolclass=StaticPool)

    @contextmanager
    def writing(self) -> Iterator[sql.Connection]:
        """Return a transaction."""
        with self._engine.begin() as connection:
            yield connection

    reading = writing

    def analyze(self) -> None:
        """Let SQLite gather statistics."""
        with self.writing() as connection:
            connection.exec_driver_sql("ANALYZE")

    def discard(self) -> None:
        """Drop the tables."""
        with self.writing() as connection:
            schema.drop_tables(connection)


@lru_cache(maxsize=8)
def _engine_of(path: Path) -> sql.Engine:
    """Return the shared engine, which holds no connection and caches compiled statements."""
    return _sqlite(sql.URL.create("sqlite", database=str(path)), poolclass=NullPool)


def _sqlite(url: sql.URL | str, **options: Any) -> sql.Engine:
    engine = sql.create_engine(url, connect_args={"timeout": _PATIENCE_SECONDS}, **options)

    # Python's own transaction handling leaves DDL out of transactions.
    @sql.event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA cache_size = {-64 * 1024}")

    @sql.event.listens_for(engine, "begin")
    def begin(connection: sql.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine

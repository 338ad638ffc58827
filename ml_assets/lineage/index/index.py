"""The lineage index: a projection of Dagster's event log into SQL tables, which can be deleted at any time.

Every question syncs it first. The index is rebuilt automatically if it is missing, broken or of another form. It is
never the source of truth: events that are deleted from the log disappear from the index.
"""

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import dagster as dg
import sqlalchemy as sql

from ml_assets.dagster_internals import SqlEventLogStorage
from ml_assets.lineage.difference import Origin
from ml_assets.lineage.graph import LineageGraph, Node, NodeKind, Trace
from ml_assets.lineage.index import schema
from ml_assets.lineage.index.databases import Database, MemoryDatabase, PostgresDatabase, SqliteDatabase
from ml_assets.lineage.index.deletions import FindDeletions, mark_deleted
from ml_assets.lineage.index.event_log import EventLog
from ml_assets.lineage.index.sync import FORM, form_of, rebuild, sync
from ml_assets.lineage.index.traversal import answer, latest_nodes, subgraph
from ml_assets.lineage.questions import NODE_LIMIT, Question
from ml_assets.resources.errors import AmbiguousReference, LineageError
from ml_assets.resources.provenance import ProvenanceRecord

__all__ = ["LineageIndex", "open_index"]

_FILE: Final = "lineage.db"
_SHOWN: Final = 6

_Result = TypeVar("_Result")


@contextmanager
def open_index(instance: dg.DagsterInstance, say: Callable[[str], None] = lambda _: None) -> Iterator["LineageIndex"]:
    """Open the lineage index of an instance.

    With PostgreSQL, its tables are in the instance's database. With SQLite, it is the file ``lineage.db`` in the
    instance's root directory. Other threads that share the instance wait for its SQLite log until the block ends.

    Args:
        instance: the Dagster instance.
        say: called with a line for the user if the index must be rebuilt.

    Raises:
        LineageError: the instance does not store its event log in an SQL database.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise LineageError(
            f"lineage needs an event log in an SQL database, but this instance uses {type(storage).__name__}",
            next_step="use an instance with PostgreSQL or SQLite storage",
        )
    with storage.index_connection() as connection:
        if connection.dialect.name == "postgresql":
            database: Database = PostgresDatabase(connection)
        elif storage.is_persistent:
            database = SqliteDatabase(Path(instance.root_directory) / _FILE)
        else:
            database = MemoryDatabase()
        yield LineageIndex(EventLog(connection), database, say)


class LineageIndex:
    """The lineage index of one instance, which answers questions about lineage.

    Args:
        log: the event log that it is built from.
        database: the database that holds it.
        say: called with a line for the user if the index must be rebuilt.
    """

    def __init__(self, log: EventLog, database: Database, say: Callable[[str], None]) -> None:
        self._log, self._database, self._say = log, database, say

    @property
    def location(self) -> str:
        """Return the location in words."""
        return self._database.location

    def trace(self, question: Question, find_deletions: FindDeletions = lambda _: {}) -> Trace:
        """Return the upstream and downstream lineage of a reference, from the current event log.

        Args:
            question: the question.
            find_deletions: returns the deletion times of deleted versions; by default none.

        Raises:
            UnknownReference: no recorded artifact matches the reference.
            AmbiguousReference: several different artifacts match the reference.
            LineageError: the answer is larger than allowed, one of its events cannot be read, or the index can be
                neither read nor built.
        """
        return self._ask(lambda connection: mark_deleted(connection, answer(connection, question), find_deletions))

    def origin(self, reference: str, limit: int = NODE_LIMIT) -> Origin:
        """Return the origin of one artifact.

        Raises:
            AmbiguousReference: the reference names several artifacts.
            LineageError: as `trace` does.
        """
        trace = self.trace(Question(reference, down=False, limit=limit))
        if len(trace.starts) > 1:
            shown = ", ".join(trace.starts[:_SHOWN]) + (" …" if len(trace.starts) > _SHOWN else "")
            raise AmbiguousReference(
                f"{reference!r} matches {len(trace.starts)} materializations: {shown}", next_step="choose one of them"
            )
        node = trace.graph.nodes[trace.starts[0]]
        return Origin(node, trace.graph, self.records([node]).get(node.id))

    def records(self, nodes: Iterable[Node]) -> dict[str, ProvenanceRecord]:
        """Return the provenance records of nodes by id. Only nodes that a factory of this project made have one.

        Raises:
            LineageError: a record cannot be read.
        """
        ids = {node.storage_id: node.id for node in nodes if node.storage_id and node.kind is not NodeKind.MISSING}
        with _garbage_left_alone():
            return {ids[storage_id]: record for storage_id, record in self._log.records(ids).items()}

    def affected(self, reference: str, limit: int = NODE_LIMIT) -> tuple[Trace, frozenset[str]]:
        """Return all downstream nodes, without edges, and the ids of those that are the latest of their partition.

        Raises:
            LineageError: as `trace` does.
        """
        question = Question(reference, up=False, limit=limit)

        def ask(connection: sql.Connection) -> tuple[Trace, frozenset[str]]:
            trace = answer(connection, question, linked=False)
            return trace, latest_nodes(connection, trace.graph)

        return self._ask(ask)

    def whole(self) -> LineageGraph:
        """Return the whole graph.

        Raises:
            LineageError: an event cannot be read, or as `trace` does.
        """

        def ask(connection: sql.Connection) -> LineageGraph:
            return subgraph(connection, connection.scalars(sql.select(schema.nodes.c.key)).all())[0]

        return self._ask(ask)

    def rebuild(self) -> int:
        """Rebuild the index from nothing and return the number of its nodes.

        Raises:
            LineageError: it cannot be written.
        """
        try:
            self._database.discard()
            with _garbage_left_alone(), self._database.writing() as connection:
                rebuild(connection, self._log)
                made = connection.scalar(sql.select(sql.func.count()).select_from(schema.nodes)) or 0
            self._database.analyze()
            return made
        except (sql.exc.SQLAlchemyError, OSError) as error:
            raise self._unusable(error) from error

    def _ask(self, question: Callable[[sql.Connection], _Result]) -> _Result:
        try:
            self._sync()
            return self._query(question)
        except (sql.exc.DatabaseError, LookupError, TypeError, ValueError) as error:
            # The last three report invalid values in the tables. Any other cause is raised again below.
            self._say(f"cannot read the lineage index ({self.location}), rebuilding it: {_cause(error)}")
        except (sql.exc.SQLAlchemyError, OSError) as error:
            raise self._unusable(error) from error
        self.rebuild()
        try:
            return self._query(question)
        except sql.exc.SQLAlchemyError as error:
            raise self._unusable(error) from error

    def _query(self, question: Callable[[sql.Connection], _Result]) -> _Result:
        with _garbage_left_alone(), self._database.reading() as connection:
            return question(connection)

    def _sync(self) -> None:
        with _garbage_left_alone(), self._database.writing() as connection:
            form = form_of(connection)
            if form == FORM:
                sync(connection, self._log)
                return
            if form is not None:
                self._say(f"the lineage index ({self.location}) has form {form} instead of {FORM}, rebuilding it")
            rebuild(connection, self._log)
        self._database.analyze()

    def _unusable(self, error: Exception) -> LineageError:
        return LineageError(
            f"cannot write the lineage index ({self.location}): {_cause(error)}",
            next_step="make the location writable, with free space; the index contains only data from the event log",
        )


@contextmanager
def _garbage_left_alone() -> Iterator[None]:
    # These operations create many objects without cycles. Garbage collection would take longer than the rest.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _cause(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]

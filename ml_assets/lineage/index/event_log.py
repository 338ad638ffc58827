"""Reads Dagster's event log for the index: the events of assets, and the times at which assets were wiped.

The tables are read directly, because Dagster's own API creates an object for everything that it reads. They hold all
events of assets in one place, both on SQLite (where each run also has its own file, with other ids) and on PostgreSQL.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import dagster as dg
import sqlalchemy as sql

from ml_assets.dagster_internals import AssetKeyTable, SqlEventLogStorageTable
from ml_assets.lineage.index.event_parser import ParsedEvent, parse_event, parse_record
from ml_assets.lineage.index.schema import batches
from ml_assets.resources.provenance import ProvenanceRecord

__all__ = ["EventLog", "LoggedEvent"]

_VERSIONS: Final = (dg.DagsterEventType.ASSET_MATERIALIZATION.value, dg.DagsterEventType.ASSET_OBSERVATION.value)


class LoggedEvent(NamedTuple):
    """A materialization or observation.

    Attributes:
        fingerprint: its run and time, which distinguish it from an earlier event with the same id.
        parsed: the parsed event; None if it is not a version of its asset.
    """

    storage_id: int
    fingerprint: str
    parsed: ParsedEvent | None


class EventLog:
    """The asset events of a Dagster instance.

    Ids grow with time, but an event may become visible after one with a higher id. Events may be deleted, and SQLite
    reuses the id of a deleted event if it was the highest.

    Args:
        connection: a connection to the database of the event log.
    """

    def __init__(self, connection: sql.Connection) -> None:
        self._connection = connection

    def newest(self) -> str | None:
        """Return a mark of the event with the highest id, of any kind; None if there is no event."""
        columns = SqlEventLogStorageTable.c
        return self._mark(columns.id == sql.select(sql.func.max(columns.id)).scalar_subquery())

    def holds(self, mark: str) -> bool:
        """Return True if the event of a mark still has its id."""
        return self._mark(SqlEventLogStorageTable.c.id == int(mark.partition(" ")[0])) == mark

    def totals(self, upto: int) -> tuple[int, int]:
        """Return the count and the sum of the ids of materializations and observations, up to this id."""
        columns = SqlEventLogStorageTable.c
        counted = sql.select(sql.func.count(), sql.func.sum(columns.id)).where(_is_version(), columns.id <= upto)
        count, total = self._connection.execute(counted).one()
        return count, int(total or 0)

    def fingerprints(self, after: int) -> dict[int, str]:
        """Return the fingerprints of materializations and observations after this id, by id."""
        columns = SqlEventLogStorageTable.c
        wanted = sql.select(columns.id, columns.run_id, columns.timestamp).where(_is_version(), columns.id > after)
        return {
            storage_id: _fingerprint(run_id, moment) for storage_id, run_id, moment in self._connection.execute(wanted)
        }

    def wipes(self) -> dict[str, datetime]:
        """Return the wipe times of assets, by name. Earlier events are ignored, even if the log still has them."""
        columns = AssetKeyTable.c
        rows = self._connection.execute(
            sql.select(columns.asset_key, columns.asset_details).where(columns.asset_details.is_not(None))
        )
        wiped = {}
        for key, details in rows:
            asset, moment = dg.AssetKey.from_db_string(key), json.loads(details).get("last_wipe_timestamp")
            if asset and moment:
                wiped[asset.to_user_string()] = datetime.fromtimestamp(moment, UTC)
        return wiped

    def read(self, storage_ids: Sequence[int]) -> Iterator[LoggedEvent]:
        """Yield the existing events with these ids, in the order of the ids. The argument must be in the same order."""
        columns = SqlEventLogStorageTable.c
        for batch in batches(storage_ids):
            wanted = sql.select(columns.id, columns.run_id, columns.timestamp, columns.event)
            wanted = wanted.where(columns.id.in_(batch), _is_version()).order_by(columns.id)
            for storage_id, run_id, moment, serialized in self._connection.execute(wanted):
                yield LoggedEvent(storage_id, _fingerprint(run_id, moment), parse_event(storage_id, serialized))

    def records(self, storage_ids: Collection[int]) -> dict[int, ProvenanceRecord]:
        """Return the provenance records of events by id. Omit events that do not exist or have no record.

        Raises:
            LineageError: a record is malformed, or has a newer form than this version reads.
        """
        columns, found = SqlEventLogStorageTable.c, {}
        for batch in batches(storage_ids):
            wanted = sql.select(columns.id, columns.event).where(columns.id.in_(batch), _is_version())
            for storage_id, text in self._connection.execute(wanted):
                record = parse_record(storage_id, text)
                if record is not None:
                    found[storage_id] = record
        return found

    def _mark(self, which: sql.ColumnElement[bool]) -> str | None:
        columns = SqlEventLogStorageTable.c
        row = self._connection.execute(sql.select(columns.id, columns.run_id, columns.timestamp).where(which)).first()
        return f"{row.id} {_fingerprint(row.run_id, row.timestamp)}" if row else None


def _fingerprint(run_id: str, moment: datetime) -> str:
    return f"{run_id} {moment}"


def _is_version() -> sql.ColumnElement[bool]:
    return SqlEventLogStorageTable.c.dagster_event_type.in_(_VERSIONS)

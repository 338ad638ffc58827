"""Dagster's event log as the index reads it: the events of assets, and when assets were wiped.

The tables are read as they are, for Dagster's own way to them makes objects of all that is read. They hold all events
of assets in one place, on SQLite (where each run also has a file of its own, with other ids) as on PostgreSQL.
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
        fingerprint: its run and time, by which it differs from another event that had the same id.
        parsed: None where it is no version of its asset.
    """

    storage_id: int
    fingerprint: str
    parsed: ParsedEvent | None


class EventLog:
    """The asset events of a Dagster instance.

    Ids grow with time, but an event may become visible after one with a higher id; events may be deleted, and the id of
    a deleted one is given again if it was the highest (SQLite).

    Args:
        connection: to the database that holds them.
    """

    def __init__(self, connection: sql.Connection) -> None:
        self._connection = connection

    def newest(self) -> str | None:
        """Return a mark of the event with the highest id, of whichever kind; None if there is none."""
        columns = SqlEventLogStorageTable.c
        return self._mark(columns.id == sql.select(sql.func.max(columns.id)).scalar_subquery())

    def holds(self, mark: str) -> bool:
        """Return whether the event of a mark still has its id."""
        return self._mark(SqlEventLogStorageTable.c.id == int(mark.partition(" ")[0])) == mark

    def totals(self, upto: int) -> tuple[int, int]:
        """Return count and sum of the ids, up to this one, of materializations and observations."""
        columns = SqlEventLogStorageTable.c
        counted = sql.select(sql.func.count(), sql.func.sum(columns.id)).where(_is_version(), columns.id <= upto)
        count, total = self._connection.execute(counted).one()
        return count, int(total or 0)

    def fingerprints(self, after: int) -> dict[int, str]:
        """Return the fingerprints of materializations and observations by their ids, after this one."""
        columns = SqlEventLogStorageTable.c
        wanted = sql.select(columns.id, columns.run_id, columns.timestamp).where(_is_version(), columns.id > after)
        return {
            storage_id: _fingerprint(run_id, moment) for storage_id, run_id, moment in self._connection.execute(wanted)
        }

    def wipes(self) -> dict[str, datetime]:
        """Return when assets were wiped, by name. What was recorded up to then does not count, even if it is there."""
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
        """Yield these events, as far as they are there, in the order of their ids, in which they must be given."""
        columns = SqlEventLogStorageTable.c
        for batch in batches(storage_ids):
            wanted = sql.select(columns.id, columns.run_id, columns.timestamp, columns.event)
            wanted = wanted.where(columns.id.in_(batch), _is_version()).order_by(columns.id)
            for storage_id, run_id, moment, serialized in self._connection.execute(wanted):
                yield LoggedEvent(storage_id, _fingerprint(run_id, moment), parse_event(storage_id, serialized))

    def records(self, storage_ids: Collection[int]) -> dict[int, ProvenanceRecord]:
        """Return the provenance records of events by their ids; of those that are not there, or carry none, nothing.

        Raises:
            LineageError: a record is malformed, or of a later form than this reads.
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

"""Syncs the lineage index with Dagster's event log.

New events are read and linked to their inputs. Deleted events are removed. Events that were linked to deleted events,
or that lacked an input that became visible late, are read again. So the index always equals a rebuilt one.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sql

from ml_assets.lineage.index import schema
from ml_assets.lineage.index.event_log import EventLog, LoggedEvent
from ml_assets.lineage.index.invalidation import Invalidation, missing_nodes, readers_of
from ml_assets.lineage.index.linking import Linker
from ml_assets.lineage.index.nodes import NodeWriter
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import SCHEMA_VERSION

__all__ = ["FORM", "form_of", "rebuild", "sync"]

FORM: Final = f"3.{SCHEMA_VERSION}"
"""Form of the tables, and of the records that they are built from. Raise the first number with any change of the
written data."""

_LOOKBACK: Final = 500
"""Number of ids below the highest that are compared one by one, because events become visible out of order. Of the ids
below those, only count and sum are compared."""


def form_of(connection: sql.Connection) -> str | None:
    """Return the form of the existing index; None if there is none."""
    if not schema.has_tables(connection):
        return None
    return _state(connection).get("form", "unknown")


def rebuild(connection: sql.Connection, log: EventLog) -> None:
    """Rebuild the index, regardless of its state.

    Args:
        connection: a connection to the index, in a transaction that excludes other writers.
        log: the event log that it is built from.
    """
    schema.drop_tables(connection)
    schema.create_tables(connection)
    _Sync(connection, log, is_new=True).run()
    schema.create_indexes(connection)
    _write_state(connection, form=FORM)


def sync(connection: sql.Connection, log: EventLog) -> None:
    """Bring an index of the form `FORM` up to date with the log.

    Args:
        connection: a connection to the index, in a transaction that excludes other writers.
        log: the event log that it was built from.
    """
    _Sync(connection, log, is_new=False).run()


class _Sync:
    def __init__(self, connection: sql.Connection, log: EventLog, is_new: bool) -> None:
        self._connection, self._log, self._is_new = connection, log, is_new
        self._wipes: Mapping[str, datetime] = {}

    def run(self) -> None:
        state = {} if self._is_new else _state(self._connection)
        # Read the mark first, because events written after it have a higher id or change the count.
        mark, self._wipes = self._log.newest(), self._log.wipes()
        wipes = {asset: moment.isoformat() for asset, moment in sorted(self._wipes.items())}
        known = json.loads(state.get("wipes", "{}"))
        wiped = [asset for asset, moment in wipes.items() if known.get(asset) != moment]
        highest = self._connection.scalar(sql.select(sql.func.max(schema.events.c.id))) or 0
        settled = max(highest - _LOOKBACK, 0)
        here = self._fingerprints(settled)
        if wiped or not self._is_settled(state, settled, here):
            settled, here = 0, self._fingerprints(0)
        there = self._log.fingerprints(settled)
        gone = {storage_id for storage_id, fingerprint in here.items() if there.get(storage_id) != fingerprint}
        gone |= self._recorded_before_wipe(wiped)
        new = sorted(there.keys() - (here.keys() - gone))
        if gone or new:
            self._apply(gone, new, highest)
        if gone or new or wiped or mark != state.get("mark"):
            totals = json.dumps(self._totals())
            _write_state(self._connection, mark=mark or "", wipes=json.dumps(wipes), totals=totals)

    def _is_settled(self, state: Mapping[str, str], upto: int, later: Collection[int]) -> bool:
        """Return True if the log up to an id is unchanged since it was read. ``later`` are the higher ids read."""
        if state.get("mark") and not self._log.holds(state["mark"]):
            return False
        count, total = json.loads(state.get("totals", "[0, 0]"))
        return upto == 0 or self._log.totals(upto) == (count - len(later), total - sum(later))

    def _totals(self) -> tuple[int, int]:
        """Return the count and the sum of the ids of all events that were read."""
        ids = schema.events.c.id
        count, total = self._connection.execute(sql.select(sql.func.count(), sql.func.sum(ids))).one()
        return count, int(total or 0)

    def _fingerprints(self, after: int) -> dict[int, str]:
        columns = schema.events.c
        rows = self._connection.execute(sql.select(columns.id, columns.fingerprint).where(columns.id > after))
        return dict(rows.tuples().all())

    def _recorded_before_wipe(self, assets: Iterable[str]) -> set[int]:
        nodes, found = schema.nodes.c, set[int]()
        for asset in assets:
            wiped = sql.select(nodes.key).join(schema.assets, schema.assets.c.id == nodes.asset)
            wiped = wiped.where(schema.assets.c.name == asset, nodes.key > 0)
            before = nodes.timestamp <= self._wipes[asset].timestamp()
            found |= set(self._connection.scalars(wiped.where(before)))
        return found

    def _apply(self, gone: Collection[int], new: Sequence[int], highest: int) -> None:
        """Remove some events and read others. New events up to the highest known id are late."""
        late = [storage_id for storage_id in new if storage_id <= highest]
        arrived = [self._unless_wiped(event) for event in self._log.read(late)]
        invalidation = Invalidation(self._connection)
        invalidation.events_deleted(gone)
        invalidation.events_late(arrived)
        readers, artifacts = invalidation.readers - set(gone), invalidation.artifacts
        self._unlink(readers | set(gone))
        self._forget(gone)
        self._writer = NodeWriter(self._connection, self._is_new)
        self._linker = Linker(self._connection, self._writer, self._is_new)
        self._add(arrived)
        lost = self._relink(readers | {event.storage_id for event in arrived if event.parsed}, artifacts)
        for batch in schema.batches(new[len(late) :]):
            lost |= self._append([self._unless_wiped(event) for event in self._log.read(batch)])
        self._sweep()
        if lost:
            # These events were deleted during the sync.
            self._apply(lost, [], highest)

    def _append(self, batch: list[LoggedEvent]) -> set[int]:
        self._add(batch)
        self._linker.link([event.parsed for event in batch if event.parsed])
        expected = Invalidation(self._connection)
        expected.events_arrived(batch)
        return self._relink(expected.readers, expected.artifacts) if expected.readers else set()

    def _add(self, batch: list[LoggedEvent]) -> None:
        schema.insert_rows(self._connection, schema.events, [(event.storage_id, event.fingerprint) for event in batch])
        nodes = {event.storage_id: event.parsed.node for event in batch if event.parsed}
        self._writer.insert(nodes)
        self._linker.add(nodes.values())

    def _relink(self, readers: set[int], artifacts: Collection[AssetPartition]) -> set[int]:
        """Link the invalidated nodes again, in order, and return those that the log no longer has."""
        missing = missing_nodes(self._connection, artifacts)
        readers = readers | readers_of(self._connection, missing)
        self._unlink(readers)
        self._writer.delete(missing)
        self._linker.forget(missing)
        found = set[int]()
        for batch in schema.batches(sorted(readers)):
            events = [event for event in self._log.read(batch) if event.parsed]
            self._linker.link([event.parsed for event in events if event.parsed])
            found |= {event.storage_id for event in events}
        return readers - found

    def _unlink(self, readers: Collection[int]) -> None:
        for batch in schema.batches(readers):
            self._connection.execute(schema.edges.delete().where(schema.edges.c.target.in_(batch)))
            self._connection.execute(schema.dagster_inputs.delete().where(schema.dagster_inputs.c.reader.in_(batch)))
            self._connection.execute(
                schema.unresolved_inputs.delete().where(schema.unresolved_inputs.c.reader.in_(batch))
            )

    def _forget(self, gone: Collection[int]) -> None:
        NodeWriter(self._connection, self._is_new).delete(gone)
        for batch in schema.batches(gone):
            self._connection.execute(schema.events.delete().where(schema.events.c.id.in_(batch)))

    def _sweep(self) -> None:
        """Remove missing nodes that no remaining node reads."""
        edges, nodes = schema.edges, schema.nodes.c
        is_read = sql.select(edges.c.target).where(edges.c.source == nodes.key).exists()
        unread = self._connection.scalars(sql.select(nodes.key).where(nodes.key < 0, ~is_read)).all()
        if unread:
            self._writer.delete(unread)
            self._linker.forget(unread)

    def _unless_wiped(self, event: LoggedEvent) -> LoggedEvent:
        if event.parsed is None:
            return event
        node = event.parsed.node
        moment = self._wipes.get(node.asset)
        is_wiped = moment is not None and node.timestamp is not None and node.timestamp <= moment
        return event._replace(parsed=None) if is_wiped else event


def _state(connection: sql.Connection) -> dict[str, str]:
    return dict(connection.execute(sql.select(schema.state)).tuples().all())


def _write_state(connection: sql.Connection, **values: str) -> None:
    connection.execute(schema.state.delete().where(schema.state.c.name.in_(values)))
    connection.execute(schema.state.insert(), [{"name": name, "value": value} for name, value in values.items()])

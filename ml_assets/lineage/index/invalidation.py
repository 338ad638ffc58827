"""Finds the nodes whose links become invalid when events are deleted or become visible late.

It finds every node that must be read again, and may find others. Extra nodes cost only time.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sql

from ml_assets.lineage.index import schema
from ml_assets.lineage.index.event_log import LoggedEvent
from ml_assets.lineage.index.nodes import read_nodes
from ml_assets.resources.identity import AssetPartition

__all__ = ["Invalidation", "missing_nodes", "readers_of"]


class Invalidation:
    """The nodes to link again, collected before the index changes.

    Attributes:
        readers: keys of the nodes to link again.
    """

    def __init__(self, connection: sql.Connection) -> None:
        self._connection = connection
        self.readers: set[int] = set()
        self._artifacts: set[AssetPartition] = set()

    @property
    def artifacts(self) -> set[AssetPartition]:
        """Return the artifacts whose missing nodes must be created again by all their readers, in the order of the log.

        The first reader determines the id of such a node.
        """
        return self._artifacts | self._missing_for(self.readers)

    def events_deleted(self, gone: Collection[int]) -> None:
        """Register events that are no longer in the log, or that must be ignored from now on."""
        nodes = read_nodes(self._connection, gone)
        self.readers |= readers_of(self._connection, gone)
        self._readers_by_dagster_input({node.asset for node in nodes.values()}, after=min(gone, default=0))
        self._readers_of_unresolved(gone)
        self._artifacts |= self._missing_for(gone)
        self._artifacts |= {AssetPartition(node.asset, node.partition) for node in nodes.values()}

    def events_late(self, late: Sequence[LoggedEvent]) -> None:
        """Register events that became visible after later ones."""
        self._readers_of_unresolved([event.storage_id for event in late])
        for event in late:
            if event.parsed is None:
                continue
            node = event.parsed.node
            self.readers |= self._later_readers(node.asset, event.storage_id)
            self._readers_by_dagster_input({node.asset}, after=event.storage_id)
            self._artifacts.add(AssetPartition(node.asset, node.partition))
            self._artifacts |= {AssetPartition(read.asset, read.partition) for read in event.parsed.inputs}
            self._artifacts |= {AssetPartition(dagster_input.asset) for dagster_input in event.parsed.dagster_inputs}

    def events_arrived(self, fresh: Iterable[LoggedEvent]) -> None:
        """Register events that arrived in order. Earlier events may have referred to them before they were visible."""
        self._readers_of_unresolved([event.storage_id for event in fresh])

    def _readers_of_unresolved(self, storage_ids: Collection[int]) -> None:
        columns, readers = schema.unresolved_inputs.c, set[int]()
        for batch in schema.batches(storage_ids):
            wanted = sql.select(columns.reader).where(columns.storage_id.in_(batch))
            readers |= set(self._connection.scalars(wanted))
        self.readers |= readers

    def _missing_for(self, readers: Collection[int]) -> set[AssetPartition]:
        missing = [key for key in self._sources(readers) if key < 0]
        nodes = read_nodes(self._connection, missing).values()
        return {AssetPartition(node.asset, node.partition) for node in nodes}

    def _readers_by_dagster_input(self, assets: Collection[str], after: int) -> None:
        dagster_inputs = schema.dagster_inputs.c
        readers = sql.select(dagster_inputs.reader).join(schema.assets, schema.assets.c.id == dagster_inputs.asset)
        for batch in schema.batches(assets):
            wanted = readers.where(schema.assets.c.name.in_(batch), dagster_inputs.reader > after)
            self.readers |= set(self._connection.scalars(wanted))

    def _later_readers(self, asset: str, storage_id: int) -> set[int]:
        nodes, edges = schema.nodes.c, schema.edges.c
        readers = (
            sql.select(edges.target)
            .join(schema.nodes, nodes.key == edges.source)
            .join(schema.assets, schema.assets.c.id == nodes.asset)
        )
        return set(self._connection.scalars(readers.where(schema.assets.c.name == asset, edges.target > storage_id)))

    def _sources(self, targets: Collection[int]) -> set[int]:
        edges, found = schema.edges.c, set[int]()
        for batch in schema.batches(targets):
            found |= set(self._connection.scalars(sql.select(edges.source).where(edges.target.in_(batch))))
        return found


def readers_of(connection: sql.Connection, keys: Collection[int]) -> set[int]:
    """Return the keys of the nodes that read these."""
    edges, found = schema.edges.c, set[int]()
    for batch in schema.batches(keys):
        found |= set(connection.scalars(sql.select(edges.target).where(edges.source.in_(batch))))
    return found


def missing_nodes(connection: sql.Connection, artifacts: Collection[AssetPartition]) -> set[int]:
    """Return the keys of the missing nodes of these artifacts."""
    nodes, wanted = schema.nodes.c, set(artifacts)
    found = set[int]()
    for batch in schema.batches({artifact.asset for artifact in wanted}):
        query: sql.Select[Any] = sql.select(nodes.key, schema.assets.c.name, nodes.partition)
        query = query.join(schema.assets, schema.assets.c.id == nodes.asset)
        for key, asset, partition in connection.execute(query.where(nodes.key < 0, schema.assets.c.name.in_(batch))):
            if AssetPartition(asset, partition) in wanted:
                found.add(key)
    return found

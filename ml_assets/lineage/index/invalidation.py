"""Which nodes of the index may be linked to something else when events are deleted, or become visible late.

All that has to be read again is found; more than that does no harm but for its time.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sql

from ml_assets.lineage.index import schema
from ml_assets.lineage.index.event_log import ReadEvent
from ml_assets.lineage.index.nodes import read_nodes
from ml_assets.resources.identity import AssetPartition

__all__ = ["Changes", "missing_nodes", "readers_of"]


class Changes:
    """Collects readers while the index is as it was before.

    Attributes:
        readers: keys of the nodes that have to be linked again.
    """

    def __init__(self, connection: sql.Connection) -> None:
        self._connection = connection
        self.readers: set[int] = set()
        self._artifacts: set[AssetPartition] = set()

    @property
    def artifacts(self) -> set[AssetPartition]:
        """Whatever is missing of these has to be made anew by all who read it, in their order.

        The first of them gives it its name.
        """
        return self._artifacts | self._missing_for(self.readers)

    def went(self, gone: Collection[int]) -> None:
        """Events are not in the log any more, or do not count any more."""
        nodes = read_nodes(self._connection, gone)
        self.readers |= readers_of(self._connection, gone)
        self._readers_by_pointer({node.asset for node in nodes.values()}, after=min(gone, default=0))
        self._readers_in_vain(gone)
        self._artifacts |= self._missing_for(gone)
        self._artifacts |= {AssetPartition(node.asset, node.partition) for node in nodes.values()}

    def came(self, late: Sequence[ReadEvent]) -> None:
        """Events are in the log that were not, although later ones were."""
        self._readers_in_vain([event.storage_id for event in late])
        for event in late:
            if event.recorded is None:
                continue
            node = event.recorded.node
            self.readers |= self._later_readers(node.asset, event.storage_id)
            self._readers_by_pointer({node.asset}, after=event.storage_id)
            self._artifacts.add(AssetPartition(node.asset, node.partition))
            self._artifacts |= {AssetPartition(read.asset, read.partition) for read in event.recorded.inputs}
            self._artifacts |= {AssetPartition(pointer.asset) for pointer in event.recorded.pointers}

    def were_claimed(self, fresh: Iterable[ReadEvent]) -> None:
        """Events are in the log as expected, but may have been looked for before."""
        self._readers_in_vain([event.storage_id for event in fresh])

    def _readers_in_vain(self, storage_ids: Collection[int]) -> None:
        columns, readers = schema.claims.c, set[int]()
        for page in schema.pages(storage_ids):
            wanted = sql.select(columns.reader).where(columns.storage_id.in_(page))
            readers |= set(self._connection.scalars(wanted))
        self.readers |= readers

    def _missing_for(self, readers: Collection[int]) -> set[AssetPartition]:
        missing = [key for key in self._sources(readers) if key < 0]
        nodes = read_nodes(self._connection, missing).values()
        return {AssetPartition(node.asset, node.partition) for node in nodes}

    def _readers_by_pointer(self, assets: Collection[str], after: int) -> None:
        pointers = schema.pointers.c
        readers = sql.select(pointers.reader).join(schema.assets, schema.assets.c.id == pointers.asset)
        for page in schema.pages(assets):
            wanted = readers.where(schema.assets.c.name.in_(page), pointers.reader > after)
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
        for page in schema.pages(targets):
            found |= set(self._connection.scalars(sql.select(edges.source).where(edges.target.in_(page))))
        return found


def readers_of(connection: sql.Connection, keys: Collection[int]) -> set[int]:
    """Keys of what was made of these nodes."""
    edges, found = schema.edges.c, set[int]()
    for page in schema.pages(keys):
        found |= set(connection.scalars(sql.select(edges.target).where(edges.source.in_(page))))
    return found


def missing_nodes(connection: sql.Connection, artifacts: Collection[AssetPartition]) -> set[int]:
    """Keys of what is missing of these."""
    nodes, wanted = schema.nodes.c, set(artifacts)
    found = set[int]()
    for page in schema.pages({artifact.asset for artifact in wanted}):
        query: sql.Select[Any] = sql.select(nodes.key, schema.assets.c.name, nodes.partition)
        query = query.join(schema.assets, schema.assets.c.id == nodes.asset)
        for key, asset, partition in connection.execute(query.where(nodes.key < 0, schema.assets.c.name.in_(page))):
            if AssetPartition(asset, partition) in wanted:
                found.add(key)
    return found

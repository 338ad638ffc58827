"""Links each node of the index to its inputs: finds the node of each input version.

An input with a storage id is exactly that event if its asset, partition, version and run agree (a log may reuse the id
of a deleted event). A pinned input, which has no storage id, is the last event before its reader with that asset,
partition and version. A step may run in an image that is not the latest. If the recorded image input did not build the
image that the step ran in, the input is the last event before the step that built this image. An input that is not
among the events becomes a node of kind `NodeKind.MISSING`, which its readers share. The node has no storage id if
another event has the same one, so that no two events become one node.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import sqlalchemy as sql

from ml_assets.lineage.graph import Node, NodeKind
from ml_assets.lineage.index import schema
from ml_assets.lineage.index.dagster_inputs import resolve_dagster_input
from ml_assets.lineage.index.event_parser import ParsedEvent, StepImage
from ml_assets.lineage.index.nodes import NodeWriter, node_query, read_node
from ml_assets.resources.provenance import InputVersion

__all__ = ["Linker"]


class _Version(NamedTuple):
    asset: str
    partition: str | None
    data_version: str | None
    run_id: str | None
    image: str | None


class Linker:
    """Links events to their inputs, in the given order.

    Args:
        connection: a connection in a transaction that excludes other writers.
        writer: adds the nodes of missing inputs.
        is_new: True if the tables were empty, so that no look-ups are needed.
    """

    def __init__(self, connection: sql.Connection, writer: NodeWriter, is_new: bool) -> None:
        self._connection, self._writer, self._is_new = connection, writer, is_new
        self._versions: dict[int, _Version | None] = {}
        self._histories: dict[str, _History] = {}
        missing = connection.execute(node_query().where(schema.nodes.c.key < 0))
        self._missing: dict[str, tuple[int, Node]] = {}
        for row in missing:
            node = read_node(row)
            self._missing[node.id] = row.key, node
        self._last_missing = min((key for key, _ in self._missing.values()), default=0)

    def add(self, nodes: Collection[Node]) -> None:
        """Register events that are in the index now."""
        for node in nodes:
            self._versions[_storage_id(node)] = _version(node)
            if node.asset in self._histories:
                self._histories[node.asset].add(node)

    def forget(self, missing: Collection[int]) -> None:
        """Forget missing nodes that are no longer in the index."""
        gone = set(missing)
        self._missing = {name: kept for name, kept in self._missing.items() if kept[0] not in gone}

    def link(self, batch: Sequence[ParsedEvent]) -> None:
        """Write the edges from the inputs of these events."""
        self._look_up({read.storage_id for each in batch for read in each.inputs if read.storage_id is not None})
        edges: list[tuple[int, int]] = []
        unresolved: set[tuple[int, int]] = set()
        found: dict[int, Node] = {}
        for recorded in batch:
            reader, sources = recorded.storage_id, set[int]()
            for read in self._inputs(recorded):
                source = self._source(read, recorded)
                if source is None:
                    source = self._missing_node(read, found)
                    unresolved |= {(read.storage_id, reader)} if read.storage_id is not None else set()
                sources.add(source)
            edges += [(reader, source) for source in sorted(sources)]
        self._writer.insert(found)
        schema.insert_rows(self._connection, schema.edges, edges)
        schema.insert_rows(self._connection, schema.unresolved_inputs, sorted(unresolved))
        by_dagster = {
            (each.storage_id, self._writer.asset_id(one.asset)) for each in batch for one in each.dagster_inputs
        }
        schema.insert_rows(self._connection, schema.dagster_inputs, sorted(by_dagster))

    def _inputs(self, recorded: ParsedEvent) -> Iterable[InputVersion]:
        inputs = list(recorded.inputs)
        for dagster_input in recorded.dagster_inputs:
            inputs += resolve_dagster_input(dagster_input, recorded.node, self._history(dagster_input.asset).nodes)
        if recorded.dagster_inputs:
            self._look_up({read.storage_id for read in inputs if read.storage_id is not None})
        return inputs

    def _source(self, read: InputVersion, reader: ParsedEvent) -> int | None:
        image = reader.ran_in if reader.ran_in and reader.ran_in.asset == read.asset else None
        # Never link to a later event, even if a record names one, so that the graph has no cycles.
        if read.storage_id is not None and read.storage_id < reader.storage_id:
            version = self._versions.get(read.storage_id)
            if version and _agrees(version, read) and (image is None or image.is_built_by(version)):
                return read.storage_id
        if image:
            return self._history(read.asset).image_before(reader.storage_id, image)
        if read.storage_id is None:
            return self._history(read.asset).last_before(reader.storage_id, read.partition, read.data_version)
        return None

    def _missing_node(self, read: InputVersion, found: dict[int, Node]) -> int:
        """Return the key of the node that represents an input version without an event."""
        node = Node(
            asset=read.asset,
            kind=NodeKind.MISSING,
            partition=read.partition,
            data_version=read.data_version,
            storage_id=read.storage_id,
            dagster_run=read.run_id or None,
        )
        if self._is_taken(node):
            node = replace(node, storage_id=None)
        if node.id not in self._missing:
            self._last_missing -= 1
            self._missing[node.id] = self._last_missing, node
            found[self._last_missing] = node
        return self._missing[node.id][0]

    def _is_taken(self, node: Node) -> bool:
        if node.storage_id is not None and self._versions.get(node.storage_id):
            return True
        known = self._missing.get(node.id)
        return known is not None and known[1] != node

    def _look_up(self, storage_ids: set[int]) -> None:
        unknown = () if self._is_new else storage_ids - self._versions.keys()
        for batch in schema.batches(unknown):
            self._versions.update(dict.fromkeys(batch))
            for row in self._connection.execute(_versions().where(schema.nodes.c.key.in_(batch))):
                self._versions[row.key] = _Version(*row[1:])

    def _history(self, asset: str) -> "_History":
        if asset not in self._histories:
            history = self._histories[asset] = _History()
            of_asset = node_query().where(schema.assets.c.name == asset, schema.nodes.c.key > 0)
            for row in self._connection.execute(of_asset.order_by(schema.nodes.c.key)):
                history.add(read_node(row))
        return self._histories[asset]


class _History:
    """The events of one asset, oldest first."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._by_version: defaultdict[tuple[str | None, str], list[int]] = defaultdict(list)

    def add(self, node: Node) -> None:
        insort(self.nodes, node, key=_storage_id)
        if node.data_version is not None:
            insort(self._by_version[node.partition, node.data_version], _storage_id(node))

    def last_before(self, reader: int, partition: str | None, version: str) -> int | None:
        same = self._by_version.get((partition, version), [])
        earlier = bisect_left(same, reader)
        return same[earlier - 1] if earlier else None

    def image_before(self, reader: int, image: StepImage) -> int | None:
        positions = range(bisect_left(self.nodes, reader, key=_storage_id) - 1, -1, -1)
        return next((_storage_id(self.nodes[at]) for at in positions if image.is_built_by(self.nodes[at])), None)


def _storage_id(node: Node) -> int:
    return node.storage_id or 0


def _version(node: Node) -> _Version:
    return _Version(node.asset, node.partition, node.data_version, node.dagster_run, node.image)


def _versions() -> "sql.Select[tuple[int, str, str | None, str | None, str | None, str | None]]":
    columns = schema.nodes.c
    return sql.select(
        columns.key, schema.assets.c.name, columns.partition, columns.data_version, columns.dagster_run, columns.image
    ).join(schema.assets, schema.assets.c.id == columns.asset)


def _agrees(version: _Version, read: InputVersion) -> bool:
    return (
        (version.asset, version.partition) == (read.asset, read.partition)
        and (version.data_version is None or version.data_version == read.data_version)
        and (not version.run_id or not read.run_id or version.run_id == read.run_id)
    )

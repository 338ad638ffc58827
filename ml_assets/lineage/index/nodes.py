"""Reads, writes and deletes nodes in the tables of the index, with their identifiers."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sql

from ml_assets.lineage.graph import Node, NodeKind
from ml_assets.lineage.index import schema
from ml_assets.lineage.references import ReferenceKind
from ml_assets.resources.errors import LineageError
from ml_assets.resources.provenance import ArtifactKind

__all__ = ["NodeWriter", "node_query", "read_node", "read_nodes"]

_KINDS: Final[Mapping[str, ArtifactKind | NodeKind]] = {kind.value: kind for kind in (*ArtifactKind, *NodeKind)}


def node_query() -> sql.Select[Any]:
    """Return the query whose rows `read_node` reads."""
    return sql.select(schema.nodes, schema.assets.c.name).join(
        schema.assets, schema.assets.c.id == schema.nodes.c.asset
    )


def read_node(row: Sequence[Any]) -> Node:
    """Return the node of a row of `node_query`."""
    *_, timestamp, problem, next_step, asset = row
    moment = None if timestamp is None else datetime.fromtimestamp(timestamp, UTC)
    trouble = LineageError(problem, next_step=next_step) if problem else None
    fields: list[Any] = [asset, _KINDS[row[2]], *row[3:16], moment, trouble]
    return Node(*fields)


def read_nodes(connection: sql.Connection, keys: Collection[int]) -> dict[int, Node]:
    """Return nodes by their keys."""
    found = {}
    for batch in schema.batches(keys):
        for row in connection.execute(node_query().where(schema.nodes.c.key.in_(batch))):
            found[row[0]] = read_node(row)
    return found


class NodeWriter:
    """A writer of nodes, which also assigns ids to identifiers and assets.

    Args:
        connection: a connection in a transaction that excludes other writers.
        is_new: True if the tables were empty, so that no look-ups are needed.
    """

    def __init__(self, connection: sql.Connection, is_new: bool) -> None:
        self._connection, self._is_new = connection, is_new
        self._assets = {name: asset_id for asset_id, name in connection.execute(sql.select(schema.assets))}
        self._identifiers: dict[tuple[str, str], int] = {}
        self._last_identifier: int = connection.scalar(sql.select(sql.func.max(schema.identifiers.c.id))) or 0

    def asset_id(self, name: str) -> int:
        """Return the id of an asset."""
        number = self._assets.get(name)
        if number is None:
            number = self._assets[name] = len(self._assets) + 1
            schema.insert_rows(self._connection, schema.assets, [(number, name)])
        return number

    def insert(self, nodes: Mapping[int, Node]) -> None:
        """Add nodes by their keys."""
        carried = {key: node.identifiers for key, node in nodes.items()}
        self._assign_ids(set().union(*carried.values()))
        schema.insert_rows(self._connection, schema.nodes, [self._row(key, node) for key, node in nodes.items()])
        rows = [(self._identifiers[name], key) for key, identifiers in carried.items() for name in identifiers]
        schema.insert_rows(self._connection, schema.node_identifiers, rows)

    def delete(self, keys: Collection[int]) -> None:
        """Delete nodes and their links to identifiers."""
        carried = {key: node.identifiers for key, node in read_nodes(self._connection, keys).items()}
        self._assign_ids(set().union(*carried.values()))
        columns = schema.node_identifiers.c
        for key, identifiers in carried.items():
            numbers = [self._identifiers[name] for name in identifiers]
            self._connection.execute(
                schema.node_identifiers.delete().where(columns.node == key, columns.identifier.in_(numbers))
            )
        for batch in schema.batches(keys):
            self._connection.execute(schema.nodes.delete().where(schema.nodes.c.key.in_(batch)))

    def _row(self, key: int, node: Node) -> tuple[Any, ...]:
        return (
            key,
            self.asset_id(node.asset),
            node.kind.value,
            node.partition,
            node.data_version,
            node.storage_id,
            node.content_version,
            node.code_version,
            node.image,
            node.index_digest,
            node.environment,
            node.mlflow_run,
            node.model_version,
            node.commit,
            node.dirty,
            node.dagster_run,
            node.timestamp and node.timestamp.timestamp(),
            node.problem and node.problem.what,
            node.problem and node.problem.next_step,
        )

    def _assign_ids(self, wanted: Iterable[tuple[ReferenceKind, str]]) -> None:
        """Assign an id to each of these identifiers; an identifier that has one keeps it."""
        unknown = [name for name in wanted if name not in self._identifiers]
        if not self._is_new:
            columns = schema.identifiers.c
            for batch in schema.batches({value for _, value in unknown}):
                found = sql.select(columns.id, columns.kind, columns.value).where(columns.value.in_(batch))
                self._identifiers.update(
                    {(kind, value): number for number, kind, value in self._connection.execute(found)}
                )
        rows = []
        for kind, value in unknown:
            if (kind, value) not in self._identifiers:
                self._last_identifier += 1
                self._identifiers[kind, value] = self._last_identifier
                digits = value.partition(":")[2] or None if kind is ReferenceKind.VERSION else None
                rows.append((self._last_identifier, kind.value, value, digits))
        schema.insert_rows(self._connection, schema.identifiers, rows)

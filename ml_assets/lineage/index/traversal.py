"""Traverses the index upstream and downstream."""

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sql

from ml_assets.lineage.graph import LineageGraph, Node, NodeKind, Trace
from ml_assets.lineage.index import schema
from ml_assets.lineage.index.lookup import find_nodes, with_same_version
from ml_assets.lineage.index.nodes import node_query, read_node
from ml_assets.lineage.questions import Question
from ml_assets.lineage.references import ReferenceKind, parse_reference
from ml_assets.resources.errors import LineageError

__all__ = ["answer", "latest_nodes", "subgraph"]


def answer(connection: sql.Connection, question: Question, *, linked: bool = True) -> Trace:
    """Return the answer to a question.

    The downstream of an asset, or of one partition of it, is the downstream of every event with its current content.

    Args:
        connection: a connection to the index.
        question: the question.
        linked: True to read the edges, which takes as long as the rest.

    Raises:
        UnknownReference: no recorded artifact matches the reference.
        AmbiguousReference: several different artifacts match the reference.
        LineageError: the answer has more nodes than the question allows, or one of its events cannot be read, so that
            the answer may lack inputs.
    """
    kind, matches = find_nodes(connection, parse_reference(question.reference))
    starts = with_same_version(connection, matches) if question.down and kind is ReferenceKind.ASSET else matches
    up = _reach(connection, matches, schema.edges.c.target, schema.edges.c.source, question) if question.up else None
    down = _reach(connection, starts, schema.edges.c.source, schema.edges.c.target, question) if question.down else None
    reached = (up or set()) | (down or set())
    if len(reached) > question.limit:
        raise _too_large(question)
    graph, ids = subgraph(connection, reached, linked=linked)
    return Trace(
        reference=question.reference,
        starts=tuple(ids[key] for key in ids if key in starts),
        graph=graph,
        upstream=None if up is None else frozenset(ids[key] for key in up),
        downstream=None if down is None else frozenset(ids[key] for key in down),
        is_whole=question.is_whole,
    )


def subgraph(
    connection: sql.Connection, keys: Collection[int], *, linked: bool = True
) -> tuple[LineageGraph, dict[int, str]]:
    """Return these nodes in the order of the log, with the edges between them if ``linked``, and their ids by key.

    Raises:
        LineageError: one of the events cannot be read.
        ValueError: the index lacks one of the nodes.
    """
    rows = connection.execute(node_query().where(schema.one_of(connection, schema.nodes.c.key, keys))).all()
    nodes = dict(sorted(((row[0], read_node(row)) for row in rows), key=_log_order))
    if len(nodes) != len(keys):
        raise ValueError(f"{len(keys) - len(nodes)} nodes are missing from the tables")
    for node in nodes.values():
        if node.problem:
            raise node.problem
    ids = {key: node.id for key, node in nodes.items()}
    return LineageGraph(nodes.values(), _edges(connection, keys, ids) if linked else ()), ids


def _edges(connection: sql.Connection, keys: Collection[int], ids: Mapping[int, str]) -> list[tuple[str, str]]:
    columns = schema.edges.c
    # Read one row per target, because twenty thousand rows would start Python's garbage collector.
    sources = sql.func.aggregate_strings(sql.cast(columns.source, sql.Text), ",")
    inward = sql.select(columns.target, sources).where(schema.one_of(connection, columns.target, keys))
    return [
        (ids[source], ids[target])
        for target, text in connection.execute(inward.group_by(columns.target))
        for source in map(int, text.split(","))
        if source in ids
    ]


def latest_nodes(connection: sql.Connection, graph: LineageGraph) -> frozenset[str]:
    """Return the ids of the nodes in a graph that are the latest event of their asset's partition."""
    there = {
        node.storage_id: node_id
        for node_id, node in graph.nodes.items()
        if node.storage_id is not None and node.kind is not NodeKind.MISSING
    }
    columns, later = schema.nodes.c, schema.nodes.alias("later")
    is_later = (later.c.asset == columns.asset) & (later.c.key > columns.key)
    replaced = [
        sql.select(later.c.key).where(is_later, is_same).exists() for is_same in schema.same_partition(later.c, columns)
    ]
    latest = sql.select(columns.key).where(schema.one_of(connection, columns.key, there), ~sql.or_(*replaced))
    return frozenset(there[key] for key in connection.scalars(latest))


def _log_order(item: tuple[int, Node]) -> tuple[int, int]:
    key, node = item
    return node.storage_id or 0, -key


def _reach(connection: sql.Connection, starts: Collection[int], here: Any, there: Any, question: Question) -> set[int]:
    """Return the keys of the reached nodes that the question asks for, up to one more than the limit."""
    if question.depth is None:
        reached: sql.FromClause = _reached(connection, starts, here, there)
    else:
        reached = schema.key_table(connection, _within_depth(connection, starts, here, there, question))
    keys = sql.select(reached.c.key)
    if not question.is_whole:
        nodes = schema.nodes.c
        fits: sql.ColumnElement[bool] = sql.true()
        if question.kinds:
            fits &= nodes.kind.in_([kind.value for kind in question.kinds])
        if question.since is not None:
            fits &= nodes.timestamp >= question.since.timestamp()
        # Include unreadable events, because they may hide requested nodes.
        fits |= nodes.kind == NodeKind.UNREADABLE.value
        keys = keys.join(schema.nodes, nodes.key == reached.c.key).where(fits)
    return set(connection.scalars(keys.limit(question.limit + 1)).all())


def _reached(connection: sql.Connection, starts: Collection[int], here: Any, there: Any) -> sql.CTE:
    reached = sql.select(schema.key_table(connection, starts).c.key).cte("reached", recursive=True)
    return reached.union(sql.select(there).join(reached, reached.c.key == here))


def _within_depth(
    connection: sql.Connection, starts: Collection[int], here: Any, there: Any, question: Question
) -> set[int]:
    """Return the nodes within a number of edges. A single statement would find nodes again on longer paths."""
    reached = frontier = set(starts)
    for _ in range(question.depth or 0):
        last = schema.key_table(connection, frontier)
        frontier = set(connection.scalars(sql.select(there).distinct().join(last, last.c.key == here))) - reached
        reached = reached | frontier
        if not frontier or (question.is_whole and len(reached) > question.limit):
            break
    return reached


def _too_large(question: Question) -> LineageError:
    return LineageError(
        f"the answer to {question.reference!r} has more than {question.limit:,} nodes",
        next_step="narrow the question with --up or --down, --depth, --kind or --since, or raise --limit",
    )

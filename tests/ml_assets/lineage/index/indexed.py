"""The lineage index as tests examine it: complete, and compared with the reference."""

from collections.abc import Callable, Iterable

import dagster as dg
import sqlalchemy as sql

from ml_assets.lineage.graph import Edge, LineageGraph, Trace
from ml_assets.lineage.index import schema
from ml_assets.lineage.index.databases import MemoryDatabase
from ml_assets.lineage.index.event_parser import ParsedEvent
from ml_assets.lineage.index.index import LineageIndex, open_index
from ml_assets.lineage.index.nodes import node_query, read_node
from ml_assets.lineage.questions import Question
from tests.ml_assets.lineage.index import reference
from tests.ml_assets.lineage.index.made_up import MadeUpLog
from tests.ml_assets.lineage.index.reference import Event, ReferenceGraph

__all__ = ["IndexedGraph", "ask", "found", "index_of", "load_graph", "require_equal", "whole_graph"]


class IndexedGraph(LineageGraph):
    """All nodes and edges of an index, and its answers."""

    def __init__(self, whole: LineageGraph, ask: Callable[[Question], Trace]) -> None:
        super().__init__(whole.nodes.values(), whole.edges)
        self.ask = ask

    def trace(self, text: str) -> Trace:
        return self.ask(Question(text))


def load_graph(instance: dg.DagsterInstance) -> IndexedGraph:
    """Return the index of an instance, after comparing it with the whole log."""
    expected = reference.load_graph(instance)
    with open_index(instance) as index:
        found = whole_graph(index)
    require_equal(found, expected)
    return IndexedGraph(found, lambda question: ask(instance, question))


def ask(instance: dg.DagsterInstance, question: Question) -> Trace:
    with open_index(instance) as index:
        return index.trace(question)


def index_of(events: Iterable[Event]) -> IndexedGraph:
    """Return the index of a log with these events."""
    events = list(events)
    log = MadeUpLog()
    log.write(ParsedEvent(event.node, event.inputs, ran_in=event.ran_in) for event in events)
    index = LineageIndex(log, MemoryDatabase(), print)
    found = whole_graph(index)
    require_equal(found, ReferenceGraph.of_events(events))
    return IndexedGraph(found, index.trace)


def whole_graph(index: LineageIndex) -> LineageGraph:
    """Update an index and return all of its nodes and edges."""
    return index._ask(_whole)


def _whole(connection: sql.Connection) -> LineageGraph:
    nodes = {row[0]: read_node(row) for row in connection.execute(node_query().order_by(schema.nodes.c.key))}
    rows = connection.execute(sql.select(schema.edges.c.source, schema.edges.c.target))
    return LineageGraph(nodes.values(), [Edge(nodes[source].id, nodes[target].id) for source, target in rows])


def require_equal(found: LineageGraph, expected: LineageGraph) -> None:
    assert dict(found.nodes) == dict(expected.nodes)
    assert found.edges == expected.edges


def found(graph: IndexedGraph, text: str) -> list[str]:
    return sorted(graph.trace(text).starts)

"""The lineage index as tests look at it: whole, and beside what it must agree with."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import dagster as dg
import sqlalchemy as sql

from ml_assets.lineage.graph import Edge, LineageGraph, Trace
from ml_assets.lineage.index import schema
from ml_assets.lineage.index.databases import MemoryDatabase
from ml_assets.lineage.index.event_log import EventLog, LoggedEvent
from ml_assets.lineage.index.event_parser import ParsedEvent
from ml_assets.lineage.index.index import LineageIndex, open_index
from ml_assets.lineage.index.nodes import node_query, read_node
from ml_assets.lineage.questions import Question
from tests.ml_assets.lineage.index import reference
from tests.ml_assets.lineage.index.reference import Event, ReferenceGraph, UnlinkedEvent

__all__ = ["IndexedGraph", "MadeUpLog", "ask", "index_of", "load_graph", "require_equal", "whole_graph"]


class IndexedGraph(LineageGraph):
    """All of an index, and what it answers."""

    def __init__(self, whole: LineageGraph, ask: Callable[[Question], Trace]) -> None:
        super().__init__(whole.nodes.values(), whole.edges)
        self.ask = ask

    def trace(self, text: str) -> Trace:
        return self.ask(Question(text))


def load_graph(instance: dg.DagsterInstance) -> IndexedGraph:
    """The index of an instance, after it was compared with all that the log says."""
    expected = reference.load_graph(instance)
    with open_index(instance) as index:
        found = whole_graph(index)
    require_equal(found, expected)
    return IndexedGraph(found, lambda question: ask(instance, question))


def ask(instance: dg.DagsterInstance, question: Question) -> Trace:
    with open_index(instance) as index:
        return index.trace(question)


def index_of(events: Iterable[Event]) -> IndexedGraph:
    """The index of a log that holds these events."""
    events = list(events)
    log = MadeUpLog()
    log.write(ParsedEvent(event.node, event.inputs, ran_in=event.ran_in) for event in events)
    index = LineageIndex(log, MemoryDatabase(), print)
    found = whole_graph(index)
    require_equal(found, ReferenceGraph.of_events(events))
    return IndexedGraph(found, index.trace)


def whole_graph(index: LineageIndex) -> LineageGraph:
    """All nodes and edges of an index, brought up to date."""
    return index._ask(_whole)


def _whole(connection: sql.Connection) -> LineageGraph:
    nodes = {row[0]: read_node(row) for row in connection.execute(node_query().order_by(schema.nodes.c.key))}
    rows = connection.execute(sql.select(schema.edges.c.source, schema.edges.c.target))
    return LineageGraph(nodes.values(), [Edge(nodes[source].id, nodes[target].id) for source, target in rows])


def require_equal(found: LineageGraph, expected: LineageGraph) -> None:
    assert dict(found.nodes) == dict(expected.nodes)
    assert found.edges == expected.edges


@dataclass
class MadeUpLog(EventLog):
    """A log of which a test says when events become visible, and when they go. It stands for a database's."""

    events: dict[int, ParsedEvent] = field(default_factory=dict)
    wiped: dict[str, datetime] = field(default_factory=dict)
    were_read: list[int] = field(default_factory=list)
    """Ids of the events that were read, in turn."""

    def write(self, events: Iterable[ParsedEvent]) -> None:
        self.events |= {event.storage_id: event for event in events}

    def graph(self) -> ReferenceGraph:
        """What the log says."""
        there = {
            key: UnlinkedEvent(Event(event.node, event.inputs, event.ran_in), event.dagster_inputs)
            for key, event in sorted(self.events.items())
            if not self._is_wiped(event)
        }
        return ReferenceGraph.of_events(reference.link_dagster_inputs(there))

    def newest(self) -> str | None:
        return f"{max(self.events)} {self._fingerprint(max(self.events))}" if self.events else None

    def holds(self, mark: str) -> bool:
        storage_id, _, fingerprint = mark.partition(" ")
        return int(storage_id) in self.events and self._fingerprint(int(storage_id)) == fingerprint

    def totals(self, upto: int) -> tuple[int, int]:
        ids = [key for key in self.events if key <= upto]
        return len(ids), sum(ids)

    def fingerprints(self, after: int) -> dict[int, str]:
        return {key: self._fingerprint(key) for key in self.events if key > after}

    def wipes(self) -> dict[str, datetime]:
        return self.wiped

    def read(self, storage_ids: Sequence[int]) -> Iterator[LoggedEvent]:
        for key in storage_ids:
            if key in self.events:
                self.were_read.append(key)
                yield LoggedEvent(key, self._fingerprint(key), self.events[key])

    def _fingerprint(self, storage_id: int) -> str:
        node = self.events[storage_id].node
        return f"{node.dagster_run} {node.timestamp}"

    def _is_wiped(self, event: ParsedEvent) -> bool:
        moment = self.wiped.get(event.node.asset)
        return moment is not None and event.node.timestamp is not None and event.node.timestamp <= moment

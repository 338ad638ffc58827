"""Queries are correct on any graph."""

from hypothesis import given
from hypothesis import strategies as st

from ml_assets.lineage.graph import Edge
from tests.ml_assets.lineage.index.made_up import node, read
from tests.ml_assets.lineage.index.reference import Event, ReferenceGraph


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event], set[tuple[int, int]]]:
    """Return events of a few assets, each derived from some earlier ones in the log, and the edges between them."""
    size = draw(st.integers(1, 12))
    events: list[Event] = []
    edges = set()
    for number in range(1, size + 1):
        partition = draw(st.sampled_from([None, "2013-01", "2013-02"]))
        made = node(number, draw(st.sampled_from("abc")), f"v{draw(st.integers(0, 2))}", partition=partition)
        inputs = draw(st.sets(st.integers(1, number - 1))) if number > 1 else set()
        edges |= {(source, number) for source in inputs}
        events.append(Event(made, tuple(read(events[source - 1].node) for source in inputs)))
    return events, edges


def naive_reach(starts: set[int], edges: set[tuple[int, int]]) -> set[int]:
    reached = set(starts)
    while True:
        more = {target for source, target in edges if source in reached} - reached
        if not more:
            return reached
        reached |= more


@given(history=histories(), data=st.data())
def test_queries_agree_with_naive_reachability(
    history: tuple[list[Event], set[tuple[int, int]]], data: st.DataObject
) -> None:
    events, edges = history
    graph = ReferenceGraph.of_events(data.draw(st.permutations(events)))
    ids = {event.node.storage_id: event.node.id for event in events}
    starts = data.draw(st.sets(st.sampled_from(sorted(number for number in ids if number)), min_size=1))
    down = {ids[number] for number in naive_reach(starts, edges)}
    up = {ids[number] for number in naive_reach(starts, {(target, source) for source, target in edges})}
    part = graph.subgraph(up | down)

    assert set(graph.edges) == {Edge(ids[source], ids[target]) for source, target in edges}
    assert graph.downstream(ids[number] for number in starts) == down
    assert graph.upstream(ids[number] for number in starts) == up
    assert set(part.nodes) == up | down
    assert set(part.edges) == {edge for edge in graph.edges if {edge.source, edge.target} <= up | down}

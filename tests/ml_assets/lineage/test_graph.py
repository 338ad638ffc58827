"""Queries are right on any graph; references find what they name, and nothing else; in the index as by definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.lineage.graph import Edge, Node, NodeKind
from ml_assets.lineage.questions import Question
from ml_assets.resources.errors import AmbiguousReference, UnknownReference
from ml_assets.resources.provenance import ArtifactKind, InputVersion
from tests.ml_assets.lineage.index.indexed import IndexedGraph, index_of
from tests.ml_assets.lineage.index.reference import Event, ReferenceGraph

HEX = "0123456789abcdef0123456789abcdef"


def md5(start: str, directory: bool = False) -> str:
    return f"md5:{start}{HEX[len(start) :]}{'.dir' if directory else ''}"


def node(storage_id: int, asset: str, version: str = "", **fields: object) -> Node:
    fields.setdefault("kind", ArtifactKind.DATASET)
    return Node(asset=asset, data_version=version or md5("d", False), storage_id=storage_id, **fields)  # type: ignore[arg-type]


def read(source: Node, **changes: object) -> InputVersion:
    version = InputVersion(
        asset=source.asset,
        partition=source.partition,
        data_version=source.data_version or "",
        storage_id=source.storage_id,
        run_id=source.dagster_run,
    )
    return version.model_copy(update=changes)


def found(graph: IndexedGraph, text: str) -> list[str]:
    return sorted(graph.trace(text).starts)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event], set[tuple[int, int]]]:
    """Events of a few assets, each made of some that stood before it in the log, and the edges between them."""
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


def test_a_reader_keeps_the_version_it_read_when_the_input_is_made_again() -> None:
    old, new = node(1, "flights", md5("a")), node(3, "flights", md5("b"))
    graph = index_of([Event(old), Event(node(2, "model"), (read(old),)), Event(new)])
    assert graph.parents("model#2") == (old,)


def test_identical_materializations_stay_apart_and_one_version_starts_from_both() -> None:
    first, second = node(1, "flights", md5("a")), node(2, "flights", md5("a"))
    graph = index_of([Event(first), Event(second), Event(node(3, "model"), (read(second),))])
    assert found(graph, md5("a")) == ["flights#1", "flights#2"]
    assert graph.parents("model#3") == (second,)


def test_a_pinned_input_is_the_last_event_before_its_reader() -> None:
    made = [node(number, "flights", md5("a"), partition="2013-01") for number in (1, 2, 4)]
    other = node(5, "flights", md5("a"), partition="2013-02")
    pinned = read(made[0], storage_id=None, run_id=None)
    graph = index_of([*map(Event, [*made, other]), Event(node(3, "model"), (pinned,))])
    assert [parent.id for parent in graph.parents("model#3")] == ["flights@2013-01#2"]


def test_a_wiped_input_stays_a_node_with_the_id_it_had() -> None:
    gone = node(1, "flights", md5("a"), partition="2013-01", dagster_run="r1")
    graph = index_of([Event(node(number, "model"), (read(gone),)) for number in (2, 3)])
    (parent,) = graph.parents("model#2")
    assert (parent.id, parent.kind, parent.data_version) == (gone.id, NodeKind.MISSING, md5("a"))
    assert found(graph, md5("a")) == [gone.id]
    assert [child.id for child in graph.children(gone.id)] == ["model#2", "model#3"]


@pytest.mark.parametrize(
    "successor",
    [
        node(1, "weather", md5("a"), dagster_run="r1"),
        node(1, "flights", md5("b"), dagster_run="r1"),
        node(1, "flights", md5("a"), dagster_run="r2"),
        node(1, "flights", md5("a"), dagster_run="r1", partition="2013-01"),
    ],
    ids=["asset", "version", "run", "partition"],
)
def test_an_event_that_took_over_a_storage_id_is_not_mistaken_for_the_input(successor: Node) -> None:
    gone = node(1, "flights", md5("a"), dagster_run="r1")
    graph = index_of([Event(successor), Event(node(2, "model"), (read(gone),))])
    (parent,) = graph.parents("model#2")
    assert parent.kind is NodeKind.MISSING
    assert parent.id == f"flights#{md5('a')}"
    assert successor in graph.nodes.values()


def test_nothing_was_made_of_what_came_after_it_whatever_a_record_says() -> None:
    later = node(3, "flights", md5("a"))
    itself = node(2, "model", md5("b"))
    graph = index_of([Event(later), Event(itself, (read(later), read(itself)))])
    assert {parent.kind for parent in graph.parents("model#2")} == {NodeKind.MISSING}
    assert graph.children("flights#3") == ()


def test_two_lost_inputs_that_had_one_storage_id_stay_apart() -> None:
    gone = [node(1, "flights", md5(start)) for start in "ab"]
    graph = index_of([Event(node(2 + i, "model"), (read(lost),)) for i, lost in enumerate(gone)])
    assert [graph.parents(f"model#{2 + i}")[0].data_version for i in range(2)] == [md5("a"), md5("b")]


def test_an_asset_stands_for_the_latest_of_each_partition() -> None:
    made = [node(n, "flights", md5(str(n)), partition=p) for n, p in [(1, "01"), (2, "02"), (3, "01")]]
    graph = index_of(map(Event, made))
    assert found(graph, "flights") == ["flights@01#3", "flights@02#2"]
    assert found(graph, "flights@01") == ["flights@01#3"]
    assert found(graph, "flights@01#1") == ["flights@01#1"]


def test_an_asset_stands_for_a_missing_event_only_if_nothing_else_is_left() -> None:
    gone = node(7, "flights", md5("a"))
    kept = Event(node(3, "flights", md5("b")))
    reader = Event(node(9, "model"), (read(gone),))
    assert found(index_of([kept, reader]), "flights") == ["flights#3"]
    assert found(index_of([reader]), "flights") == ["flights#7"]


@pytest.mark.parametrize("kind", [ArtifactKind.DATASET, NodeKind.ASSET, NodeKind.OBSERVATION])
@pytest.mark.parametrize("name", ["raw", "raw@01"])
def test_what_came_from_an_asset_came_from_each_event_that_gave_what_it_is_now(
    kind: ArtifactKind | NodeKind, name: str
) -> None:
    raw = [node(n, "raw", md5(v), partition="01", kind=kind) for n, v in [(1, "a"), (3, "b"), (5, "a")]]
    others = [node(6, "raw", md5("a"), partition="02", kind=kind), node(7, "raw", md5("b"), partition="02", kind=kind)]
    copy = node(8, "copy", md5("a"), partition="01", kind=kind)
    readers = [node(2, "model"), node(4, "report")]
    events = [*map(Event, [*raw, *others, copy]), *(Event(r, (read(s),)) for r, s in zip(readers, raw, strict=False))]
    graph = index_of(events)
    made = graph.ask(Question(name, up=False)).graph.nodes.keys()
    assert made - {"raw@02#7"} == {"raw@01#1", "model#2", "raw@01#5"}
    assert graph.ask(Question(name, down=False)).graph.nodes.keys() - {"raw@02#7"} == {"raw@01#5"}
    assert graph.ask(Question("raw@01#5", up=False)).graph.nodes.keys() == {"raw@01#5"}


def test_what_is_upstream_of_an_asset_is_upstream_of_its_latest_event_alone() -> None:
    seeds = [node(1, "seed", md5("1")), node(3, "seed", md5("3"))]
    raw = [Event(node(n, "raw", md5("a")), (read(seed),)) for n, seed in zip((2, 4), seeds, strict=True)]
    trace = index_of([*map(Event, seeds), *raw, Event(node(5, "model"), (read(raw[0].node),))]).trace("raw")
    assert trace.upstream == {"seed#3", "raw#4"}
    assert trace.downstream == {"raw#2", "raw#4", "model#5"}


def test_what_was_made_in_an_image_was_made_in_each_equal_rebuild_of_it() -> None:
    def built(storage_id: int, digit: str, repository: str = "train") -> Node:
        image = f"registry.example/{repository}@sha256:{digit * 64}"
        return node(storage_id, "images/train", "environment", kind=ArtifactKind.IMAGE, image=image)

    images = [built(1, "7"), built(3, "8"), built(5, "7", "moved")]
    readers = [Event(node(n, "model"), (read(image),)) for n, image in zip((2, 4), images, strict=False)]
    graph = index_of([*map(Event, images), *readers])
    answer = graph.ask(Question("images/train", up=False))
    assert answer.graph.nodes.keys() == {"images/train#1", "model#2", "images/train#5"}


def test_what_was_made_of_a_wiped_event_was_made_of_its_equal_successor() -> None:
    gone = node(1, "raw", md5("a"), dagster_run="r1")
    graph = index_of([Event(node(2, "model"), (read(gone),)), Event(node(3, "raw", md5("a")))])
    assert graph.ask(Question("raw", up=False)).graph.nodes.keys() == {"raw#1", "model#2", "raw#3"}


IMAGE = f"registry.example/train@sha256:{'7' * 64}"
IDENTIFIED = {
    "image": (IMAGE, [IMAGE, f"sha256:{'7' * 64}", "sha256:777777", "777777"]),
    "index_digest": (f"sha256:{'6' * 64}", [f"sha256:{'6' * 64}", "666666"]),
    "environment": (f"sha256:{'5' * 64}", [f"sha256:{'5' * 64}", "555555"]),
    "content_version": (md5("4444444", directory=True), [md5("4444444", directory=True), md5("4444444"), "444444"]),
    "mlflow_run": ("3" * 32, ["3" * 32, "33333333"]),
    "model_version": ("models:/delay/2", ["models:/delay/2"]),
    "dagster_run": ("22222222-aaaa-4bbb-8ccc-000000000000", ["22222222-aaaa-4bbb-8ccc-000000000000", "22222222"]),
    "commit": ("1" * 40, ["1" * 40, "1111111", "1111111+dirty"]),
}


@pytest.mark.parametrize(
    ("attribute", "value", "text"),
    [(attribute, value, text) for attribute, (value, texts) in IDENTIFIED.items() for text in texts],
)
def test_every_identifier_finds_what_carries_it(attribute: str, value: str, text: str) -> None:
    carrier = node(1, "model", md5("a"), **{attribute: value})
    graph = index_of([Event(carrier), Event(node(2, "other", md5("b")))])
    assert found(graph, text) == [carrier.id]


def test_a_shortened_digest_that_fits_two_is_refused_with_both() -> None:
    graph = index_of([Event(node(1, "flights", md5("aaaaaa1"))), Event(node(2, "weather", md5("aaaaaa2")))])
    with pytest.raises(AmbiguousReference) as refused:
        graph.trace("aaaaaa")
    assert "flights#1" in str(refused.value)
    assert "weather#2" in str(refused.value)
    assert found(graph, "aaaaaa1") == ["flights#1"]


def test_digits_that_fit_a_commit_and_a_version_are_refused() -> None:
    both = [Event(node(1, "flights", md5("abcdef0"))), Event(node(2, "weather", md5("1"), commit="abcdef0" + "0" * 33))]
    with pytest.raises(AmbiguousReference, match="commit abcdef0"):
        index_of(both).trace("abcdef0")


def test_a_whole_name_goes_before_the_start_of_another() -> None:
    events = [Event(node(1, "abcdef01", md5("1"))), Event(node(2, "weather", md5("abcdef01")))]
    assert found(index_of(events), "abcdef01") == ["abcdef01#1"]
    file, directory = node(1, "flights", md5("a")), node(2, "flights", md5("a", directory=True))
    assert found(index_of([Event(file), Event(directory)]), md5("a")) == ["flights#1"]


@pytest.mark.parametrize("text", ["flight", "flights@2013-02", "md5:bbbbbb", "models:/delay/9", "flights#2"])
def test_an_unknown_reference_is_refused(text: str) -> None:
    graph = index_of([Event(node(1, "flights", md5("a"), partition="2013-01"))])
    with pytest.raises(UnknownReference, match=text):
        graph.trace(text)

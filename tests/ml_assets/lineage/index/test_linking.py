"""Each input version is linked to its event, in the index as in the reference."""

import pytest

from ml_assets.lineage.graph import Node, NodeKind
from tests.ml_assets.lineage.index.indexed import found, index_of
from tests.ml_assets.lineage.index.made_up import md5, node, read
from tests.ml_assets.lineage.index.reference import Event


def test_a_reader_keeps_the_version_it_read_when_the_input_is_made_again() -> None:
    old, new = node(1, "flights", md5("a")), node(3, "flights", md5("b"))
    graph = index_of([Event(old), Event(node(2, "model"), (read(old),)), Event(new)])
    assert graph.parents("model#2") == (old,)


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

"""Positions of nodes in a picture."""

from itertools import combinations, pairwise

import pytest

from ml_assets.lineage.graph import LineageGraph
from ml_assets.lineage.layout import NODE_SIZE, Layout, lay_out
from ml_assets.resources.provenance import ArtifactKind
from tests.ml_assets.lineage.graphs import made, pipeline, tangle

WIDTH, HEIGHT = NODE_SIZE


def form(layout: Layout) -> float:
    """Return the ratio of width to height."""
    across = max(x for x, _ in layout.positions.values()) + WIDTH
    return across / (max(y for _, y in layout.positions.values()) + HEIGHT)


@pytest.mark.parametrize("graph", [pipeline(1), pipeline(50), tangle(200)], ids=["small", "wide", "deep"])
def test_every_node_has_a_place_of_its_own(graph: LineageGraph) -> None:
    places = lay_out(graph).positions
    assert places.keys() == graph.nodes.keys()
    for (one_x, one_y), (other_x, other_y) in combinations(places.values(), 2):
        assert abs(one_x - other_x) >= WIDTH or abs(one_y - other_y) >= HEIGHT


def test_what_something_was_made_of_is_on_its_left() -> None:
    graph = pipeline(50)
    places = lay_out(graph).positions
    assert all(places[edge.source][0] + WIDTH < places[edge.target][0] for edge in graph.edges)


@pytest.mark.parametrize("graph", [pipeline(500), tangle(2000)], ids=["wide", "deep"])
def test_thousands_of_nodes_have_about_the_form_of_a_screen(graph: LineageGraph) -> None:
    assert 0.6 < form(lay_out(graph)) < 4


def test_a_few_layers_stand_beside_each_other() -> None:
    nodes = [made(number, f"step_{number}", ArtifactKind.DATASET) for number in range(12)]
    chain = LineageGraph(nodes, [(one.id, other.id) for one, other in pairwise(nodes)])
    assert len({y for _, y in lay_out(chain).positions.values()}) == 1


def test_nodes_of_an_asset_stand_together_by_partition() -> None:
    layout = lay_out(pipeline(12))
    (block,) = (each for each in layout.blocks if each.asset == "delay_model")
    assert (block.count, block.kind) == (12, ArtifactKind.MODEL)
    models = {node_id: place for node_id, place in layout.positions.items() if node_id.startswith("delay_model@")}
    assert sorted(models, key=lambda node_id: models[node_id]) == sorted(models)
    for x, y in models.values():
        assert block.x <= x <= x + WIDTH <= block.x + block.width
        assert block.y <= y <= y + HEIGHT <= block.y + block.height


def test_a_source_stands_just_before_its_first_reader() -> None:
    first, second, late = (made(number, f"step_{number}", ArtifactKind.DATASET) for number in (1, 2, 3))
    last = made(4, "last", ArtifactKind.MODEL)
    graph = LineageGraph([first, second, late, last], [(first.id, second.id), (second.id, last.id), (late.id, last.id)])
    places = lay_out(graph).positions
    assert places[late.id][0] == places[second.id][0]


def test_a_circle_which_only_a_false_record_makes_is_drawn() -> None:
    one, other = (made(number, f"step_{number}", ArtifactKind.DATASET) for number in (1, 2))
    assert len(lay_out(LineageGraph([one, other], [(one.id, other.id), (other.id, one.id)])).positions) == 2


def test_nothing_is_no_picture() -> None:
    assert lay_out(LineageGraph([], [])) == Layout({}, ())

"""A policy keeps the latest, young and recently superseded nodes, registered models, and everything upstream."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ml_assets.lineage.graph import LineageGraph, Node, NodeKind
from ml_assets.resources.provenance import ArtifactKind
from ml_assets.retention.policy import Policy, kept_nodes

NOW = datetime(2026, 1, 31, tzinfo=UTC)
CUTOFF = NOW - timedelta(days=1)


def node(storage_id: int, asset: str, day: int = 1, **fields: Any) -> Node:
    moment = datetime(2026, 1, day, tzinfo=UTC)
    kind = fields.pop("kind", ArtifactKind.DATASET)
    return Node(asset, kind, data_version=f"md5:{storage_id:032}", storage_id=storage_id, timestamp=moment, **fields)


def kept(nodes: list[Node], policy: Policy, *registered: str, edges: tuple[tuple[str, str], ...] = ()) -> set[str]:
    return {name.partition("#")[2] for name in kept_nodes(LineageGraph(nodes, edges), policy, registered, CUTOFF)}


HISTORY = [node(number, "data", number) for number in range(1, 6)]


@pytest.mark.parametrize(("last", "expected"), [(1, {"5"}), (2, {"4", "5"}), (9, {"1", "2", "3", "4", "5"})])
def test_the_latest_of_each_asset_are_kept(last: int, expected: set[str]) -> None:
    assert kept(HISTORY, Policy(last=last)) == expected


def test_partitions_are_counted_apart() -> None:
    nodes = [node(1, "data", partition="a"), node(2, "data", partition="b"), node(3, "data", partition="a")]
    assert kept(nodes, Policy(last=1)) == {"2", "3"}


def test_at_least_one_is_kept() -> None:
    with pytest.raises(ValueError, match="the latest materialization is always kept"):
        Policy(last=0)


def test_what_is_younger_than_a_date_is_kept() -> None:
    assert kept(HISTORY, Policy(last=1, since=datetime(2026, 1, 4, tzinfo=UTC))) == {"4", "5"}


def test_what_was_the_latest_until_lately_may_be_read_still() -> None:
    nodes = [node(1, "data", 1), node(2, "data", 2), node(3, "data", 31)]
    assert kept(nodes, Policy(last=1)) == {"2", "3"}


def test_registered_and_deployed_models_are_kept_with_all_that_they_came_from() -> None:
    nodes = [
        node(1, "data"),
        node(2, "model", kind=ArtifactKind.MODEL, model_version="models:/m/1"),
        node(3, "data"),
        node(4, "model", kind=ArtifactKind.MODEL, model_version="models:/m/2", is_deployed=True),
        node(5, "data"),
        node(6, "model", kind=ArtifactKind.MODEL),
    ]
    edges = (("data#1", "model#2"), ("data#3", "model#4"), ("data#5", "model#6"))
    both = ("model#2", "model#4")
    assert kept(nodes, Policy(last=1), *both, edges=edges) == {"1", "2", "3", "4", "5", "6"}
    # The registry no longer has the first model.
    assert kept(nodes, Policy(last=1), "model#4", edges=edges) == {"3", "4", "5", "6"}
    assert kept(nodes, Policy(last=1, registered=False), *both, edges=edges) == {"3", "4", "5", "6"}
    assert kept(nodes, Policy(last=1, registered=False, deployed=False), *both, edges=edges) == {"5", "6"}
    assert kept(nodes, Policy(last=1, whole_origin=False), *both, edges=edges) == {"2", "4", "5", "6"}


def test_what_people_track_themselves_is_kept() -> None:
    nodes = [node(number, "labels", kind=NodeKind.OBSERVATION) for number in (1, 2)]
    assert kept(nodes, Policy(last=1)) == {"1", "2"}


def image(storage_id: int, asset: str, name: str) -> Node:
    return node(storage_id, asset, kind=ArtifactKind.IMAGE, image=name)


@pytest.mark.parametrize(
    ("made", "edges"),
    [
        (node(9, "model", image="train:1"), ()),
        (node(9, "model", image="train:gone"), (("images/train#1", "model#9"),)),
    ],
    ids=["by its digest", "by an edge"],
)
def test_images_in_which_no_step_ever_ran_are_kept_unless_they_are_asked_for(
    made: Node, edges: tuple[tuple[str, str], ...]
) -> None:
    train = [image(number, "images/train", f"train:{number}") for number in (1, 2)]
    serve = [image(number, "images/serve", f"serve:{number}") for number in (3, 4)]
    reader = node(8, "model", image="train:2")
    history = [*train, *serve, reader, made]
    edges = (*edges, ("images/train#2", "model#8"))
    assert kept([*train, *serve], Policy(last=1)) == {"1", "2", "3", "4"}
    assert kept(history, Policy(last=1, whole_origin=False), edges=edges) == {"2", "3", "4", "9"}
    assert kept(history, Policy(last=1, whole_origin=False, service_images=False), edges=edges) == {"2", "4", "9"}

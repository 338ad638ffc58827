"""Content is collected if it was recorded, is not kept, is old enough, and is not part of anything that stays."""

from collections.abc import Collection, Mapping
from typing import Any

from ml_assets.lineage.graph import LineageGraph, Node, NodeKind
from ml_assets.resources.dvc.directory import HeldObject
from ml_assets.resources.dvc.store import Listings
from ml_assets.resources.provenance import ArtifactKind
from ml_assets.retention.plan import DataPlan, plan_data, unreferenced_images

CUTOFF = 1000.0
A, B, C, D = (letter * 32 for letter in "abcd")
FIRST, SECOND, THEIRS = ("1" * 32 + ".dir", "2" * 32 + ".dir", "3" * 32 + ".dir")


def node(storage_id: int, value: str, kind: Any = ArtifactKind.DATASET, **fields: Any) -> Node:
    return Node(f"asset{storage_id}", kind, data_version=f"md5:{value}", storage_id=storage_id, **fields)


def planned(
    nodes: list[Node],
    kept: set[int],
    directories: Mapping[str, Collection[str]] | None = None,
    *,
    held: Mapping[str, float | None] | None = None,
    claimed: Collection[str] = (),
    damaged: Collection[str] = (),
    unknown: Collection[str] = (),
) -> DataPlan:
    """Return the plan for a store that, by default, holds everything named; every object has ten bytes."""
    listed = {value: frozenset(members) for value, members in (directories or {}).items()}
    values = {(each.data_version or "").removeprefix("md5:") for each in nodes} | listed.keys()
    everything = dict.fromkeys(values.union(*listed.values()), 1.0)
    objects = {value: HeldObject(10, written) for value, written in (everything if held is None else held).items()}
    return plan_data(
        LineageGraph(nodes, ()),
        {each.id for each in nodes if each.storage_id in kept},
        objects,
        lambda wanted: Listings(
            {value: listed[value] for value in wanted}, dict.fromkeys(damaged, "damaged"), frozenset(unknown)
        ),
        claimed,
        CUTOFF,
    )


def objects(plan: DataPlan) -> list[tuple[str, ...]]:
    return [each.objects for each in plan.collect]


def test_unkept_content_goes_and_says_whose_it_was() -> None:
    (gone,) = planned([node(1, A), node(2, B)], {2}).collect
    assert (gone.version, gone.objects, gone.size, gone.of) == (f"md5:{A}", (A,), 10, ("asset1#1",))


def test_content_that_a_kept_materialization_has_too_stays() -> None:
    assert planned([node(1, A), node(2, A)], {2}).collect == ()


def test_a_file_goes_if_no_kept_directory_lists_it_and_the_listing_goes_last() -> None:
    plan = planned([node(1, FIRST), node(2, SECOND)], {2}, {FIRST: [A, B], SECOND: [B, C]})
    assert objects(plan) == [(A, FIRST)]


def test_files_shared_by_directories_that_both_go_are_counted_once() -> None:
    plan = planned([node(1, FIRST), node(2, SECOND)], set(), {FIRST: [A, B], SECOND: [B, C]})
    assert objects(plan) == [(A, B, FIRST), (C, SECOND)]
    assert sum(each.size for each in plan.collect) == 50


def test_a_file_that_is_an_artifact_of_its_own_stays() -> None:
    plan = planned([node(1, FIRST), node(2, A)], {2}, {FIRST: [A, B]})
    assert objects(plan) == [(B, FIRST)]


def test_what_is_young_or_of_unknown_age_stays() -> None:
    held = {A: CUTOFF, B: None, C: CUTOFF - 1}
    assert objects(planned([node(1, A), node(2, B), node(3, C)], set(), held=held)) == [(C,)]


def test_what_nothing_ever_referred_to_is_told_apart() -> None:
    plan = planned([node(1, A)], set(), held={A: 1.0, D: 1.0, C: CUTOFF + 1})
    assert (objects(plan), dict(plan.orphans)) == ([(A,)], {D: 10})


def test_directories_of_others_keep_their_files() -> None:
    plan = planned([node(1, FIRST)], set(), {FIRST: [A, B], THEIRS: [B, D]})
    assert objects(plan) == [(A, FIRST)]
    assert set(plan.orphans) == {THEIRS, D}


def test_what_other_instances_claim_stays_whole() -> None:
    plan = planned([node(1, FIRST), node(2, C)], set(), {FIRST: [A, B]}, claimed=[FIRST])
    assert objects(plan) == [(C,)]
    assert not plan.orphans


def test_what_people_track_and_what_foreign_assets_have_stays() -> None:
    nodes = [node(1, A, NodeKind.OBSERVATION), node(2, A), node(3, B, NodeKind.ASSET), node(4, B), node(5, C)]
    assert objects(planned(nodes, set())) == [(C,)]


def test_what_was_read_and_is_gone_from_the_log_is_kept_with_its_reader_alone() -> None:
    nodes = [node(1, A, NodeKind.MISSING), node(2, B)]
    assert not planned(nodes, {1, 2}).orphans
    assert set(planned(nodes, {2}).orphans) == {A}


def test_kept_content_that_the_store_has_lost_is_told() -> None:
    plan = planned([node(1, A), node(2, FIRST), node(3, C)], {1, 2, 3}, {FIRST: [B, D]}, held={FIRST: 1, D: 1, C: 1})
    assert plan.incomplete == (f"md5:{FIRST}", f"md5:{A}")


def test_what_is_half_gone_goes_wholly() -> None:
    plan = planned([node(1, FIRST)], set(), {FIRST: [A, B]}, held={FIRST: 1.0, B: 1.0})
    assert objects(plan) == [(B, FIRST)]


def test_an_image_stays_as_long_as_something_kept_was_made_in_it() -> None:
    image = ArtifactKind.IMAGE
    old, ran, new = (f"registry:5000/ml/train@sha256:{letter * 64}" for letter in "abc")
    nodes = [
        Node("images/train", image, storage_id=1, image=old),
        Node("images/train", image, storage_id=2, image=ran),
        Node("images/train", image, storage_id=3, image=new),
        Node("model", ArtifactKind.MODEL, storage_id=4, image=ran),
        Node("images/none", image, storage_id=5),
    ]
    going = unreferenced_images(LineageGraph(nodes, ()), {"images/train#3", "model#4"})
    assert {name: [each.id for each in made] for name, made in going.items()} == {old: ["images/train#1"]}


def test_what_a_damaged_listing_of_others_names_stays_and_the_rest_goes() -> None:
    plan = planned([node(1, A), node(2, B), node(3, C)], {3}, {THEIRS: [B]}, damaged=[THEIRS])
    assert objects(plan) == [(A,)]
    assert (plan.damaged, plan.unknown) == ({THEIRS: "damaged"}, frozenset())


def test_nothing_goes_while_files_of_a_damaged_listing_are_unknown() -> None:
    nodes, directories = [node(1, A), node(2, FIRST), node(3, SECOND)], {FIRST: [B], SECOND: [C], THEIRS: []}
    held = dict.fromkeys([A, B, C, D, FIRST, SECOND, THEIRS], 1.0)
    plan = planned(nodes, {3}, directories, held=held, damaged=[THEIRS], unknown=[THEIRS])
    assert (plan.collect, dict(plan.orphans), plan.unknown) == ((), {}, {THEIRS})
    plan = planned(nodes, {3}, directories, held=held, damaged=[SECOND])
    assert (plan.collect, dict(plan.orphans), plan.unknown) == ((), {}, {SECOND})


def test_damaged_listing_that_goes_takes_no_file_with_it() -> None:
    plan = planned([node(1, FIRST), node(2, C)], {2}, {FIRST: [A, B]}, damaged=[FIRST], unknown=[FIRST])
    assert objects(plan) == [(FIRST,)]

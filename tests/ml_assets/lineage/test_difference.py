"""Independent differences are reported before their consequences, and likely causes before unlikely ones."""

from datetime import UTC, datetime
from typing import Any

from ml_assets.lineage.difference import (
    Aspect,
    Difference,
    Origin,
    differences,
    differences_to_json,
    recorded_differences,
)
from ml_assets.lineage.graph import Node
from ml_assets.resources.provenance import (
    ArtifactKind,
    Hardware,
    InputVersion,
    Launch,
    LaunchKind,
    Observed,
    ProvenanceRecord,
    RunEnvironment,
    Source,
    Threads,
    Uncovered,
    UncoveredKind,
)
from tests.ml_assets.lineage.index.reference import Event, ReferenceGraph

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
HARDWARE = Hardware(architecture="x", system="x", processor="x", cpus=4, memory_bytes=1)


def made(storage_id: int, asset: str, version: str, *inputs: Event, **fields: Any) -> Event:
    node = Node(asset, fields.pop("kind", ArtifactKind.MODEL), data_version=version, storage_id=storage_id, **fields)
    read = [
        InputVersion(
            asset=i.node.asset,
            partition=i.node.partition,
            data_version=i.node.data_version or "",
            storage_id=i.node.storage_id,
        )
        for i in inputs
    ]
    return Event(node, tuple(read))


def record(**fields: Any) -> ProvenanceRecord:
    defaults: dict[str, Any] = {
        "environment": RunEnvironment(target="local", environment_digest="e", python="3.11", dagster="1"),
        "source": Source(commit="c"),
        "hardware": HARDWARE,
    }
    return ProvenanceRecord(
        kind=ArtifactKind.MODEL,
        asset="model",
        data_version="v",
        code_version="code",
        dagster_run="run",
        dagster_step="model",
        attempt=0,
        job="job",
        launch=Launch(kind=LaunchKind.USER),
        started_at=MOMENT,
        ended_at=MOMENT,
        reproducible=True,
        **{**defaults, **fields},
    )


def origin(*events: Event, record: ProvenanceRecord | None = None) -> Origin:
    return Origin(events[-1].node, ReferenceGraph.of_events(events), record)


def test_data_differs_where_it_differs_by_itself() -> None:
    raw, other = made(1, "raw", "r1"), made(2, "other", "o")
    table = made(3, "table", "t1", raw, other)
    new_raw = made(5, "raw", "r2")
    new_table = made(6, "table", "t2", new_raw, other)
    first = origin(raw, other, table, made(4, "model", "m1", table))
    second = origin(new_raw, other, new_table, made(7, "model", "m2", new_table))
    assert differences(first, second) == (Difference(Aspect.DATA, "raw", "r1", "r2"),)


def test_a_table_that_differs_with_the_same_inputs_is_told() -> None:
    raw = made(1, "raw", "r")
    table, again = made(2, "table", "t1", raw), made(4, "table", "t2", raw)
    first, second = origin(raw, table, made(3, "model", "m1", table)), origin(raw, again, made(5, "model", "m2", again))
    assert differences(first, second) == (Difference(Aspect.DATA, "table", "t1", "t2"),)


def test_a_partition_more_is_a_difference() -> None:
    may, june = made(1, "raw", "a", partition="05"), made(2, "raw", "b", partition="06")
    first, second = origin(may, made(3, "model", "m", may)), origin(may, june, made(4, "model", "n", may, june))
    assert differences(first, second) == (Difference(Aspect.DATA, "raw@06", None, "b"),)
    assert differences(first, first) == ()


def test_a_state_that_is_carried_on_is_told_where_it_differs() -> None:
    start = made(1, "state", "s0", partition="0")
    one, two = made(2, "state", "s1", start, partition="1"), made(3, "state", "s2", start, partition="1")
    first, second = origin(start, one, made(4, "model", "m", one)), origin(start, two, made(5, "model", "n", two))
    assert [each.what for each in differences(first, second)] == ["state@1"]


def test_an_image_is_environment_and_explains_what_was_made_in_it() -> None:
    old, new = (made(number, "images/train", f"e{number}", kind=ArtifactKind.IMAGE) for number in (1, 2))
    table, again = made(3, "table", "a", old), made(4, "table", "b", new)
    first, second = origin(old, table, made(5, "model", "m", table)), origin(new, again, made(6, "model", "n", again))
    assert differences(first, second) == (Difference(Aspect.ENVIRONMENT, "images/train", "e1", "e2"),)


def test_what_explains_each_other_is_told_all_the_same() -> None:
    left, right = made(1, "left", "l1"), made(2, "right", "r2")
    first = origin(left, made(3, "right", "r1", left), made(5, "model", "m", made(3, "right", "r1", left)))
    second = origin(right, made(4, "left", "l2", right), made(6, "model", "n", made(4, "left", "l2", right)))
    assert {each.what for each in differences(first, second)} == {"left", "right"}


def test_likely_causes_go_before_unlikely_ones() -> None:
    raw, again = made(1, "raw", "a"), made(2, "raw", "b")
    before = record(parameters={"depth": 6, "rounds": 10}, seeds={"seed": 1}, threads=Threads(variables={"OMP": "1"}))
    after = record(parameters={"depth": 8, "rounds": 10}, seeds={"seed": 2}, threads=Threads(variables={"OMP": "4"}))
    first = origin(raw, made(3, "model", "m", raw, code_version="x", environment="e", commit="c"), record=before)
    second = origin(again, made(4, "model", "n", again, code_version="y", environment="f", commit="d"), record=after)
    assert [(each.aspect.name, each.what, each.before, each.after) for each in differences(first, second)] == [
        ("DATA", "raw", "a", "b"),
        ("PARAMETERS", "depth", "6", "8"),
        ("CODE", "code version", "x", "y"),
        ("ENVIRONMENT", "environment", "e", "f"),
        ("SEEDS", "seed", "1", "2"),
        ("HARDWARE", "OMP", "1", "4"),
        ("COMMIT", "commit", "c", "d"),
    ]


def test_equal_code_versions_are_not_equal_code_if_something_else_ran() -> None:
    def observed(**digests: str | None) -> Observed:
        items = tuple(Uncovered(kind=UncoveredKind.CODE, name=name, digest=each) for name, each in digests.items())
        return Observed(code_version="x", uncovered=items)

    first, second = record(observed=observed(a="1", b="1", c=None)), record(observed=observed(a="1", b="2", c=None))
    assert [(each.aspect, each.what, each.before, each.after) for each in recorded_differences(first, second)] == [
        (Aspect.CODE, "b", "1", "2"),
        (Aspect.CODE, "c", "unknown content", "unknown content"),
    ]
    assert list(recorded_differences(record(observed=observed(a="1")), record(observed=observed(a="1")))) == []
    assert list(recorded_differences(record(observed=observed(a="1")), record())) == []


def test_machines_read_the_same() -> None:
    first = origin(made(1, "model", "m"), record=record())
    second = origin(made(2, "model", "m"), record=record(hardware=HARDWARE.model_copy(update={"cpus": 8})))
    assert differences_to_json(differences(first, second), first, second) == {
        "first": "model#1",
        "second": "model#2",
        "differences": [{"aspect": "hardware", "what": "cpus", "before": "4", "after": "8"}],
    }

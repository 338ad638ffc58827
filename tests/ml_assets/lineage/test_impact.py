"""Affected artifacts are those that may still be used, the most urgent first, in the order of their creation."""

import io
from dataclasses import replace

from rich.console import Console

from ml_assets.lineage.graph import LineageGraph, Node
from ml_assets.lineage.impact import Impact, Urgency, impact_of, impact_to_json, render_impact
from ml_assets.resources.provenance import ArtifactKind, InputVersion
from tests.ml_assets.lineage.index.reference import Event, ReferenceGraph

DATA, MODEL = ArtifactKind.DATASET, ArtifactKind.MODEL


def made(storage_id: int, asset: str, *inputs: Event, model_version: str | None = None) -> Event:
    node = Node(
        asset, MODEL if model_version else DATA, data_version="v", storage_id=storage_id, model_version=model_version
    )
    read = [InputVersion(asset=i.node.asset, data_version="v", storage_id=i.node.storage_id) for i in inputs]
    return Event(node, tuple(read))


RAW = made(1, "raw")
OLD_TABLE = made(2, "table", RAW)
FIRST = made(3, "model", OLD_TABLE, model_version="models:/m/1")
TABLE = made(4, "table", RAW)
SECOND = made(5, "model", TABLE, model_version="models:/m/2")
REPORT = made(6, "report", SECOND)
OTHER = made(7, "other")
EVENTS = [RAW, OLD_TABLE, FIRST, TABLE, SECOND, REPORT, OTHER]
CURRENT = {"raw#1", "table#4", "model#5", "report#6", "other#7"}


def impact(reference: str, *deployed: str) -> Impact:
    trace = ReferenceGraph.of_events(EVENTS).trace(reference)
    nodes = [replace(node, is_deployed=node.model_version in deployed) for node in trace.graph.nodes.values()]
    return impact_of(replace(trace, graph=LineageGraph(nodes, trace.graph.edges)), CURRENT)


def listed(found: Impact) -> list[tuple[str, Urgency]]:
    return [(each.node.id, each.urgency) for each in found.affected]


def test_models_that_serve_go_before_registered_ones_and_these_before_the_rest() -> None:
    found = impact("raw", "models:/m/1")
    assert listed(found) == [
        ("model#3", Urgency.DEPLOYED),
        ("model#5", Urgency.REGISTERED),
        ("raw#1", Urgency.CURRENT),
        ("table#4", Urgency.CURRENT),
        ("report#6", Urgency.CURRENT),
    ]
    assert found.superseded == 1


def test_what_lies_upstream_or_beside_is_not_affected() -> None:
    assert [name for name, _ in listed(impact("report"))] == ["report#6"]


def test_what_was_replaced_is_counted_and_not_listed() -> None:
    found = impact_of(ReferenceGraph.of_events([RAW, OLD_TABLE]).trace("table#2"), CURRENT)
    assert (found.affected, found.superseded) == ((), 1)
    assert "no current, registered or deployed artifact" in printed(found)
    assert "1 replaced by newer materializations" in printed(found)


def printed(found: Impact) -> str:
    console = Console(width=300, color_system=None, record=True, file=io.StringIO())
    console.print(render_impact(found))
    return console.export_text()


def test_people_read_the_most_urgent_first() -> None:
    text = printed(impact("raw", "models:/m/2"))
    places = [text.index(part) for part in ("Deployed models", "model#5", "Registered models", "model#3", "raw#1")]
    assert places == sorted(places)


def test_machines_read_the_same() -> None:
    answer = impact_to_json(impact("table#4", "models:/m/2"))
    assert [(each["id"], each["urgency"]) for each in answer["affected"]] == [
        ("model#5", "deployed"),
        ("table#4", "current"),
        ("report#6", "current"),
    ]

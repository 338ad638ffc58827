"""A trace of any size is readable for people and machines."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console

from ml_assets.lineage.graph import Node, NodeKind, Trace
from ml_assets.lineage.rendering import DEPTH, FEW, MANY, render_trace, to_json
from ml_assets.resources.provenance import ArtifactKind, InputVersion
from tests.ml_assets.lineage.index.reference import Event, ReferenceGraph

MD5 = "md5:0123456789abcdef0123456789abcdef"
ENVIRONMENT = f"sha256:{'5' * 64}"


def node(storage_id: int, asset: str, **fields: object) -> Node:
    defaults = {"kind": ArtifactKind.DATASET, "data_version": MD5, "environment": ENVIRONMENT}
    return Node(asset=asset, storage_id=storage_id, **{**defaults, **fields})  # type: ignore[arg-type]


def read(*sources: Node) -> tuple[InputVersion, ...]:
    return tuple(
        InputVersion(asset=s.asset, partition=s.partition, data_version=MD5, storage_id=s.storage_id) for s in sources
    )


def printed(graph: ReferenceGraph, text: str) -> tuple[str, str]:
    """Return both trees of a trace, as text."""
    came_from, _, made = shown(graph.trace(text)).partition("\n\n")
    return came_from, made


def shown(trace: Trace) -> str:
    console = Console(width=300, color_system=None, record=True, file=io.StringIO())
    console.print(render_trace(trace))
    return console.export_text()


def chain(length: int) -> ReferenceGraph:
    nodes = [node(number, "state", partition=f"{number:04}") for number in range(1, length + 1)]
    return ReferenceGraph.of_events(
        Event(made, read(nodes[index - 1]) if index else ()) for index, made in enumerate(nodes)
    )


def test_both_directions_are_shown_and_nothing_else() -> None:
    flights, model, other = node(1, "flights"), node(2, "model"), node(3, "other")
    predictions = node(4, "predictions")
    graph = ReferenceGraph.of_events(
        [Event(flights), Event(model, read(flights)), Event(other, read(flights)), Event(predictions, read(model))]
    )
    came_from, made = printed(graph, "model")
    assert came_from.index("model#2") < came_from.index("flights#1")
    assert made.index("model#2") < made.index("predictions#4")
    assert "other" not in came_from + made


def test_a_node_that_occurs_twice_is_spelled_out_once() -> None:
    raw, left, right, model = node(1, "raw"), node(2, "left"), node(3, "right"), node(4, "model")
    graph = ReferenceGraph.of_events(
        [Event(raw), Event(left, read(raw)), Event(right, read(raw)), Event(model, read(left, right))]
    )
    came_from, _ = printed(graph, "model")
    assert came_from.count("raw#1") == 2
    assert came_from.count("raw#1  (shown above)") == 1


def test_digests_are_short_and_dirty_commits_and_missing_containers_are_marked() -> None:
    image = f"registry.example/train@sha256:{'7' * 64}"
    dirty = node(1, "dirty", commit="a" * 40, dirty=True)
    clean = node(2, "clean", commit="b" * 40, dirty=False, image=image)
    graph = ReferenceGraph.of_events([Event(dirty), Event(clean)])
    first, second = printed(graph, "dirty")[0], printed(graph, "clean")[0]
    assert "md5:0123456789ab " in first
    assert "aaaaaaaaaaaa+dirty" in first
    assert "not containerized" in first
    assert "commit bbbbbbbbbbbb" in second
    assert "+dirty" not in second
    assert f"sha256:{'7' * 12} " in second
    assert "not containerized" not in second


def test_what_is_unknown_of_a_plain_asset_is_not_made_up() -> None:
    plain = node(1, "plain", kind=NodeKind.ASSET, environment=None)
    assert "containerized" not in printed(ReferenceGraph.of_events([Event(plain)]), "plain")[0]


def test_a_wiped_input_is_marked() -> None:
    graph = ReferenceGraph.of_events([Event(node(2, "model"), read(node(1, "flights")))])
    assert "flights#1  missing  not in the log" in printed(graph, "model")[0]


def test_many_partitions_are_shown_by_the_first_few() -> None:
    months = [node(number, "flights", partition=f"{number:02}") for number in range(1, MANY + 2)]
    model = Event(node(99, "model"), read(*months))
    came_from, _ = printed(ReferenceGraph.of_events([*map(Event, months), model]), "model")
    assert [f"flights@{number:02}#{number}  dataset" in came_from for number in (1, FEW, FEW + 1)] == [
        True,
        True,
        False,
    ]
    assert f"… and {MANY + 1 - FEW} more of flights, up to flights@{MANY + 1}#{MANY + 1}" in came_from


def test_a_few_partitions_are_all_shown() -> None:
    months = [node(number, "flights", partition=f"{number:02}") for number in range(1, MANY + 1)]
    model = Event(node(99, "model"), read(*months))
    came_from, _ = printed(ReferenceGraph.of_events([*map(Event, months), model]), "model")
    assert came_from.count("flights@") == MANY


def test_a_chain_as_long_as_a_history_says_where_to_go_on() -> None:
    came_from, _ = printed(chain(3000), "state@3000")
    assert len(came_from.splitlines()) == DEPTH + 2
    assert f"trace 'state@{3000 - DEPTH + 1}#{3000 - DEPTH + 1}'" in came_from


def test_starts_that_came_from_each_other_are_one_tree() -> None:
    raw, model = node(1, "raw", dagster_run="abcdef01"), node(2, "model", dagster_run="abcdef01")
    came_from, made = printed(ReferenceGraph.of_events([Event(raw), Event(model, read(raw))]), "abcdef01")
    assert came_from.count("raw#1") == came_from.count("model#2") == made.count("raw#1") == made.count("model#2") == 1


def test_markup_in_names_is_printed_as_it_is() -> None:
    graph = ReferenceGraph.of_events([Event(node(1, "flights", partition="[red]x[/red]"))])
    assert "flights@[red]x[/red]#1" in printed(graph, "flights")[0]


def test_what_was_not_asked_is_not_shown() -> None:
    flights, model = node(1, "flights"), node(2, "model", kind=ArtifactKind.MODEL)
    trace = ReferenceGraph.of_events([Event(flights), Event(model, read(flights))]).trace("flights")
    downward = replace(trace, upstream=None)
    assert "Inputs" not in shown(downward)
    assert "model#2" in shown(downward)
    models = replace(downward, graph=trace.graph.subgraph(["model#2"]), starts=(), is_whole=False)
    assert "flights" not in shown(models)
    assert "model#2  model" in shown(models)
    assert "nothing recorded" in shown(replace(models, graph=trace.graph.subgraph([])))


def test_json_has_the_promised_form() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    flights = node(1, "flights", partition="2013-01", commit="a" * 40, dagster_run="r", timestamp=moment)
    model = node(2, "model", kind=ArtifactKind.MODEL, mlflow_run="m", model_version="models:/m/1")
    model = replace(model, aliases=("champion",), is_deployed=True)
    answer = json.loads(json.dumps(to_json(ReferenceGraph.of_events([Event(flights), Event(model, read(flights))]))))
    assert answer["edges"] == [{"from": "flights@2013-01#1", "to": "model#2"}]
    assert answer["nodes"][0] == {
        "id": "flights@2013-01#1",
        "kind": "dataset",
        "asset": "flights",
        "partition": "2013-01",
        "data_version": MD5,
        "image": None,
        "environment": ENVIRONMENT,
        "mlflow_run": None,
        "model_version": None,
        "aliases": [],
        "is_deployed": False,
        "collected": None,
        "commit": "a" * 40,
        "dagster_run": "r",
        "timestamp": "2026-01-02T03:04:05+00:00",
    }
    assert answer["nodes"][1]["kind"] == "model"
    assert answer["nodes"][1]["mlflow_run"] == "m"
    assert (answer["nodes"][1]["model_version"], answer["nodes"][1]["aliases"]) == ("models:/m/1", ["champion"])
    assert answer["nodes"][1]["is_deployed"]

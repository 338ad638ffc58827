"""A trace as a page. ``tests/ui`` tests the page in a browser."""

import json
from html.parser import HTMLParser

from ml_assets.addresses import Addresses
from ml_assets.lineage.graph import LineageGraph, Trace
from ml_assets.lineage.html_page import page_policy, render_page
from ml_assets.resources.provenance import ArtifactKind
from tests.ml_assets.artifacts.test_metadata import record
from tests.ml_assets.lineage.graphs import HOSTILE, made, pipeline, trace_of


class Parts(HTMLParser):
    """The elements of a page, and the text of each script by its id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str | None, str] = {}
        self._script: str | None = None
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside, self._script = tag == "script", dict(attrs).get("id")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._inside = False


def hostile_trace() -> Trace:
    node = made(1, "flights", ArtifactKind.DATASET, HOSTILE)
    return Trace(HOSTILE, (node.id,), LineageGraph([node], []), frozenset([node.id]), frozenset([node.id]))


def test_page_names_nothing_that_a_browser_would_fetch() -> None:
    parts = Parts(render_page(trace_of(pipeline(2), "images/train#1"), {}, Addresses()))
    assert not [attrs for _, attrs in parts.elements if {"src", "href", "srcset", "data", "action"} & attrs.keys()]
    assert "url(" not in render_page(trace_of(pipeline(2), "images/train#1"), {}, Addresses())
    policies = [attrs["content"] for _, attrs in parts.elements if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [page_policy()]
    assert "default-src 'none'" in page_policy()


def test_names_cannot_end_a_script_or_begin_an_element() -> None:
    parts = Parts(render_page(hostile_trace(), {}, Addresses()))
    assert len([tag for tag, _ in parts.elements if tag == "script"]) == 3
    assert "img" not in {tag for tag, _ in parts.elements}
    (node,) = json.loads(parts.scripts["data"])["nodes"]
    assert node["partition"] == HOSTILE


def test_page_holds_the_graph_its_starts_and_the_records() -> None:
    trace = trace_of(pipeline(2), "flights@2000-01#2")
    made_record = record(parameters={"depth": 6})
    parts = Parts(render_page(trace, {"departures@2000-01#3": made_record}, Addresses()))
    data, records = json.loads(parts.scripts["data"]), json.loads(parts.scripts["records"])
    ids = [node["id"] for node in data["nodes"]]
    assert ids == list(trace.graph.nodes)
    assert {(ids[source], ids[target]) for source, target in data["edges"]} == set(trace.graph.edges)
    assert [ids[start] for start in data["starts"]] == ["flights@2000-01#2"]
    assert records[str(ids.index("departures@2000-01#3"))]["parameters"] == {"depth": 6}


def test_nodes_link_to_dagster_mlflow_and_their_commit() -> None:
    addresses = Addresses("https://dagster.example", "https://mlflow.example/")
    parts = Parts(render_page(trace_of(pipeline(1), "delay_model@2000-01#4"), {}, addresses))
    (model,) = (node for node in json.loads(parts.scripts["data"])["nodes"] if node["kind"] == "model")
    assert model["links"] == {
        "asset in Dagster": "https://dagster.example/assets/delay_model?view=partitions&partition=2000-01",
        "run in Dagster": "https://dagster.example/runs/0a1b2c3d-0000-4000-8000-000000000004",
        "model in MLflow": "https://mlflow.example/#/models/flight-delay/versions/1",
    }


def test_an_address_that_is_no_web_page_is_no_link() -> None:
    parts = Parts(render_page(trace_of(pipeline(1), "flights@2000-01#2"), {}, Addresses("javascript:alert(1)//")))
    assert not [node for node in json.loads(parts.scripts["data"])["nodes"] if "links" in node]

"""A graph as OpenLineage events in the published form, written to files and sent to a server."""

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ml_assets.lineage.graph import LineageGraph, Node, NodeKind
from ml_assets.lineage.openlineage import openlineage_events, send_events, write_events
from ml_assets.resources.errors import LineageError
from ml_assets.resources.provenance import ArtifactKind, Source
from tests.ml_assets.artifacts.test_metadata import record
from tests.ml_assets.lineage.graphs import made, pipeline

MODEL = "delay_model@2000-02#8"
RUN = "0a1b2c3d-0000-4000-8000-000000000008"


@dataclass
class Server:
    """Stand-in for Marquez, which is not available here: it receives events."""

    url: str
    status: int = 201
    events: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and authorization of each request."""


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.requests.append((self.path, self.headers.get("Authorization")))
            taken.events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(taken.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        taken = Server(f"http://127.0.0.1:{listening.server_port}")
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield taken
        listening.shutdown()


def written(graph: LineageGraph, file: Path) -> list[dict[str, Any]]:
    made_record = record(
        dagster_run=RUN, parameters={"depth": 6}, source=Source(repository="git@code.example:owner/project.git")
    )
    count = write_events(openlineage_events(graph, {MODEL: made_record}, "tests"), file)
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(events) == count
    return events


def of_job(events: list[dict[str, Any]], job: str, kind: str = "COMPLETE") -> list[dict[str, Any]]:
    return [event for event in events if event.get("eventType") == kind and event["job"]["name"] == job]


def test_every_edge_is_an_input_of_a_run_with_its_version(tmp_path: Path) -> None:
    graph = pipeline(2)
    events = written(graph, tmp_path / "events.jsonl")
    told = {
        (version(read), version(event["outputs"][0]))
        for event in events
        if event["eventType"] == "COMPLETE"
        for read in event["inputs"]
    }
    assert told == {(named(graph.nodes[source]), named(graph.nodes[target])) for source, target in graph.edges}


def named(node: Node) -> str:
    return f"{node.asset}{f'@{node.partition}' if node.partition else ''} {node.data_version}"


def version(dataset: dict[str, Any]) -> str:
    return f"{dataset['name']} {dataset['facets']['version']['datasetVersion']}"


def test_each_run_starts_and_completes_under_an_id_that_stays(tmp_path: Path) -> None:
    events, again = (written(pipeline(2), tmp_path / file) for file in ("events.jsonl", "again.jsonl"))
    assert events == again
    runs: dict[str, list[str]] = {event["run"]["runId"]: [] for event in events}
    for event in events:
        runs[event["run"]["runId"]].append(event["eventType"])
    assert len(runs) == len(pipeline(2).nodes)
    assert all(UUID(run) for run in runs)
    assert all(states == ["START", "COMPLETE"] for states in runs.values())


def test_facets_tell_what_was_recorded(tmp_path: Path) -> None:
    events = written(pipeline(2), tmp_path / "events.jsonl")
    told = of_job(events, "delay_model")[1]
    facets = told["run"]["facets"]
    assert facets["parent"]["run"]["runId"] == RUN
    assert (facets["parent"]["job"]["namespace"], facets["parent"]["job"]["name"]) == ("tests", "job")
    assert [(each["key"], each["value"]) for each in facets["executionParameters"]["parameters"]] == [("depth", "6")]
    tags = {tag["key"]: tag["value"] for tag in facets["tags"]["tags"]}
    assert (tags["materialization"], tags["model_version"]) == (MODEL, "models:/flight-delay/2")
    location = told["job"]["facets"]["sourceCodeLocation"]
    assert location["url"] == f"https://code.example/owner/project/tree/{location['version']}"
    assert told["outputs"][0]["facets"]["datasetType"]["datasetType"] == "MODEL"
    assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z$", event["eventTime"]) for event in events)


def test_what_nobody_made_here_is_no_run(tmp_path: Path) -> None:
    seen = made(1, "labels", ArtifactKind.DATASET)
    observed = Node("labels", NodeKind.OBSERVATION, data_version="md5:1", storage_id=1, timestamp=seen.timestamp)
    gone = Node("weather", NodeKind.MISSING, data_version="md5:2")
    model = made(3, "model", ArtifactKind.MODEL)
    graph = LineageGraph([observed, gone, model], [(observed.id, model.id), (gone.id, model.id)])
    events = written(graph, tmp_path / "events.jsonl")
    assert [event["dataset"]["name"] for event in events if "dataset" in event] == ["labels"]
    (trained,) = of_job(events, "model")
    assert {read["name"] for read in trained["inputs"]} == {"labels", "weather"}
    assert not of_job(events, "labels") + of_job(events, "weather")


def test_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("before")

    def interrupted() -> Iterator[Any]:
        yield from list(openlineage_events(pipeline(1), {}, "tests"))[:2]
        raise OSError(28, "No space left on device")

    with pytest.raises(LineageError, match="No space left on device"):
        write_events(interrupted(), file)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_server_takes_the_same_events(server: Server, tmp_path: Path) -> None:
    events = written(pipeline(1), tmp_path / "events.jsonl")
    assert send_events(openlineage_events(pipeline(1), {}, "tests"), server.url, "key") == len(events)
    assert [event["run"]["runId"] for event in server.events] == [event["run"]["runId"] for event in events]
    assert set(server.requests) == {("/api/v1/lineage", "Bearer key")}


def test_server_that_refuses_is_named(server: Server) -> None:
    server.status = 403
    named = server.url.replace("://", "://user:password@")
    with pytest.raises(LineageError, match=f"{server.url} did not accept an OpenLineage event: 403") as raised:
        send_events(openlineage_events(pipeline(1), {}, "tests"), named)
    assert "password" not in str(raised.value)
    assert len(server.events) == 1

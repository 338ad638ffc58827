"""Every edge is recorded and none is invented, under any concurrency: random projects, compared with the kernel's view.

For each step, the opened content is known, and for each content, the step that wrote it; see `observed_steps`. An
input that only has to exist (an image, a dependency without a value) is not opened. For such an input, the version
at the start of the step is known.
"""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import pytest

from ml_assets.lineage.graph import Node, NodeKind
from ml_assets.lineage.questions import Question
from tests.ml_assets.lineage.index.indexed import IndexedGraph, load_graph

PROJECT = Path(__file__).parents[4]
SEEDS = [1, 2]
RUNS = 14


class Made(NamedTuple):
    """One materialization as a step knows it, without an id of Dagster's log."""

    run: str
    asset: str
    partition: str | None


@dataclass
class History:
    """The history, as the steps observed it."""

    seed: int
    steps: list[dict[str, Any]]
    declared: dict[str, dict[str, Any]]
    graph: IndexedGraph
    instance: dg.DagsterInstance
    writers: dict[str, set[Made]] = field(default_factory=lambda: defaultdict(set))
    nodes: dict[Made, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for step in self.steps:
            for made in outputs(step):
                self.writers[step["nonce"]].add(made)
        for node in self.graph.nodes.values():
            made = Made(node.dagster_run or "", node.asset, node.partition)
            assert made not in self.nodes, f"{made} is recorded twice"
            self.nodes[made] = node

    def loaded(self, step: dict[str, Any]) -> set[str]:
        """Return the nonces of the files that the step opened."""
        return {nonce for nonces in step["opened"].values() for nonce in nonces}


def outputs(step: dict[str, Any]) -> list[Made]:
    return [Made(step["run"], asset, step["partition"]) for asset in step["assets"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All histories, each in a folder named after its seed."""
    folder = tmp_path_factory.mktemp("histories")
    with (folder / "log").open("w") as log:
        done = subprocess.run(
            [sys.executable, "-m", "tests.ml_assets.lineage.index.random_history", folder, str(RUNS), *map(str, SEEDS)],
            cwd=PROJECT,
            stdout=log,
            stderr=log,
            check=False,
        )
    assert done.returncode == 0, (folder / "log").read_text()[-4000:]
    return folder


@pytest.fixture(scope="module", params=SEEDS, ids="seed {}".format)
def history(folder: Path, request: pytest.FixtureRequest) -> Iterator[History]:
    place = folder / str(request.param)
    lines = [json.loads(line) for line in (place / "truth.jsonl").read_text().splitlines()]
    with dg.DagsterInstance.from_config(str(place / "dagster")) as instance:
        yield History(
            seed=request.param,
            steps=[line for line in lines if "nonce" in line],
            declared=json.loads((place / "declared.json").read_text()),
            graph=load_graph(instance),
            instance=instance,
        )


def test_what_is_hard_has_happened(history: History) -> None:
    """The history contains every difficult situation; otherwise it proves little, and another seed must be chosen."""
    made_again = [
        (parent, node)
        for step, node in made_steps(history)
        for parent in history.graph.parents(node.id)
        if step["after"][f"{parent.asset}@{parent.partition}"]
        > max(parent.storage_id or 0, step["before"][f"{parent.asset}@{parent.partition}"])
    ]
    assert made_again, "no input was made again while its reader ran"
    assert any(len(step["opened"]) > 1 for step in history.steps)
    assert any(step["fails"] for step in history.steps)
    assert any(step["attempt"] for step in history.steps), "nothing was retried"
    runs = history.instance.get_runs()
    assert {run.status.value for run in runs} >= {"SUCCESS", "FAILURE", "STARTED"}
    assert any("dagster/backfill" in run.tags for run in runs)
    assert any(run.parent_run_id for run in runs), "no run was re-executed"
    assert any(
        history.graph.children(node.id) for latest in newest(history) for node in equals(history, latest) - {latest}
    ), "nothing was made of content that was made again"


def newest(history: History) -> list[Node]:
    """Return the last node of each partition of each asset."""
    ordered = sorted(history.nodes.values(), key=lambda node: node.storage_id or 0)
    return list({(node.asset, node.partition): node for node in ordered}.values())


def equals(history: History, latest: Node) -> set[Node]:
    """Return the nodes of a partition with the same content, identified by its nonce, or with the same image."""
    if latest.asset == "images/train":
        return {node for node in history.nodes.values() if (node.asset, node.image) == (latest.asset, latest.image)}
    if latest.kind is NodeKind.ASSET:
        return {latest}
    made = Made(latest.dagster_run or "", latest.asset, latest.partition)
    (nonce,) = (step["nonce"] for step in history.steps if not step["fails"] and made in outputs(step))
    written = (history.nodes.get(each) for each in history.writers[nonce] if each[1:] == made[1:])
    return {node for node in written if node}


def test_the_observer_saw_what_the_functions_were_given(history: History) -> None:
    for step in history.steps:
        assert history.loaded(step) == set(step["seen"]), step


def test_every_materialization_is_a_node_and_no_other_is(history: History) -> None:
    ended = {made for step in history.steps if not step["fails"] for made in outputs(step)}
    images = {made for made in history.nodes if made.asset == "images/train"}
    assert set(history.nodes) - images <= ended
    missing = {made.run for made in ended - set(history.nodes)}
    unfinished = {run.run_id for run in history.instance.get_runs() if not run.is_finished}
    assert missing <= unfinished, "only a run whose process was killed stores nothing of what a function returned"
    assert len(unfinished) <= 1


def made_steps(history: History) -> Iterator[tuple[dict[str, Any], Node]]:
    for step in history.steps:
        for made in outputs(step):
            if not step["fails"] and made in history.nodes:
                yield step, history.nodes[made]


def test_what_was_loaded_is_what_was_opened(history: History) -> None:
    for step, node in made_steps(history):
        declared = history.declared[node.asset]
        loaded = {each for each in history.graph.parents(node.id) if each.asset in declared["loads"]}
        found: set[Node] = set()
        for nonce in history.loaded(step):
            written = {history.nodes.get(made) for made in history.writers[nonce]} & loaded
            assert len(written) == 1, f"{node.id} read {nonce} of {history.writers[nonce]}, recorded: {written}"
            found |= {each for each in written if each}
        assert found == loaded, f"{node.id} did not read {loaded - found}"
        assert {str(each.data_version) for each in loaded} == {f"md5:{name}" for name in step["opened"]}


def test_what_only_had_to_be_there_is_what_was_there_and_nothing_else_is_recorded(history: History) -> None:
    for step, node in made_steps(history):
        declared = history.declared[node.asset]
        others = [each for each in history.graph.parents(node.id) if each.asset not in declared["loads"]]
        images = [each for each in others if each.asset == "images/train"]
        assert [each.image for each in images] == ([step["image"]] if declared["image"] else []), node.id
        followed = {each.asset: each for each in others if each not in images}
        assert set(followed) == set(declared["follows"]), node.id
        for asset, each in followed.items():
            artifact = f"{asset}@{each.partition}"
            assert each.partition == node.partition
            assert (
                each.dagster_run == step["run"]
                or step["before"][artifact] <= (each.storage_id or 0) <= step["after"][artifact]
            )


def reach(starts: set[str], edges: dict[str, set[str]]) -> set[str]:
    reached = set(starts)
    while more := {target for source in reached for target in edges[source]} - reached:
        reached |= more
    return reached


def test_an_asset_leads_to_all_that_was_made_of_what_it_is_now(history: History) -> None:
    edges = defaultdict(set)
    for edge in history.graph.edges:
        edges[edge.source].add(edge.target)
    for latest in newest(history):
        name = f"{latest.asset}@{latest.partition}" if latest.partition else latest.asset
        partitions = [latest] if latest.partition else [each for each in newest(history) if each.asset == name]
        made = {node.id for each in partitions for node in equals(history, each)}
        assert set(history.graph.ask(Question(name, up=False)).graph.nodes) == reach(made, edges), name


def test_an_image_and_a_commit_lead_to_all_that_was_made_with_them_and_of_it(history: History) -> None:
    edges = defaultdict(set)
    for edge in history.graph.edges:
        edges[edge.source].add(edge.target)
    for what in ("image", "commit"):
        made_with: dict[str, set[str]] = defaultdict(set)
        for step, node in made_steps(history):
            if what == "commit" or history.declared[node.asset]["image"]:
                made_with[step[what]].add(node.id)
        for reference, made in made_with.items():
            name = reference.partition("@")[2] or reference
            images = {node.id for node in history.nodes.values() if what == "image" and node.image == reference}
            answer = history.graph.ask(Question(name, up=False))
            assert set(answer.graph.nodes) == reach(made | images, edges), name

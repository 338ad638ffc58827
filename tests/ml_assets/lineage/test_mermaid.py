"""A graph as a Mermaid flowchart."""

import re

from ml_assets.lineage.graph import LineageGraph, Node
from ml_assets.lineage.mermaid import render_mermaid
from ml_assets.resources.provenance import ArtifactKind
from tests.ml_assets.lineage.graphs import HOSTILE, pipeline


def test_mermaid_names_every_node_and_edge() -> None:
    graph = pipeline(1)
    text = render_mermaid(graph, ("delay_model@2000-01#4",))
    assert text.startswith("flowchart LR\n")
    assert len(re.findall(r"^    n\d+\[", text, re.MULTILINE)) == len(graph.nodes)
    assert len(re.findall(r"^    n\d+ --> n\d+$", text, re.MULTILINE)) == len(graph.edges)
    assert '["delay_model@2000-01<br/>model' in text
    assert re.search(r"^    style n3 stroke", text, re.MULTILINE)


def test_mermaid_takes_no_name_for_syntax() -> None:
    hostile = Node(asset='a"]; click n0 href "x"', kind=ArtifactKind.DATASET, partition=HOSTILE, storage_id=1)
    (line,) = (line for line in render_mermaid(LineageGraph([hostile], [])).splitlines() if line.startswith("    n0"))
    label = line.removeprefix('    n0["').removesuffix('"]:::dataset')
    assert not set('"<>[];&') & set(label.replace("<br/>", "").replace(";", ""))
    assert "#34;#93;#59; click" in label

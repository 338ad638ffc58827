"""The provenance statement of an artifact with all its dependencies, and its text form."""

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from ml_assets.artifacts.statement import artifact_descriptor, filled, image_descriptor, provenance_statement
from ml_assets.lineage.graph import Node, NodeKind
from ml_assets.resources.provenance import ProvenanceRecord

__all__ = ["origin_statement", "render_statement"]


def origin_statement(record: ProvenanceRecord, upstream: Iterable[Node]) -> dict[str, Any]:
    """Return the in-toto statement of an artifact, with its indirect dependencies.

    Args:
        record: the artifact's provenance record.
        upstream: all nodes upstream of the artifact, without the artifact itself.
    """
    return provenance_statement(record, _indirect(record, upstream))


def render_statement(statement: dict[str, Any]) -> RenderableType:
    """Return a statement as text: its subject, then its direct and its indirect dependencies."""
    (subject,), build = statement["subject"], statement["predicate"]["buildDefinition"]
    tree = Tree(_line(subject).append(f"  {subject['uri']}" if "uri" in subject else ""))
    titles = {True: "Direct dependencies", False: "Indirect dependencies"}
    for is_direct, title in titles.items():
        branch = Tree(Text(title, style="cyan"))
        for each in build["resolvedDependencies"]:
            if each.get("annotations", {}).get("direct", True) is is_direct:
                branch.add(_line(each))
        if branch.children:
            tree.add(branch)
    return tree


def _line(resource: dict[str, Any]) -> Text:
    digests = "  ".join(f"{algorithm}:{value}" for algorithm, value in resource["digest"].items())
    return Text(resource["name"], style="bold").append(f"  {digests}", style="not bold")


def _indirect(record: ProvenanceRecord, upstream: Iterable[Node]) -> Iterator[dict[str, Any]]:
    """Yield the indirect dependencies: artifacts, then the images and commits that made them."""
    nodes = list(upstream)
    read = {(each.asset, each.partition, each.data_version) for each in record.inputs}
    for node in nodes:
        if (node.asset, node.partition, node.data_version) not in read and node.data_version:
            noted = filled(direct=False, dagsterRun=node.dagster_run, event=node.storage_id)
            noted |= {"missing": True} if node.kind is NodeKind.MISSING else {}
            yield artifact_descriptor(node.asset, node.partition, node.data_version, noted)
    for image in dict.fromkeys(node.image for node in nodes if node.image and node.image != record.environment.image):
        yield {**image_descriptor(image), "annotations": {"direct": False}}
    own = (record.source.commit, record.source.dirty)
    for commit, dirty in dict.fromkeys((node.commit, node.dirty) for node in nodes):
        if commit and (commit, dirty) != own:
            noted = filled(direct=False, dirty=dirty)
            yield {"name": "source", "digest": {"gitCommit": commit}, "annotations": noted}

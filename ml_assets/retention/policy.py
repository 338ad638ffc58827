"""The policy that selects the materializations to keep. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from ml_assets.lineage import LineageGraph, Node, NodeKind
from ml_assets.resources.provenance import ArtifactKind

__all__ = ["GRACE", "Policy", "kept_nodes"]

GRACE: Final = timedelta(days=1)
"""Younger content is never collected, because content is stored before its materialization is recorded."""


@dataclass(frozen=True)
class Policy:
    """The materializations to keep.

    Attributes:
        last: number of latest materializations to keep of each asset, or of each of its partitions; at least one.
        since: keep materializations from this moment on.
        registered: keep the models in MLflow's registry.
        deployed: keep the registered models that serve.
        whole_origin: also keep everything upstream of a kept materialization, which its reproduction needs.
        service_images: keep all images of image assets in which no step ever ran, such as a model server's. No record
            says which of them is running.
        grace: keep what is younger than this, or was replaced as the latest within this time.
    """

    last: int = 3
    since: datetime | None = None
    registered: bool = True
    deployed: bool = True
    whole_origin: bool = True
    service_images: bool = True
    grace: timedelta = GRACE

    def __post_init__(self) -> None:
        if self.last < 1:
            raise ValueError(f"the latest materialization is always kept, so that last cannot be {self.last}")


def kept_nodes(graph: LineageGraph, policy: Policy, registered: Collection[str], cutoff: datetime) -> frozenset[str]:
    """Return the ids of the nodes whose content, image and MLflow artifacts are kept.

    Args:
        graph: the whole graph; its nodes say which models are deployed.
        policy: the policy.
        registered: ids of the nodes with a version in the registry, whoever registered it.
        cutoff: nodes that are younger, or were replaced later, are kept regardless of the policy.
    """
    roots = {node.id for node in _roots(graph.nodes.values(), policy, frozenset(registered), cutoff)}
    if policy.service_images:
        roots |= {node.id for node in _service_images(graph)}
    return graph.upstream(roots) if policy.whole_origin else frozenset(roots)


def _roots(nodes: Iterable[Node], policy: Policy, registered: frozenset[str], cutoff: datetime) -> Iterator[Node]:
    since = min(cutoff, policy.since) if policy.since else cutoff
    versions = defaultdict[tuple[str, str | None], list[Node]](list)
    for node in nodes:
        if node.kind is NodeKind.MISSING:
            continue
        versions[node.asset, node.partition].append(node)
        is_young = node.timestamp is None or node.timestamp >= since
        is_registered = policy.registered and node.id in registered
        # Content that users track themselves is always kept.
        if is_young or is_registered or (policy.deployed and node.is_deployed) or node.kind is NodeKind.OBSERVATION:
            yield node
    for made in versions.values():
        made.sort(key=lambda node: node.storage_id or 0)
        yield from made[-policy.last :]
        for node, successor in pairwise(made):
            # A step that started before the replacement may still read it.
            if successor.timestamp is None or successor.timestamp >= cutoff:
                yield node


def _service_images(graph: LineageGraph) -> Iterator[Node]:
    """Return all materializations of image assets in whose images no step ever ran."""
    nodes = graph.nodes.values()
    images = [node for node in nodes if node.kind is ArtifactKind.IMAGE]
    ran = {node.image for node in nodes if node.kind is not ArtifactKind.IMAGE}
    steps_in = {node.asset for node in images if node.image in ran or graph.children(node.id)}
    yield from (node for node in images if node.asset not in steps_in)

"""The lineage graph: materializations and their inputs. Pure; reads nothing.

A node is one event of Dagster's log: a materialization, or the observation of an external asset. An edge leads from an
input to the node that read it, and represents one recorded input version.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import NamedTuple

from ml_assets.lineage.references import ReferenceKind
from ml_assets.resources.errors import LineageError
from ml_assets.resources.identity import AssetPartition, ImageReference
from ml_assets.resources.provenance import ArtifactKind

__all__ = ["Edge", "LineageGraph", "Node", "NodeKind", "Trace", "image_digest"]


class NodeKind(StrEnum):
    """Kind of a node that is not one of the four kinds of artifact."""

    ASSET = "asset"
    """Materialization of an asset that no factory of this project made."""
    OBSERVATION = "observation"
    """Observation of an external asset."""
    MISSING = "missing"
    """A recorded input whose event is not in the log, or no longer."""
    UNREADABLE = "unreadable"
    """An event whose record is malformed, or has a newer form. Only Dagster's own fields are known."""


@dataclass(frozen=True, slots=True)
class Node:
    """One version of one partition of an asset.

    Attributes:
        storage_id: id of the event in Dagster's log; None for a missing event that was recorded without one.
        image: reference of the image that the step ran in; for an image, the reference that was built.
        model_version: ``models:/name/version`` of a registered model. If the model was registered later, the version is
            known only if MLflow was queried.
        content_version: DVC hash of the content, if it is not the data version.
        commit: full commit id; `dirty` is True if the code differed from it.
        problem: for an unreadable node, an error with the event, the reason, and what to do.
        aliases: current aliases in MLflow of its model version, and of the same model under other names, each as
            ``models:/name@alias``; empty if MLflow was not queried.
        is_deployed: True if it is deployed under any name, if MLflow was queried.
        deleted_at: time at which `ml-assets gc` deleted its content or image; None if it still exists.
    """

    asset: str
    kind: ArtifactKind | NodeKind
    partition: str | None = None
    data_version: str | None = None
    storage_id: int | None = None
    content_version: str | None = None
    code_version: str | None = None
    image: str | None = None
    index_digest: str | None = None
    environment: str | None = None
    mlflow_run: str | None = None
    model_version: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    dagster_run: str | None = None
    timestamp: datetime | None = None
    problem: LineageError | None = field(default=None, compare=False)
    aliases: tuple[str, ...] = field(default=(), compare=False)
    is_deployed: bool = field(default=False, compare=False)
    deleted_at: datetime | None = field(default=None, compare=False)

    @property
    def id(self) -> str:
        """``asset@partition#storage_id``. It stays the same after the event is wiped from the log."""
        event = self.data_version if self.storage_id is None else self.storage_id
        return f"{AssetPartition(self.asset, self.partition)}#{event}"

    @property
    def identifiers(self) -> frozenset[tuple[ReferenceKind, str]]:
        """Identifiers that references can use besides its id and its asset; other nodes may have the same ones."""
        digest = image_digest(self.image) if self.image else None
        named = {
            (ReferenceKind.IMAGE, self.image),
            (ReferenceKind.MLFLOW_RUN, self.mlflow_run),
            (ReferenceKind.MODEL_VERSION, self.model_version),
            (ReferenceKind.DAGSTER_RUN, self.dagster_run),
            (ReferenceKind.COMMIT, self.commit),
        }
        versions = (self.data_version, self.content_version, self.environment, digest, self.index_digest)
        named |= {(ReferenceKind.VERSION, version) for version in versions}
        return frozenset((kind, value) for kind, value in named if value)


@lru_cache(maxsize=1024)
def image_digest(image: str) -> str:
    """Return the digest in an image reference."""
    return str(ImageReference.parse(image).digest)


class Edge(NamedTuple):
    """An edge from an input to the node that read it, by node ids."""

    source: str
    target: str


class LineageGraph:
    """Nodes by id, and the edges between them.

    Args:
        nodes: the nodes, in listing order.
        edges: source and target of each edge, as ids of these nodes.
    """

    def __init__(self, nodes: Iterable[Node], edges: Iterable[tuple[str, str]]) -> None:
        self.nodes: Mapping[str, Node] = {node.id: node for node in nodes}
        self._given = tuple(edges)

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """All edges, sorted."""
        # Sort on first use, because sorting takes as long as finding the edges.
        return tuple(Edge(*edge) for edge in sorted(set(self._given)))

    def parents(self, node_id: str) -> tuple[Node, ...]:
        """Return the inputs of a node."""
        return tuple(self.nodes[parent] for parent in self._parents.get(node_id, ()))

    def children(self, node_id: str) -> tuple[Node, ...]:
        """Return the nodes that read a node."""
        return tuple(self.nodes[child] for child in self._children.get(node_id, ()))

    def upstream(self, starts: Iterable[str]) -> frozenset[str]:
        """Return the ids of the starts and of everything upstream of them."""
        return _reach(starts, self._parents)

    def downstream(self, starts: Iterable[str]) -> frozenset[str]:
        """Return the ids of the starts and of everything downstream of them."""
        return _reach(starts, self._children)

    def changed(self, nodes: Mapping[str, Node]) -> "LineageGraph":
        """Return the same graph with some nodes replaced, by their ids."""
        graph = LineageGraph((), self._given)
        graph.nodes = {**self.nodes, **nodes}
        return graph

    def subgraph(self, ids: Iterable[str]) -> "LineageGraph":
        """Return the graph of these nodes and every edge between them."""
        kept = frozenset(ids)
        return LineageGraph(
            (node for node_id, node in self.nodes.items() if node_id in kept),
            (edge for edge in self.edges if edge.source in kept and edge.target in kept),
        )

    @cached_property
    def _parents(self) -> dict[str, list[str]]:
        parents = defaultdict(list)
        for source, target in self.edges:
            parents[target].append(source)
        return parents

    @cached_property
    def _children(self) -> dict[str, list[str]]:
        children = defaultdict(list)
        for source, target in self.edges:
            children[source].append(target)
        return children


@dataclass(frozen=True)
class Trace:
    """The answer to one question: a part of the graph, and the nodes that the question named.

    Attributes:
        starts: the nodes that the reference names; for a downstream question about an asset, also the earlier events
            with the same version.
        upstream: ids of the named nodes and of everything upstream of them; None if not requested.
        downstream: ids of the starts and of everything downstream of them; None if not requested.
        is_whole: True if the graph contains all nodes between; False if the question asked only for some.
    """

    reference: str
    starts: tuple[str, ...]
    graph: LineageGraph
    upstream: frozenset[str] | None = None
    downstream: frozenset[str] | None = None
    is_whole: bool = True


def _reach(starts: Iterable[str], neighbours: Mapping[str, list[str]]) -> frozenset[str]:
    reached = set(starts)
    waiting = list(reached)
    while waiting:
        for neighbour in neighbours.get(waiting.pop(), ()):
            if neighbour not in reached:
                reached.add(neighbour)
                waiting.append(neighbour)
    return frozenset(reached)

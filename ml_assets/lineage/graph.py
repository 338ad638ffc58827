"""The lineage graph: which materialization was made of which. Pure; reads nothing.

A node is one event of Dagster's log: a materialization, or the observation of an asset that is made elsewhere. An edge
leads from an input to what was made of it, and stands for one recorded input version.
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
    """What a node is when it is none of the four kinds of artifact."""

    ASSET = "asset"
    """Materialization of an asset that no factory of this project made."""
    OBSERVATION = "observation"
    """Observation of an asset that is made elsewhere."""
    MISSING = "missing"
    """An input that was recorded where it was read, and is not in the log (any more)."""
    UNREADABLE = "unreadable"
    """An event whose record is malformed, or of a later form than this reads; known by what Dagster wrote of it."""


@dataclass(frozen=True, slots=True)
class Node:
    """One version of one partition of an asset.

    Attributes:
        storage_id: id of the event in Dagster's log; None for a missing one that was recorded without.
        image: image reference that it was made in; of an image, the reference that was built.
        model_version: ``models:/name/version``, for a registered model; of one that somebody registered later, known as
            far as MLflow was asked.
        content_version: DVC hash of the content, where it is not the data version.
        commit: full commit id; `dirty` says whether the code differed from it.
        problem: of an unreadable one, the event, why it cannot be read, and what to do.
        aliases: of its model version, as MLflow has them now, and of the same model under other names, each of these as
            ``models:/name@alias``; empty where it was not asked.
        is_deployed: whether it serves, under any name, as far as MLflow was asked.
        deleted_at: when `ml-assets gc` deleted its content, or the image; None as long as it is there.
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
        """``asset@partition#storage_id``; the same after the event was wiped from the log."""
        event = self.data_version if self.storage_id is None else self.storage_id
        return f"{AssetPartition(self.asset, self.partition)}#{event}"

    @property
    def identifiers(self) -> frozenset[tuple[ReferenceKind, str]]:
        """What it carries by which it can be found, alone or together with others, beside its id and its asset."""
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
    """The digest in an image reference."""
    return str(ImageReference.parse(image).digest)


class Edge(NamedTuple):
    """From an input to what was made of it, by node ids."""

    source: str
    target: str


class LineageGraph:
    """Nodes by id, and the edges between them.

    Args:
        nodes: in the order in which they are to be listed.
        edges: source and target of each, ids of these nodes.
    """

    def __init__(self, nodes: Iterable[Node], edges: Iterable[tuple[str, str]]) -> None:
        self.nodes: Mapping[str, Node] = {node.id: node for node in nodes}
        self._given = tuple(edges)

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """All edges, sorted."""
        # Not before somebody asks: sorting them takes as long as finding them.
        return tuple(Edge(*edge) for edge in sorted(set(self._given)))

    def parents(self, node_id: str) -> tuple[Node, ...]:
        """What a node was made of."""
        return tuple(self.nodes[parent] for parent in self._parents.get(node_id, ()))

    def children(self, node_id: str) -> tuple[Node, ...]:
        """What was made of a node."""
        return tuple(self.nodes[child] for child in self._children.get(node_id, ()))

    def upstream(self, starts: Iterable[str]) -> frozenset[str]:
        """Ids of the starts and of all that they came from."""
        return _reach(starts, self._parents)

    def downstream(self, starts: Iterable[str]) -> frozenset[str]:
        """Ids of the starts and of all that came from them."""
        return _reach(starts, self._children)

    def changed(self, nodes: Mapping[str, Node]) -> "LineageGraph":
        """The same graph, in which more is known of some nodes, given by their ids."""
        graph = LineageGraph((), self._given)
        graph.nodes = {**self.nodes, **nodes}
        return graph

    def subgraph(self, ids: Iterable[str]) -> "LineageGraph":
        """These nodes and every edge between them."""
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
        starts: what the reference names; of an asset, where it is asked what came from it, also the earlier events that
            gave the same.
        upstream: ids of what was named and of what that came from; None if that was not asked.
        downstream: ids of the starts and of what came from them; None if that was not asked.
        is_whole: whether everything between is part of the graph; False where only some nodes were asked for.
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

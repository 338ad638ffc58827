"""The lineage graph: which materialization was made of which, and how to find one. Pure; reads nothing.

A node is one event of Dagster's log: a materialization, or the observation of an asset that is made elsewhere. An edge
leads from an input to what was made of it, and stands for one recorded input version.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Self

from ml_assets.lineage.references import Form, Reading, Reference, parse_reference
from resources.errors import AmbiguousReference, LineageError, UnknownReference
from resources.identity import AssetPartition, ImageReference
from resources.provenance import ArtifactKind, InputVersion

__all__ = ["Edge", "Event", "LineageGraph", "Node", "NodeKind", "Trace"]


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
        model_version: ``models:/name/version``, for a registered model.
        content_version: DVC hash of the content, where it is not the data version.
        commit: full commit id; `dirty` says whether the code differed from it.
        problem: of an unreadable one, the event, why it cannot be read, and what to do.
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

    @property
    def id(self) -> str:
        """``asset@partition#storage_id``; the same after the event was wiped from the log."""
        event = self.data_version if self.storage_id is None else self.storage_id
        return f"{AssetPartition(self.asset, self.partition)}#{event}"

    @property
    def names(self) -> frozenset[tuple[Form, str]]:
        """Everything that identifies this node, alone or together with others."""
        digest = str(ImageReference.parse(self.image).digest) if self.image else None
        named = {
            (Form.EVENT, self.id),
            (Form.ASSET, self.asset),
            (Form.ASSET, str(AssetPartition(self.asset, self.partition))),
            (Form.IMAGE, self.image),
            (Form.MLFLOW_RUN, self.mlflow_run),
            (Form.MODEL_VERSION, self.model_version),
            (Form.DAGSTER_RUN, self.dagster_run),
            (Form.COMMIT, self.commit),
        }
        versions = (self.data_version, self.content_version, self.environment, digest, self.index_digest)
        named |= {(Form.VERSION, version) for version in versions}
        return frozenset((form, value) for form, value in named if value)


@dataclass(frozen=True, slots=True)
class Event:
    """A node of the log and the inputs that were recorded with it."""

    node: Node
    inputs: tuple[InputVersion, ...] = ()


@dataclass(frozen=True, order=True, slots=True)
class Edge:
    """From an input to what was made of it, by node ids."""

    source: str
    target: str


class LineageGraph:
    """Nodes by id, and the edges between them.

    Args:
        nodes: in the order in which they are to be listed.
        edges: between ids of these nodes.
    """

    def __init__(self, nodes: Iterable[Node], edges: Iterable[Edge]) -> None:
        self.nodes: Mapping[str, Node] = {node.id: node for node in nodes}
        self.edges = tuple(sorted(set(edges)))
        self._parents: dict[str, list[str]] = defaultdict(list)
        self._children: dict[str, list[str]] = defaultdict(list)
        for edge in self.edges:
            self._parents[edge.target].append(edge.source)
            self._children[edge.source].append(edge.target)

    @classmethod
    def of_events(cls, events: Iterable[Event]) -> Self:
        """Link events by the inputs that they recorded.

        An input with a storage id is exactly that event, provided that its asset, partition, version and run agree (a
        log may give the id of a deleted event to a new one). A pinned input, which has none, is the last event before
        its reader with that asset, partition and version. An input that is not among the events becomes a node of its
        own, of kind `NodeKind.MISSING`.
        """
        ordered = sorted(events, key=lambda event: event.node.storage_id or 0)
        log = _Log(event.node for event in ordered)
        missing: dict[str, Node] = {}
        edges = []
        for event in ordered:
            for read in event.inputs:
                source = log.find(read, event.node)
                if source is None:
                    source = _missing(read, log, missing)
                edges.append(Edge(source.id, event.node.id))
        nodes = [*missing.values(), *(event.node for event in ordered)]
        return cls(sorted(nodes, key=lambda node: node.storage_id or 0), edges)

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

    def subgraph(self, ids: Iterable[str]) -> "LineageGraph":
        """These nodes and every edge between them."""
        kept = frozenset(ids)
        return LineageGraph(
            (node for node_id, node in self.nodes.items() if node_id in kept),
            (edge for edge in self.edges if edge.source in kept and edge.target in kept),
        )

    def find(self, reference: Reference) -> tuple[Node, ...]:
        """The nodes that a reference names.

        An asset, or one partition of it, stands for the latest materialization of each of its partitions, which is what
        one sees of it today; everything else for all nodes that carry it, such as each of the materializations that
        gave the same data version.

        Raises:
            UnknownReference: nothing recorded has this name.
            AmbiguousReference: different things have it, or begin with it.
        """
        named = self._exact(reference) or self._beginning(reference)
        if not named:
            raise _unknown(reference, [node for node in self.nodes.values() if node.problem])
        if len(named) > 1:
            raise _ambiguous(reference, {name: [self.nodes[i].id for i in self._names[name]] for name in named})
        (name,) = named
        found = [self.nodes[node_id] for node_id in self._names[name]]
        return _latest_of_each_partition(found) if name[0] is Form.ASSET else tuple(found)

    def trace(self, text: str) -> "Trace":
        """What a reference came from and what came from it.

        Args:
            text: any reference that `parse_reference` reads.

        Raises:
            UnknownReference: nothing recorded has this name.
            AmbiguousReference: different things have it, or begin with it.
            LineageError: an event that is part of the answer cannot be read, so the answer may lack inputs.
        """
        starts = tuple(node.id for node in self.find(parse_reference(text)))
        answer = self.subgraph(self.upstream(starts) | self.downstream(starts))
        for node in answer.nodes.values():
            if node.problem:
                raise node.problem
        return Trace(text, starts, answer)

    @cached_property
    def _names(self) -> dict[tuple[Form, str], list[str]]:
        names: dict[tuple[Form, str], list[str]] = defaultdict(list)
        for node in self.nodes.values():
            for name in node.names:
                names[name].append(node.id)
        return dict(names)

    def _exact(self, reference: Reference) -> list[tuple[Form, str]]:
        names = dict.fromkeys((reading.form, reading.value) for reading in reference.readings)
        return [name for name in names if name in self._names]

    def _beginning(self, reference: Reference) -> list[tuple[Form, str]]:
        readings = [reading for reading in reference.readings if reading.shortened]
        if not readings:
            return []
        return sorted(name for name in self._names if any(_begins(name, reading) for reading in readings))


@dataclass(frozen=True)
class Trace:
    """The answer to one question: a part of the graph, and the nodes that the question named."""

    reference: str
    starts: tuple[str, ...]
    graph: LineageGraph


class _Log:
    """Finds the event that an input version was recorded by."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.by_storage_id: dict[int, Node] = {}
        self._by_version: dict[tuple[str, str | None, str], list[Node]] = defaultdict(list)
        for node in nodes:
            if node.storage_id is not None:
                self.by_storage_id[node.storage_id] = node
            if node.data_version is not None:
                self._by_version[node.asset, node.partition, node.data_version].append(node)

    def find(self, read: InputVersion, reader: Node) -> Node | None:
        if read.storage_id is not None:
            node = self.by_storage_id.get(read.storage_id)
            return node if node and _agrees(node, read) else None
        same = self._by_version.get((read.asset, read.partition, read.data_version), [])
        earlier = [node for node in same if (node.storage_id or 0) < (reader.storage_id or 0)]
        return max(earlier, key=lambda node: node.storage_id or 0, default=None)


def _agrees(node: Node, read: InputVersion) -> bool:
    return (
        (node.asset, node.partition) == (read.asset, read.partition)
        and (node.data_version is None or node.data_version == read.data_version)
        and (not node.dagster_run or not read.run_id or node.dagster_run == read.run_id)
    )


def _missing(read: InputVersion, log: _Log, missing: dict[str, Node]) -> Node:
    """A node made from the input version alone, shared by its readers.

    Its storage id is left out where another event has the same one, so that no two events become one node.
    """
    node = Node(
        asset=read.asset,
        kind=NodeKind.MISSING,
        partition=read.partition,
        data_version=read.data_version,
        storage_id=read.storage_id,
        dagster_run=read.run_id or None,
    )
    if node.storage_id in log.by_storage_id or missing.get(node.id, node) != node:
        node = replace(node, storage_id=None)
    return missing.setdefault(node.id, node)


def _reach(starts: Iterable[str], neighbours: Mapping[str, list[str]]) -> frozenset[str]:
    reached = set(starts)
    waiting = list(reached)
    while waiting:
        for neighbour in neighbours.get(waiting.pop(), ()):
            if neighbour not in reached:
                reached.add(neighbour)
                waiting.append(neighbour)
    return frozenset(reached)


def _latest_of_each_partition(nodes: list[Node]) -> tuple[Node, ...]:
    """The last one of each partition; one that is missing only where nothing else is left of the partition."""
    latest: dict[str | None, Node] = {}
    for node in sorted(nodes, key=lambda node: (node.kind is not NodeKind.MISSING, node.storage_id or 0)):
        latest[node.partition] = node
    return tuple(latest[partition] for partition in sorted(latest, key=lambda partition: partition or ""))


def _begins(name: tuple[Form, str], reading: Reading) -> bool:
    form, value = name
    if form is not reading.form:
        return False
    return value.startswith(reading.value) or (
        form is Form.VERSION and value.partition(":")[2].startswith(reading.value)
    )


def _unknown(reference: Reference, unreadable: list[Node]) -> UnknownReference:
    except_in = f" (unreadable events: {len(unreadable)}, such as {unreadable[-1].id})" if unreadable else ""
    return UnknownReference(
        f"nothing recorded is named {reference.text!r}{except_in}",
        next_step="check its spelling, and that this is the Dagster instance that it was recorded in"
        + (f"; trace {unreadable[-1].id!r} says why that one cannot be read" if unreadable else ""),
    )


def _ambiguous(reference: Reference, named: Mapping[tuple[Form, str], list[str]]) -> AmbiguousReference:
    shown = [f"{form} {value} ({ids[-1]})" for (form, value), ids in list(named.items())[:6]]
    more = f", and {len(named) - len(shown)} more" if len(named) > len(shown) else ""
    return AmbiguousReference(
        f"{reference.text!r} may be {' or '.join(shown)}{more}",
        next_step="write one of them in full, or the id of a materialization, which stands in parentheses",
    )

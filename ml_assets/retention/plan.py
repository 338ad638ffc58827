"""The plan of a collection: what is unreferenced once it is known what is kept. Pure."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from ml_assets.lineage import LineageGraph, Node, NodeKind
from ml_assets.resources.dvc.directory import HeldObject
from ml_assets.resources.provenance import ArtifactKind

__all__ = [
    "DataPlan",
    "Plan",
    "UnreferencedContent",
    "UnreferencedImage",
    "UnreferencedRun",
    "plan_data",
    "unreferenced_images",
]

_PREFIX = "md5:"


@dataclass(frozen=True)
class UnreferencedContent:
    """Content that no kept materialization refers to.

    Attributes:
        version: DVC hash of the whole, as ``md5:…``.
        objects: what is deleted for it; of a directory all files that nothing else needs, and its listing last.
        size: their bytes.
        of: ids of the materializations that it was the content of.
    """

    version: str
    objects: tuple[str, ...]
    size: int
    of: tuple[str, ...]


@dataclass(frozen=True)
class UnreferencedImage:
    """An image that no kept artifact was made in, or is.

    Attributes:
        reference: by digest, as it was recorded.
        manifests: digests to delete: the index first, if any, then what it lists.
        size: bytes of the layers and configurations that no kept image of the registry has.
    """

    reference: str
    manifests: tuple[str, ...]
    size: int
    of: tuple[str, ...]


@dataclass(frozen=True)
class UnreferencedRun:
    """An MLflow run of no kept materialization: its artifacts go; parameters, metrics and tags stay.

    Attributes:
        size: bytes of its artifacts and logged models.
    """

    run_id: str
    size: int
    of: tuple[str, ...]


@dataclass(frozen=True)
class DataPlan:
    """What goes from the content store.

    Attributes:
        collect: content that a materialization once had, and no kept one has.
        orphans: objects that nothing ever referred to here, and their bytes: of others who share the remote, of failed
            steps, and of what was wiped from the log.
        incomplete: versions that are kept, and of which the remote has lost something.
        needed: all objects that are kept, with what kept directories consist of.
    """

    collect: tuple[UnreferencedContent, ...] = ()
    orphans: Mapping[str, int] = field(default_factory=dict)
    incomplete: tuple[str, ...] = ()
    needed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Plan:
    """All that goes.

    Attributes:
        materializations: how many there are, and how many of them are kept.
        cached: objects in the local cache that no kept materialization needs, and their bytes.
        orphans_go: whether orphans are deleted too.
    """

    materializations: int
    kept: int
    data: DataPlan = DataPlan()
    images: tuple[UnreferencedImage, ...] = ()
    runs: tuple[UnreferencedRun, ...] = ()
    cached: Mapping[str, int] = field(default_factory=dict)
    orphans_go: bool = False

    @property
    def size(self) -> int:
        """Bytes of all that goes."""
        parts: list[Iterable[int]] = [
            (each.size for each in self.data.collect),
            (each.size for each in self.images),
            (each.size for each in self.runs),
            self.cached.values(),
            self.data.orphans.values() if self.orphans_go else (),
        ]
        return sum(sum(part) for part in parts)


def plan_data(
    graph: LineageGraph,
    kept: Collection[str],
    held: Mapping[str, HeldObject],
    members: Callable[[Collection[str]], Mapping[str, frozenset[str]]],
    claimed: Collection[str],
    cutoff: float,
) -> DataPlan:
    """Return what goes from a content store.

    Only what a materialization of the graph had is collected. A file goes if no kept directory has it, and neither a
    directory that somebody else stored.

    Args:
        graph: all that is recorded.
        kept: ids of the nodes whose content is kept.
        held: what the store holds, by DVC hash.
        members: gives the objects that directories consist of, by the directories' hashes.
        claimed: hashes of content that others keep in the same store.
        cutoff: what was written later stays, and so does that of which the time is not known; seconds since 1970.
    """
    wanted: set[str] = set(claimed)
    had = defaultdict[str, list[str]](list)
    for node in graph.nodes.values():
        value = _content(node)
        if value is None:
            continue
        if node.id in kept or node.kind in (NodeKind.OBSERVATION, NodeKind.ASSET):
            wanted.add(value)
        elif isinstance(node.kind, ArtifactKind):
            had[value].append(node.id)
    recorded = wanted | had.keys()
    strangers = {value for value in held if value.endswith(".dir")} - recorded
    listed = members({value for value in (recorded | strangers) & held.keys() if value.endswith(".dir")})
    needed = wanted.union(*(listed.get(value, frozenset()) for value in wanted | strangers), strangers)
    taken = set[str]()
    collect = []
    for value in sorted(had.keys() - needed):
        objects = [each for each in (*sorted(listed.get(value, ())), value) if _may_go(each, held, cutoff)]
        objects = [each for each in objects if each not in needed and each not in taken]
        if objects:
            taken.update(objects)
            size = sum(held[each].size for each in objects)
            collect.append(UnreferencedContent(_PREFIX + value, tuple(objects), size, tuple(had[value])))
    known = recorded.union(*(listed.get(value, frozenset()) for value in recorded))
    orphans = {value: held[value].size for value in sorted(held.keys() - known) if _may_go(value, held, cutoff)}
    lost = [value for value in sorted(_contents(graph, kept)) if not _is_whole(value, held, listed)]
    return DataPlan(tuple(collect), orphans, tuple(_PREFIX + value for value in lost), frozenset(needed))


def unreferenced_images(graph: LineageGraph, kept: Collection[str]) -> Mapping[str, tuple[Node, ...]]:
    """Return the materializations of images that go, by image reference.

    What a kept artifact was made in stays, whichever materialization of an image it belongs to.
    """
    stay = {node.image for node in graph.nodes.values() if node.id in kept}
    found = defaultdict[str, list[Node]](list)
    for node in graph.nodes.values():
        if node.kind is ArtifactKind.IMAGE and node.image and node.image not in stay:
            found[node.image].append(node)
    return {image: tuple(nodes) for image, nodes in found.items()}


def _contents(graph: LineageGraph, kept: Collection[str]) -> set[str]:
    """What kept artifacts of this project have as their content."""
    nodes = (node for node in graph.nodes.values() if node.id in kept and isinstance(node.kind, ArtifactKind))
    return {value for node in nodes if (value := _content(node))}


def _content(node: Node) -> str | None:
    """DVC hash of a node's content; None for an image, and for what is in no DVC remote."""
    version = node.content_version or node.data_version
    if version is None or not version.startswith(_PREFIX) or node.kind is ArtifactKind.IMAGE:
        return None
    return version.removeprefix(_PREFIX)


def _may_go(value: str, held: Mapping[str, HeldObject], cutoff: float) -> bool:
    found = held.get(value)
    return found is not None and found.written is not None and found.written < cutoff


def _is_whole(value: str, held: Mapping[str, HeldObject], listed: Mapping[str, frozenset[str]]) -> bool:
    return value in held and (not value.endswith(".dir") or all(each in held for each in listed.get(value, ())))

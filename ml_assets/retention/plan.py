"""The plan of a collection: everything that the kept materializations do not refer to. Pure."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from ml_assets.lineage import LineageGraph, Node, NodeKind
from ml_assets.resources.dvc.directory import HeldObject
from ml_assets.resources.dvc.store import Listings
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
        objects: objects to delete; for a directory all files that nothing else needs, and its listing last.
        size: total bytes of the objects.
        of: ids of the materializations that had this content.
    """

    version: str
    objects: tuple[str, ...]
    size: int
    of: tuple[str, ...]


@dataclass(frozen=True)
class UnreferencedImage:
    """An image that is no kept artifact, and in which no kept artifact was made.

    Attributes:
        reference: recorded reference, by digest.
        manifests: digests to delete: the index first, if any, then the manifests that it lists.
        size: bytes of the layers and configurations that no kept image in the registry has.
    """

    reference: str
    manifests: tuple[str, ...]
    size: int
    of: tuple[str, ...]


@dataclass(frozen=True)
class UnreferencedRun:
    """An MLflow run without a kept materialization. Its artifacts are deleted; parameters, metrics and tags stay.

    Attributes:
        size: total bytes of its artifacts and logged models.
    """

    run_id: str
    size: int
    of: tuple[str, ...]


@dataclass(frozen=True)
class DataPlan:
    """The part of the plan for the content store.

    Attributes:
        collect: content of past materializations that no kept one has.
        orphans: objects, and their bytes, that nothing in this instance ever referred to: of others who share the
            remote, of failed steps, and of events that were wiped from the log.
        incomplete: kept versions of which the remote has lost objects.
        damaged: reason for each listing that cannot be read. Everything that it still names is kept.
        unknown: damaged listings that stay and whose files are not all known. While there is one, nothing is deleted.
        needed: all kept objects, including the files of kept directories.
    """

    collect: tuple[UnreferencedContent, ...] = ()
    orphans: Mapping[str, int] = field(default_factory=dict)
    incomplete: tuple[str, ...] = ()
    damaged: Mapping[str, str] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    needed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Plan:
    """The whole plan.

    Attributes:
        materializations: number of materializations, and number of kept ones.
        cached: objects in the local cache that no kept materialization needs, with their bytes.
        orphans_go: True if orphans are deleted too.
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
        """Return the total bytes to delete."""
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
    listings: Callable[[Collection[str]], Listings],
    claimed: Collection[str],
    cutoff: float,
) -> DataPlan:
    """Return the plan for a content store.

    Only content of a materialization in the graph is collected. A file is deleted if neither a kept directory nor a
    directory of another owner has it.

    Args:
        graph: the whole graph.
        kept: ids of the nodes whose content is kept.
        held: the objects in the store, by DVC hash.
        listings: returns the objects of directories, by the directories' hashes.
        claimed: hashes of content that others keep in the same store.
        cutoff: objects that were written later, or at an unknown time, are kept; seconds since 1970.
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
    found = listings({value for value in (recorded | strangers) & held.keys() if value.endswith(".dir")})
    listed = found.files
    unknown = (found.unknown & (wanted | strangers)) | (found.damaged.keys() & wanted)
    may_go = set() if unknown else {value for value, each in held.items() if _is_old(each, cutoff)}
    needed = wanted.union(*(listed.get(value, frozenset()) for value in wanted | strangers), strangers)
    taken = set[str]()
    collect = []
    for value in sorted(had.keys() - needed):
        files = () if value in found.damaged else sorted(listed.get(value, ()))  # It may name files of others.
        objects = [each for each in (*files, value) if each in may_go and each not in needed and each not in taken]
        if objects:
            taken.update(objects)
            size = sum(held[each].size for each in objects)
            collect.append(UnreferencedContent(_PREFIX + value, tuple(objects), size, tuple(had[value])))
    known = recorded.union(*(listed.get(value, frozenset()) for value in recorded))
    orphans = {value: held[value].size for value in sorted(may_go - known)}
    lost = [value for value in sorted(_contents(graph, kept)) if not _is_whole(value, held, listed)]
    incomplete = tuple(_PREFIX + value for value in lost)
    return DataPlan(tuple(collect), orphans, incomplete, found.damaged, frozenset(unknown), frozenset(needed))


def unreferenced_images(graph: LineageGraph, kept: Collection[str]) -> Mapping[str, tuple[Node, ...]]:
    """Return the materializations of the images to delete, by image reference.

    The image in which a kept artifact was made is kept, whichever materialization the image belongs to.
    """
    stay = {node.image for node in graph.nodes.values() if node.id in kept}
    found = defaultdict[str, list[Node]](list)
    for node in graph.nodes.values():
        if node.kind is ArtifactKind.IMAGE and node.image and node.image not in stay:
            found[node.image].append(node)
    return {image: tuple(nodes) for image, nodes in found.items()}


def _contents(graph: LineageGraph, kept: Collection[str]) -> set[str]:
    """Return the content of kept artifacts of this project."""
    nodes = (node for node in graph.nodes.values() if node.id in kept and isinstance(node.kind, ArtifactKind))
    return {value for node in nodes if (value := _content(node))}


def _content(node: Node) -> str | None:
    """Return the DVC hash of a node's content; None for an image, and for content outside a DVC remote."""
    version = node.content_version or node.data_version
    if version is None or not version.startswith(_PREFIX) or node.kind is ArtifactKind.IMAGE:
        return None
    return version.removeprefix(_PREFIX)


def _is_old(found: HeldObject, cutoff: float) -> bool:
    return found.written is not None and found.written < cutoff


def _is_whole(value: str, held: Mapping[str, HeldObject], listed: Mapping[str, frozenset[str]]) -> bool:
    return value in held and (not value.endswith(".dir") or all(each in held for each in listed.get(value, ())))

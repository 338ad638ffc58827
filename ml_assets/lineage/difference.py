"""Differences between the origins of two artifacts, the most likely cause first. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from ml_assets.lineage.graph import LineageGraph, Node
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import ArtifactKind, Observed, ProvenanceRecord

__all__ = [
    "Aspect",
    "Difference",
    "Origin",
    "differences",
    "differences_to_json",
    "recorded_differences",
    "render_differences",
]


class Aspect(IntEnum):
    """Kind of a difference, the most likely cause of another result first."""

    DATA = 0
    """Another version, or other partitions, of upstream data."""
    PARAMETERS = 1
    CODE = 2
    """The function, or first-party code that it uses. A commit that changes neither comes last."""
    ENVIRONMENT = 3
    """Image or interpreter, with all installed packages."""
    SEEDS = 4
    HARDWARE = 5
    """The machine, and the number of threads, which order sums."""
    COMMIT = 6


@dataclass(frozen=True)
class Origin:
    """Origin of an artifact.

    Attributes:
        upstream: the artifact and everything upstream of it.
        record: its provenance record; None if no factory of this project made it.
    """

    node: Node
    upstream: LineageGraph
    record: ProvenanceRecord | None


@dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes:
        what: the asset and partition, parameter, or other part of the record.
        before: its value in the first origin; None if it is not there.
        after: its value in the second one.
    """

    aspect: Aspect
    what: str
    before: str | None
    after: str | None


def differences(first: Origin, second: Origin) -> tuple[Difference, ...]:
    """Return the differences between two origins, the most likely cause first.

    Data is listed only if it differs by itself; a table that differs only because its inputs differ is left out.
    """
    found = [*_data(first, second), *_facts(first.node, second.node)]
    if first.record and second.record:
        found += recorded_differences(first.record, second.record)
    # A stable sort keeps the order of the log among the data.
    return tuple(sorted(found, key=lambda difference: difference.aspect))


def recorded_differences(first: ProvenanceRecord, second: ProvenanceRecord) -> Iterator[Difference]:
    """Return the differences between two records in how artifacts were made; inputs and code version are left out."""
    parts: list[tuple[Aspect, Mapping[str, Any], Mapping[str, Any]]] = [
        (Aspect.PARAMETERS, first.parameters, second.parameters),
        # One of the records may predate the parts.
        (Aspect.CODE, first.code if second.code else {}, second.code if first.code else {}),
        (Aspect.SEEDS, first.seeds, second.seeds),
        (Aspect.HARDWARE, first.hardware.model_dump(), second.hardware.model_dump()),
        (Aspect.HARDWARE, first.threads.variables, second.threads.variables),
        (Aspect.HARDWARE, first.threads.libraries, second.threads.libraries),
        (Aspect.ENVIRONMENT, first.environment.model_dump(include=_RAN), second.environment.model_dump(include=_RAN)),
        (Aspect.COMMIT, {"diff": first.source.diff_digest}, {"diff": second.source.diff_digest}),
    ]
    for aspect, before, after in parts:
        for name in dict.fromkeys([*before, *after]):
            yield from _pair(aspect, name, before.get(name), after.get(name))
    if first.observed and second.observed:
        yield from _beyond_code_version(first.observed, second.observed)
    if first.content and second.content and first.content.values and first.content.values == second.content.values:
        # Another version of the Parquet library writes other bytes.
        yield from _pair(Aspect.ENVIRONMENT, "file of the same values", first.data_version, second.data_version)


def render_differences(found: tuple[Difference, ...], first: Origin, second: Origin) -> RenderableType:
    """Return one list for each aspect as text."""
    title = Text(f"{first.node.id} → {second.node.id}", style="bold")
    if not found:
        return Group(title, Text("no recorded differences", style="dim"))
    trees = []
    for aspect in Aspect:
        tree = Tree(Text(aspect.name.lower(), style="cyan"))
        for each in (each for each in found if each.aspect is aspect):
            tree.add(Text(f"{each.what}  {each.before or 'none'} → {each.after or 'none'}"))
        if tree.children:
            trees.append(tree)
    return Group(title, *trees)


def differences_to_json(found: tuple[Difference, ...], first: Origin, second: Origin) -> dict[str, Any]:
    """Return the differences as plain values."""
    rows = [
        {"aspect": each.aspect.name.lower(), "what": each.what, "before": each.before, "after": each.after}
        for each in found
    ]
    return {"first": first.node.id, "second": second.node.id, "differences": rows}


def _beyond_code_version(first: Observed, second: Observed) -> Iterator[Difference]:
    """Return differences in code and files that the code versions do not cover, including those of unknown content."""
    before, after = ({item.name: item.digest or _UNKNOWN for item in each.uncovered} for each in (first, second))
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name) or before[name] == _UNKNOWN:
            yield Difference(Aspect.CODE, name, before.get(name), after.get(name))


_Versions = Mapping[AssetPartition, frozenset[str]]


def _data(first: Origin, second: Origin) -> Iterator[Difference]:
    before, after = _versions(first), _versions(second)
    differing = {artifact for artifact in before.keys() | after.keys() if before.get(artifact) != after.get(artifact)}
    explained = _explained(first.upstream, differing) | _explained(second.upstream, differing)
    # Either may explain the other if the two origins were made in different ways.
    roots = (differing - explained) or differing
    images = _images(first) | _images(second)
    for artifact in {**before, **after}:
        if artifact in roots:
            aspect = Aspect.ENVIRONMENT if artifact in images else Aspect.DATA
            yield Difference(aspect, str(artifact), _joined(before.get(artifact)), _joined(after.get(artifact)))


def _images(origin: Origin) -> set[AssetPartition]:
    return {_artifact(node) for node in origin.upstream.nodes.values() if node.kind is ArtifactKind.IMAGE}


def _versions(origin: Origin) -> _Versions:
    """Return the versions of everything upstream, in the order of the log."""
    versions: dict[AssetPartition, set[str]] = defaultdict(set)
    for node in origin.upstream.nodes.values():
        if node.id != origin.node.id:
            versions[_artifact(node)].add(node.data_version or node.id)
    return {artifact: frozenset(each) for artifact, each in versions.items()}


def _explained(upstream: LineageGraph, differing: set[AssetPartition]) -> set[AssetPartition]:
    return {
        _artifact(node)
        for node in upstream.nodes.values()
        if any(_artifact(parent) in differing - {_artifact(node)} for parent in upstream.parents(node.id))
    }


def _artifact(node: Node) -> AssetPartition:
    return AssetPartition(node.asset, node.partition)


def _joined(versions: Iterable[str] | None) -> str | None:
    return ", ".join(sorted(versions)) if versions else None


def _facts(first: Node, second: Node) -> Iterator[Difference]:
    yield from _pair(Aspect.CODE, "code version", first.code_version, second.code_version)
    yield from _pair(Aspect.ENVIRONMENT, "environment", first.environment, second.environment)
    yield from _pair(Aspect.ENVIRONMENT, "image", first.image, second.image)
    yield from _pair(Aspect.COMMIT, "commit", first.commit, second.commit)
    yield from _pair(Aspect.COMMIT, "uncommitted changes", first.dirty, second.dirty)


_UNKNOWN = "unknown content"
_RAN = {"python", "dagster", "pool", "target"}


def _pair(aspect: Aspect, what: str, before: object, after: object) -> Iterator[Difference]:
    if before != after:
        yield Difference(aspect, what, _text(before), _text(after))


def _text(value: object) -> str | None:
    return None if value is None else str(value)

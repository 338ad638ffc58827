"""Inputs as Dagster itself records them, for materializations without a provenance record.

Dagster records two tags for each upstream asset: a version, and a pointer to an event. If several partitions could be
read, the pointer is only the asset's latest event of any partition, not the event that was read. The version is then
SHA-256 over the versions of the partitions that were read, in the order of their names (dagster 1.13,
`_core/execution/context/data_version_cache.py`). Therefore an edge leads only to events whose versions result in the
recorded version. If there are none, the recorded version alone represents the input.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from ml_assets.lineage.graph import Node, NodeKind
from ml_assets.resources.provenance import InputVersion

__all__ = ["DagsterInput", "resolve_dagster_input"]

_DAGSTER_COMBINES_BELOW = 100


@dataclass(frozen=True, slots=True)
class DagsterInput:
    """Dagster's own record of one upstream asset: a version, and a pointer to an event.

    Attributes:
        storage_id: the latest event of the asset at that time, of any partition.
    """

    asset: str
    data_version: str
    storage_id: int


def resolve_dagster_input(recorded: DagsterInput, reader: Node, history: Sequence[Node]) -> tuple[InputVersion, ...]:
    """Return the input versions that Dagster's record represents.

    The search covers the usual partition mappings: the reader's own partition, one other, all, or a window that ends
    at the reader's own (or at the last). From 100 partitions on, Dagster records only the latest event, and this
    function returns only that event too.

    Args:
        recorded: Dagster's record.
        reader: the node that has the record.
        history: events of the upstream asset, oldest first.
    """
    known = history[: bisect_right(history, recorded.storage_id, key=lambda node: node.storage_id or 0)]
    if (
        known
        and known[-1].storage_id == recorded.storage_id
        and known[-1].data_version in (recorded.data_version, None)
    ):
        return (_input_version(known[-1], recorded),)
    latest = {node.partition: node for node in known if node.partition is not None and _is_materialization(node)}
    for group in _candidates([latest[partition] for partition in sorted(latest, key=str)], reader):
        if _combined(group) == recorded.data_version:
            return tuple(_input_version(node, recorded) for node in group)
    pointed = None if known and known[-1].partition is not None else recorded.storage_id
    return (InputVersion(asset=recorded.asset, data_version=recorded.data_version, storage_id=pointed),)


def _candidates(partitions: list[Node], reader: Node) -> Iterator[list[Node]]:
    own = [node.partition for node in partitions].index(reader.partition) if _has_own(partitions, reader) else None
    if own is not None:
        yield [partitions[own]]
    yield partitions
    last = len(partitions) if own is None else own + 1
    for first in range(last - 1, max(last - _DAGSTER_COMBINES_BELOW, -1), -1):
        yield partitions[first:last]
    versions = [node.data_version for node in partitions]
    yield from ([node] for node in partitions if versions.count(node.data_version) == 1)


def _has_own(partitions: list[Node], reader: Node) -> bool:
    return reader.partition is not None and any(node.partition == reader.partition for node in partitions)


def _is_materialization(node: Node) -> bool:
    return node.kind is not NodeKind.OBSERVATION


def _combined(nodes: list[Node]) -> str:
    return sha256("".join(node.data_version or "" for node in nodes).encode()).hexdigest()


def _input_version(node: Node, recorded: DagsterInput) -> InputVersion:
    return InputVersion(
        asset=node.asset,
        partition=node.partition,
        data_version=node.data_version or recorded.data_version,
        storage_id=node.storage_id,
        run_id=node.dagster_run,
    )

"""The artifacts to rebuild if an input is bad: a corrupt dataset version, an image with a vulnerability. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from ml_assets.lineage.graph import Node, Trace
from ml_assets.lineage.rendering import describe

__all__ = ["Affected", "Impact", "Urgency", "impact_of", "impact_to_json", "render_impact"]


class Urgency(IntEnum):
    """The reason why an affected artifact must be rebuilt; the most urgent first."""

    DEPLOYED = 0
    """A version of a registered model that is deployed."""
    REGISTERED = 1
    """Another version of a registered model, which users may fetch."""
    CURRENT = 2
    """The latest materialization of its asset's partition, which downstream steps load."""


@dataclass(frozen=True)
class Affected:
    """A node to rebuild."""

    node: Node
    urgency: Urgency


@dataclass(frozen=True)
class Impact:
    """All affected nodes.

    Attributes:
        affected: the most urgent first; nodes of equal urgency in the order in which to rebuild them.
        superseded: number of other affected nodes, which newer materializations have replaced.
    """

    reference: str
    affected: tuple[Affected, ...]
    superseded: int


def impact_of(trace: Trace, current: Collection[str]) -> Impact:
    """Return the nodes to rebuild if the starts of a trace are bad, starts included.

    Args:
        trace: the downstream trace; its nodes tell which models are deployed.
        current: ids of the nodes that are the latest of their asset's partition.
    """
    reached = [node for node in trace.graph.nodes.values() if node.id in (trace.downstream or ())]
    judged = [(node, _urgency(node, frozenset(current))) for node in reached]
    # The sort is stable: nodes of equal urgency stay in the order of the log, in which inputs precede their readers.
    affected = sorted((Affected(node, urgency) for node, urgency in judged if urgency is not None), key=_by_urgency)
    return Impact(trace.reference, tuple(affected), len(reached) - len(affected))


def render_impact(impact: Impact) -> RenderableType:
    """Return one list for each urgency as text."""
    titles = {
        Urgency.DEPLOYED: "Deployed models",
        Urgency.REGISTERED: "Registered models",
        Urgency.CURRENT: "To rebuild, in this order",
    }
    parts: list[RenderableType] = []
    for urgency, title in titles.items():
        tree = Tree(Text(title, style="bold"))
        for each in impact.affected:
            if each.urgency is urgency:
                tree.add(describe(each.node))
        if tree.children:
            parts.append(tree)
    if not parts:
        parts.append(Text("no current, registered or deployed artifact depends on it"))
    if impact.superseded:
        parts.append(Text(f"and {impact.superseded} replaced by newer materializations", style="dim"))
    return Group(*parts)


def impact_to_json(impact: Impact) -> dict[str, Any]:
    """Return the impact as plain values."""
    return {
        "reference": impact.reference,
        "affected": [
            {
                "id": each.node.id,
                "urgency": each.urgency.name.lower(),
                "kind": each.node.kind.value,
                "asset": each.node.asset,
                "partition": each.node.partition,
                "data_version": each.node.data_version,
                "model_version": each.node.model_version,
            }
            for each in impact.affected
        ],
        "superseded": impact.superseded,
    }


def _urgency(node: Node, current: frozenset[str]) -> Urgency | None:
    if node.model_version is not None:
        return Urgency.DEPLOYED if node.is_deployed else Urgency.REGISTERED
    return Urgency.CURRENT if node.id in current else None


def _by_urgency(affected: Affected) -> Urgency:
    return affected.urgency

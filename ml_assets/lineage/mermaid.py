"""A graph as a Mermaid flowchart."""

from typing import Final

from ml_assets.lineage.graph import LineageGraph, Node
from ml_assets.lineage.rendering import brief
from ml_assets.resources.identity import AssetPartition

__all__ = ["render_mermaid"]

_COLOURS: Final = {"dataset": "#cfe8f7", "feature set": "#cdeee2", "model": "#fbdcc8", "image": "#ead9f2"}


def render_mermaid(graph: LineageGraph, starts: tuple[str, ...] = ()) -> str:
    """Return a graph as a Mermaid flowchart.

    Mermaid draws at most 500 edges unless ``maxEdges`` is configured higher.

    Args:
        graph: the graph to draw.
        starts: ids of nodes to highlight.
    """
    numbers = {node_id: number for number, node_id in enumerate(graph.nodes)}
    lines = ["flowchart LR"]
    for node_id, node in graph.nodes.items():
        shown = "<br/>".join([_escaped(str(AssetPartition(node.asset, node.partition))), _escaped(brief(node))])
        lines.append(f'    n{numbers[node_id]}["{shown}"]:::{_class(node)}')
    lines += [f"    n{numbers[edge.source]} --> n{numbers[edge.target]}" for edge in graph.edges]
    for kind in dict.fromkeys(node.kind.value for node in graph.nodes.values()):
        fill = _COLOURS.get(kind, "#e4e7ec")
        lines.append(f"    classDef {kind.replace(' ', '_')} fill:{fill},stroke:#5b6472,color:#16191f")
    lines += [f"    style n{numbers[start]} stroke:#0b57d0,stroke-width:4px" for start in starts if start in numbers]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Return text with all possible syntax or markup as character references in Mermaid's form."""
    return "".join(letter if letter.isalnum() or letter in " -_./@:·" else f"#{ord(letter)};" for letter in text)


def _class(node: Node) -> str:
    return node.kind.value.replace(" ", "_")

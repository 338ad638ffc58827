"""The layout of a lineage graph: a position for each node. Pure.

Layers run from left to right, inputs on the left. The layer of a node is the length of the longest path to it (as in
Sugiyama's method). Within a layer the nodes of one asset are placed together, by partition, and assets are ordered by
the barycentre of their neighbours. A layer of many nodes has several columns. A graph of many layers has several bands
below each other. So a drawing of thousands of nodes roughly has the aspect ratio of a screen.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Final

from ml_assets.lineage.graph import LineageGraph, Node, NodeKind
from ml_assets.resources.provenance import ArtifactKind

__all__ = ["NODE_SIZE", "Block", "Layout", "lay_out"]

NODE_SIZE: Final = (230, 46)
"""Width and height of a node."""

_COLUMN: Final = NODE_SIZE[0] + 18
_ROW: Final = NODE_SIZE[1] + 12
_BETWEEN_LAYERS: Final = 110
_BETWEEN_BLOCKS: Final = 40
_BETWEEN_BANDS: Final = 160
_SCREEN: Final = 1.6
"""Ratio of width to height."""
_WIDEST: Final = 15 * (_COLUMN + _BETWEEN_LAYERS)
"""Maximum width of a single band that is still readable as a whole."""
_ROWS: Final = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_SWEEPS: Final = 4


@dataclass(frozen=True, slots=True)
class Block:
    """The nodes of one asset in one layer.

    Attributes:
        x: left edge.
        y: upper edge.
    """

    asset: str
    kind: ArtifactKind | NodeKind
    count: int
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Upper left corner of each node by its id, and the blocks that the nodes form. None of them overlap."""

    positions: Mapping[str, tuple[int, int]]
    blocks: tuple[Block, ...]


def lay_out(graph: LineageGraph) -> Layout:
    """Return the positions of the nodes of a graph."""
    links = _Links(graph)
    layers = [list(blocks.values()) for blocks in _ordered(graph, links, _layers(links))]
    rows = min(_ROWS, key=lambda rows: _distortion(layers, rows))
    columns = [_Column(blocks, rows) for blocks in layers]
    positions: dict[str, tuple[int, int]] = {}
    blocks: list[Block] = []
    top = 0
    for band in _bands(columns):
        height = max(column.height for column in band)
        left = 0
        for column in band:
            column.place(left, top + (height - column.height) // 2, graph, positions, blocks)
            left += column.width + _BETWEEN_LAYERS
        top += height + _BETWEEN_BANDS
    return Layout(positions, tuple(blocks))


_Ids = Sequence[str]
_Blocks = dict[str, _Ids]


class _Links:
    """The inputs and uses of each node, by id."""

    def __init__(self, graph: LineageGraph) -> None:
        self.parents: dict[str, list[str]] = {node_id: [] for node_id in graph.nodes}
        self.children: dict[str, list[str]] = {node_id: [] for node_id in graph.nodes}
        for source, target in graph.edges:
            self.parents[target].append(source)
            self.children[source].append(target)


class _Column:
    """The blocks of one layer, below each other."""

    def __init__(self, blocks: Sequence[_Ids], rows: int) -> None:
        self._blocks = [(ids, *_grid(len(ids), rows)) for ids in blocks]
        self.width = max(across for _, across, _ in self._blocks) * _COLUMN
        self.height = sum(down * _ROW + _BETWEEN_BLOCKS for _, _, down in self._blocks)

    def place(
        self, left: int, top: int, graph: LineageGraph, positions: dict[str, tuple[int, int]], blocks: list[Block]
    ) -> None:
        for ids, across, down in self._blocks:
            first = graph.nodes[ids[0]]
            blocks.append(Block(first.asset, first.kind, len(ids), left, top, across * _COLUMN, down * _ROW))
            for index, node_id in enumerate(ids):
                positions[node_id] = left + index // down * _COLUMN, top + index % down * _ROW
            top += down * _ROW + _BETWEEN_BLOCKS


def _grid(count: int, rows: int) -> tuple[int, int]:
    """Return the columns and rows of a block, which is filled column by column."""
    across = ceil(count / rows)
    return across, ceil(count / across)


def _distortion(layers: Sequence[Sequence[_Ids]], rows: int) -> float:
    """Return the factor between the drawing's aspect ratio and a screen's; 1 if they are equal."""
    columns = [_Column(blocks, rows) for blocks in layers]
    width = sum(column.width + _BETWEEN_LAYERS for column in columns)
    form = width / max((column.height for column in columns), default=1) / _SCREEN
    return max(form, 1 / form) if form else 1


def _bands(columns: list[_Column]) -> Iterator[list[_Column]]:
    width = sum(column.width + _BETWEEN_LAYERS for column in columns)
    height = max((column.height for column in columns), default=1) + _BETWEEN_BANDS
    limit = max(sqrt(width * height * _SCREEN), _WIDEST)
    band: list[_Column] = []
    filled = 0
    for column in columns:
        if band and filled + column.width > limit:
            yield band
            band, filled = [], 0
        band.append(column)
        filled += column.width + _BETWEEN_LAYERS
    if band:
        yield band


def _layers(links: _Links) -> dict[str, int]:
    """Return the layer of each node; a source is placed just before its first reader."""
    layers: dict[str, int] = {}
    for node_id in _topological(links):
        layers[node_id] = max((layers.get(parent, -1) for parent in links.parents[node_id]), default=-1) + 1
    for node_id, parents in links.parents.items():
        if not parents and (children := links.children[node_id]):
            layers[node_id] = max(min(layers[child] for child in children) - 1, 0)
    return layers


def _topological(links: _Links) -> Iterator[str]:
    """Return ids, each after its parents. A cycle, which only a wrong record can cause, is cut at its beginning."""
    waiting = {node_id: len(parents) for node_id, parents in links.parents.items()}
    ready = [node_id for node_id, count in waiting.items() if not count]
    unopened = iter(links.parents)
    while waiting:
        if not ready:
            ready.append(next(node_id for node_id in unopened if node_id in waiting))
        node_id = ready.pop()
        if waiting.pop(node_id, None) is None:
            continue
        yield node_id
        for child in links.children[node_id]:
            if child in waiting:
                waiting[child] -= 1
                if not waiting[child]:
                    ready.append(child)


def _ordered(graph: LineageGraph, links: _Links, layers: Mapping[str, int]) -> list[_Blocks]:
    """Return the blocks of each layer in order, by asset."""
    by_layer: defaultdict[int, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for node_id, node in sorted(graph.nodes.items(), key=lambda item: _place(item[1])):
        by_layer[layers[node_id]][node.asset].append(node_id)
    ordered: list[_Blocks] = [dict(by_layer[layer]) for layer in sorted(by_layer)]
    heights = _heights(ordered)
    for sweep in range(_SWEEPS):
        neighbours, numbers = links.parents, range(len(ordered))
        if sweep % 2:
            neighbours, numbers = links.children, numbers[::-1]
        for number in numbers:
            middles = {asset: _middle(ids, neighbours, heights) for asset, ids in ordered[number].items()}
            ordered[number] = {asset: ordered[number][asset] for asset in sorted(middles, key=middles.__getitem__)}
            heights |= _heights([ordered[number]])
    return ordered


def _middle(ids: _Ids, neighbours: Mapping[str, _Ids], heights: Mapping[str, float]) -> float:
    """Return the barycentre of the neighbours of a block, or of the block itself if it has none."""
    found = [heights[other] for node_id in ids for other in neighbours[node_id]] or [
        heights[node_id] for node_id in ids
    ]
    return sum(found) / len(found)


def _heights(layers: Iterable[_Blocks]) -> dict[str, float]:
    """Return the vertical position of each node in its layer, from 0 to 1."""
    heights: dict[str, float] = {}
    for blocks in layers:
        ids = [node_id for block in blocks.values() for node_id in block]
        heights |= {node_id: (index + 0.5) / len(ids) for index, node_id in enumerate(ids)}
    return heights


def _place(node: Node) -> tuple[str, str, int]:
    return node.asset, node.partition or "", node.storage_id or 0

"""A trace as two text trees, and as JSON."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from ml_assets.artifacts.metadata import NOT_CONTAINERIZED, describe_commit
from ml_assets.lineage.graph import LineageGraph, Node, NodeKind, Trace
from ml_assets.resources.identity import Digest, ImageReference, ModelUri

__all__ = ["brief", "describe", "facts", "render_trace", "shorten", "to_json"]

MANY: Final = 12
"""Beyond this number of sibling materializations of one asset, only the first few are shown."""

FEW: Final = 3
DEPTH: Final = 16
"""Levels of a tree that fit on a screen."""


def to_json(graph: LineageGraph) -> dict[str, Any]:
    """Return the graph as plain values: ``{"nodes": [...], "edges": [{"from": id, "to": id}]}``.

    ``from`` is the input and ``to`` the node that read it; timestamps are ISO 8601 in UTC.
    """
    return {
        "nodes": [
            {
                "id": node.id,
                "kind": node.kind.value,
                "asset": node.asset,
                "partition": node.partition,
                "data_version": node.data_version,
                "image": node.image,
                "environment": node.environment,
                "mlflow_run": node.mlflow_run,
                "model_version": node.model_version,
                "aliases": list(node.aliases),
                "is_deployed": node.is_deployed,
                "collected": node.deleted_at.isoformat() if node.deleted_at else None,
                "commit": node.commit,
                "dagster_run": node.dagster_run,
                "timestamp": node.timestamp.isoformat() if node.timestamp else None,
            }
            for node in graph.nodes.values()
        ],
        "edges": [{"from": edge.source, "to": edge.target} for edge in graph.edges],
    }


def render_trace(trace: Trace) -> RenderableType:
    """Return two trees: the inputs of the traced nodes, and their uses, as far as the question asked for them.

    A node that occurs twice is expanded once. An empty tree contains a note. If the question
    omits nodes in between, each tree is a list.
    """
    graph = trace.graph
    asked = [
        ("Inputs", trace.upstream, graph.parents, graph.upstream),
        ("Used by", trace.downstream, graph.children, graph.downstream),
    ]
    trees: list[RenderableType] = []
    for title, reached, next_of, reach in asked:
        if reached is None:
            continue
        if trees:
            trees.append(Text())
        trees.append(_tree(title, trace, reached, next_of, reach) if trace.is_whole else _list(title, trace, reached))
    return Group(*trees)


def describe(node: Node) -> Text:
    """Return one line about a node: its id, version, image, commit and runs, digests shortened."""
    text = Text(node.id, style="bold").append(f"  {node.kind}", style="cyan not bold")
    for part in facts(node):
        text.append(f"  {part}", style="not bold")
    return text


_Neighbours = Callable[[str], tuple[Node, ...]]
_Reach = Callable[[Iterable[str]], frozenset[str]]


def facts(node: Node) -> Iterator[str]:
    """Return short facts about a node beside its name and kind."""
    if node.kind is NodeKind.MISSING:
        yield "not in the log"
    if node.data_version:
        yield shorten(node.data_version)
    if node.image:
        yield f"image {shorten(str(ImageReference.parse(node.image).digest))}"
    elif node.environment:
        yield NOT_CONTAINERIZED
    if node.commit or node.environment:
        yield f"commit {describe_commit(node.commit, node.dirty)}" if node.commit else describe_commit(None, None)
    if node.model_version:
        aliases = (alias if alias.startswith("models:/") else f"@{alias}" for alias in node.aliases)
        yield " ".join([node.model_version, *aliases])
    if node.is_deployed:
        yield "deployed"
    if node.deleted_at:
        yield f"deleted by gc {node.deleted_at:%Y-%m-%d %H:%M}Z"
    if node.mlflow_run:
        yield f"MLflow {node.mlflow_run[:8]}"
    if node.dagster_run:
        yield f"run {node.dagster_run[:8]}"
    if node.timestamp:
        yield f"{node.timestamp:%Y-%m-%d %H:%M}Z"


def brief(node: Node) -> str:
    """Return the text below a node's name in a drawing: its kind, model version and time."""
    moment = f"{node.timestamp:%Y-%m-%d %H:%M}" if node.timestamp else None
    model = ModelUri.parse(node.model_version) if node.model_version else None
    named = model and f"{model.name} {model.version}"
    return " · ".join(part for part in (node.kind.value, named, moment) if part)


def shorten(version: str) -> str:
    """Return a version with its digest shortened."""
    try:
        digest = Digest.parse(version)
    except ValueError:
        return version if len(version) <= len("sha256:") + 12 else f"{version[:12]}"
    return f"{digest.algorithm}:{digest.short}"


@dataclass
class _Drawing:
    starts: frozenset[str]
    next_of: _Neighbours
    spelled_out: set[str] = field(default_factory=set)

    def grow(self, root: Tree, nodes: Iterable[Node]) -> None:
        """Add nodes and their branches. Without recursion, because a chain may be as long as the whole history."""
        waiting = [(root, self._entries(nodes))]
        while waiting:
            branch, entries = waiting[-1]
            entry = next(entries, None)
            if entry is None:
                waiting.pop()
            elif isinstance(entry, Text):
                branch.add(entry)
            elif (drawn := self._draw(branch, entry, len(waiting))) is not None:
                waiting.append((drawn, self._entries(self.next_of(entry.id))))

    def _draw(self, branch: Tree, node: Node, depth: int) -> Tree | None:
        """Return the node's branch, if there is more to draw below it."""
        if node.id in self.spelled_out:
            branch.add(Text(node.id).append("  (shown above)", style="dim"))
            return None
        self.spelled_out.add(node.id)
        line = describe(node)
        if node.id in self.starts:
            line.stylize("green", 0, len(node.id))
        drawn = branch.add(line)
        if depth >= DEPTH and self.next_of(node.id):
            drawn.add(Text(f"… continues: ml-assets trace '{node.id}'", style="dim"))
            return None
        return drawn

    def _entries(self, nodes: Iterable[Node]) -> Iterator[Node | Text]:
        ordered = sorted(nodes, key=lambda node: (node.asset, node.partition or "", node.storage_id or 0))
        for asset, group in groupby(ordered, key=lambda node: node.asset):
            members = list(group)
            shown = members[:FEW] if len(members) > MANY else members
            yield from shown
            if len(members) > len(shown):
                yield Text(f"… and {len(members) - len(shown)} more of {asset}, up to {members[-1].id}", style="dim")


def _list(title: str, trace: Trace, reached: frozenset[str]) -> Tree:
    """Return the reached nodes as a list, in the order of the log, without the paths to them."""
    starts = frozenset(trace.starts)
    tree = Tree(Text(title, style="bold"))
    for node_id, node in trace.graph.nodes.items():
        if node_id in reached and node_id not in starts:
            tree.add(describe(node))
    if not tree.children:
        tree.add(Text("nothing recorded", style="dim"))
    return tree


def _tree(title: str, trace: Trace, reached: frozenset[str], next_of: _Neighbours, reach: _Reach) -> Tree:
    """Return the tree of the starts. A start that is below another start is shown only there."""
    starts = reached.intersection(trace.starts)
    behind = reach(node.id for start in starts for node in next_of(start))
    tree = Tree(Text(title, style="bold"))
    _Drawing(starts, next_of).grow(tree, [trace.graph.nodes[start] for start in starts - behind])
    if not behind:
        tree.add(Text("nothing recorded", style="dim"))
    return tree

"""Synthetic lineage graphs of any size, for pictures of them."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any

from ml_assets.lineage.graph import LineageGraph, Node, Trace
from ml_assets.resources.provenance import ArtifactKind

__all__ = ["HOSTILE", "made", "pipeline", "tangle", "trace_of"]

HOSTILE = """</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>&"'`$title\u2028"""
"""A name that contains markup and syntax."""

_START = datetime(2025, 1, 1, tzinfo=UTC)


def made(storage_id: int, asset: str, kind: ArtifactKind, partition: str | None = None, **fields: Any) -> Node:
    version = md5(f"{asset}{partition}{storage_id}".encode()).hexdigest()
    return Node(
        asset=asset,
        kind=kind,
        partition=partition,
        data_version=f"md5:{version}",
        storage_id=storage_id,
        environment=f"sha256:{'5' * 64}",
        commit=version + "0" * 8,
        dagster_run=f"0a1b2c3d-0000-4000-8000-{storage_id:012}",
        timestamp=_START + timedelta(hours=storage_id),
        **fields,
    )


def pipeline(months: int) -> LineageGraph:
    """Return a graph with an image and, for each month, a table, features, a model and predictions: 1 + 4 a month.

    Each model uses the features of the last six months.
    """
    image = made(1, "images/train", ArtifactKind.IMAGE)
    nodes, edges, features = [image], list[tuple[str, str]](), list[Node]()
    for month in range(months):
        partition, number = f"{2000 + month // 12}-{month % 12 + 1:02}", 2 + 4 * month
        table = made(number, "flights", ArtifactKind.DATASET, partition)
        feature = made(number + 1, "departures", ArtifactKind.FEATURE_SET, partition)
        model = made(
            number + 2, "delay_model", ArtifactKind.MODEL, partition, model_version=f"models:/flight-delay/{month + 1}"
        )
        predictions = made(number + 3, "predictions", ArtifactKind.DATASET, partition)
        features.append(feature)
        nodes += [table, feature, model, predictions]
        edges += [(image.id, each.id) for each in (table, feature, model, predictions)]
        edges += [(table.id, feature.id), *((each.id, model.id) for each in features[-6:]), (model.id, predictions.id)]
    return LineageGraph(nodes, edges)


def tangle(size: int) -> LineageGraph:
    """Return a graph in which each node derives from some of the previous forty: as deep as a history can be."""
    generator = random.Random(size)
    kinds = (ArtifactKind.DATASET, ArtifactKind.FEATURE_SET, ArtifactKind.MODEL)
    nodes = [
        made(number, f"project/asset_{number % 20:02}", kinds[number % 3], f"{number // 20:03}")
        for number in range(1, size + 1)
    ]
    return LineageGraph(nodes, _tangled(nodes, generator))


def _tangled(nodes: list[Node], generator: random.Random) -> Iterator[tuple[str, str]]:
    for index, node in enumerate(nodes):
        before = nodes[max(0, index - 40) : index]
        for source in generator.sample(before, min(len(before), generator.randint(1, 10))):
            yield source.id, node.id


def trace_of(graph: LineageGraph, start: str) -> Trace:
    up, down = graph.upstream([start]), graph.downstream([start])
    return Trace(start, (start,), graph.subgraph(up | down), up, down)

"""A trace shows what the real factories record."""

from typing import Any

import dagster as dg
import pandas as pd

from ml_assets.artifacts.io_manager import STORAGE_KEY
from ml_assets.datasets import dataset
from ml_assets.features import feature_set
from ml_assets.images import container_image
from ml_assets.lineage.graph import NodeKind
from tests.ml_assets.lineage.index.indexed import IndexedGraph, load_graph

MONTHS = dg.MonthlyPartitionsDefinition("2013-01-01", end_date="2013-05-01")

train = container_image("train", dockerfile="Dockerfile.train", sources=["resources"])


@dataset(image=train, partitions_def=MONTHS)
def flights(context: dg.AssetExecutionContext) -> pd.DataFrame:
    return pd.DataFrame({"month": [context.partition_key]})


@feature_set(image=train, partitions_def=MONTHS, window={"flights": 2})
def departures(flights: pd.DataFrame) -> pd.DataFrame:
    return flights.assign(feature=1)


@dg.asset(partitions_def=MONTHS, io_manager_key="plain", ins={"departures": dg.AssetIn(input_manager_key=STORAGE_KEY)})
def report(departures: pd.DataFrame) -> int:
    return len(departures)


ASSETS = [train, flights, departures, report]


def materialize(instance: dg.DagsterInstance, resources: dict[str, Any], *selection: Any, month: str | None) -> None:
    result = dg.materialize(
        ASSETS,
        selection=list(selection),
        instance=instance,
        partition_key=month,
        resources={**resources, "plain": dg.mem_io_manager},
    )
    assert result.success


def made_of(graph: IndexedGraph, asset: str) -> list[str]:
    (made,) = graph.trace(asset).starts
    assert all(node.kind is not NodeKind.MISSING for node in graph.nodes.values())
    return sorted(parent.id.partition("#")[0] for parent in graph.parents(made))


def test_one_run_of_the_whole_pipeline_is_linked_from_image_to_report(
    resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    materialize(instance, resources, train, month=None)
    materialize(instance, resources, flights, month="2013-01-01")
    materialize(instance, resources, flights, departures, report, month="2013-02-01")
    graph = load_graph(instance)
    assert made_of(graph, "departures") == ["flights@2013-01-01", "flights@2013-02-01", "images/train"]
    assert made_of(graph, "report") == ["departures@2013-02-01"]
    assert made_of(graph, "flights@2013-01-01") == ["images/train"]
    (image,) = graph.trace("images/train").starts
    assert {graph.nodes[node_id].asset for node_id in graph.downstream([image])} == {
        "images/train",
        "flights",
        "departures",
        "report",
    }


def test_an_input_made_again_later_is_not_what_was_read(
    resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    materialize(instance, resources, flights, month="2013-01-01")
    materialize(instance, resources, departures, month="2013-01-01")
    read = load_graph(instance).trace("flights").starts
    materialize(instance, resources, flights, month="2013-01-01")
    graph = load_graph(instance)
    (made,) = graph.trace("departures").starts
    assert tuple(parent.id for parent in graph.parents(made)) == read
    assert graph.trace("flights").starts != read

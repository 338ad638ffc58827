"""Our side of the container benchmark: the reference pipeline's code location, an empty asset and a model."""

import time

import dagster as dg
import pandas as pd

from ml_assets.datasets import dataset
from ml_assets.flight_delays.definitions import flight_delays
from ml_assets.models import TrainedModel, model
from ml_assets.target import on_target
from tests.bench.plain_steps import trained

ROWS = 10_000


@dataset(pool="cpu")
def table() -> pd.DataFrame:
    """Return the model's input."""
    return pd.DataFrame({"x": range(ROWS), "y": range(ROWS)})


@dataset(pool="cpu")
def empty(context: dg.AssetExecutionContext) -> pd.DataFrame:
    """Return an empty frame."""
    first = time.time()
    frame = pd.DataFrame()
    context.add_output_metadata({"first": first, "last": time.time()})
    return frame


@model(pool="cpu")
def fitted(context: dg.AssetExecutionContext, table: pd.DataFrame) -> TrainedModel:
    """Return a small model of the library that the reference pipeline uses."""
    first = time.time()
    estimator = trained(table)
    context.add_output_metadata({"first": first, "last": time.time()})
    return TrainedModel(estimator, input_example=table[["x"]].head(2))


@dg.definitions
def defs() -> dg.Definitions:
    own = dg.Definitions(assets=[table, empty, fitted])
    return on_target(dg.Definitions.merge(flight_delays(), own))

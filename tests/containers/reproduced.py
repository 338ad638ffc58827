"""A code location at the time when a model was made; if `reproduced_now` is importable, its current definitions."""

import importlib.util

import dagster as dg
import pandas as pd

from ml_assets.datasets import dataset
from ml_assets.models import TrainedModel, model
from ml_assets.target import on_target

letters = dg.StaticPartitionsDefinition(["a", "b"])


@dataset(pool="cpu", partitions_def=letters)
def numbers() -> pd.DataFrame:
    """Return the model's training data."""
    return pd.DataFrame({"x": [1.0, 2.0, 3.0]})


@model(pool="cpu", registered_name="line", partitions_def=letters)
def line(numbers: pd.DataFrame) -> TrainedModel:
    """Return a model that doubles the number."""
    from sklearn.linear_model import LinearRegression

    estimator = LinearRegression().fit(numbers[["x"]], numbers["x"] * 2)
    return TrainedModel(estimator, numbers[["x"]], {"slope": float(estimator.coef_[0])})


def then() -> dg.Definitions:
    """Return the definitions with which the model was made."""
    return on_target(dg.Definitions(assets=[numbers, line]))


@dg.definitions
def defs() -> dg.Definitions:
    if importlib.util.find_spec("tests.containers.reproduced_now") is None:
        return then()
    from tests.containers.reproduced_now import figures, line

    return on_target(dg.Definitions(assets=[figures, line]))

"""The changed definitions of `reproduced`: a renamed input, and a model with other partitions and another function."""

import dagster as dg
import pandas as pd

from ml_assets.datasets import dataset
from ml_assets.models import TrainedModel, model

days = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_date="2026-01-03")


@dataset(pool="cpu", partitions_def=days)
def figures() -> pd.DataFrame:
    """Return the model's training data."""
    return pd.DataFrame({"x": [1.0, 2.0, 5.0]})


@model(pool="cpu", registered_name="line", partitions_def=days)
def line(figures: pd.DataFrame) -> TrainedModel:
    """Return a model that triples the number."""
    from sklearn.linear_model import LinearRegression

    estimator = LinearRegression().fit(figures[["x"]], figures["x"] * 3)
    return TrainedModel(estimator, figures[["x"]], {"slope": float(estimator.coef_[0])})

"""Dagster's side of the container benchmark: three assets in a module that imports dagster and pandas."""

import os
import time
from typing import Any

import dagster as dg
import pandas as pd


@dg.asset
def empty(context: dg.AssetExecutionContext) -> None:
    """Do nothing."""
    first = time.time()
    context.add_output_metadata({"first": first, "last": time.time()})


def trained(frame: pd.DataFrame) -> Any:
    """Return the estimator that both sides train."""
    import xgboost

    return xgboost.XGBRegressor(n_estimators=2, max_depth=2, n_jobs=1).fit(frame[["x"]], frame["y"])


class Table(dg.Config):
    """The location of `fitted`'s input."""

    url: str


@dg.asset
def fitted(context: dg.AssetExecutionContext, config: Table) -> None:
    """Do without a factory what a model's factory does for its author."""
    frame = pd.read_parquet(config.url)
    import mlflow

    mlflow.set_tracking_uri(os.environ["ML_ASSETS__MLFLOW__TRACKING_URI"])
    mlflow.set_experiment("plain")
    with mlflow.start_run():
        first = time.time()
        trained(frame)
        last = time.time()
    context.add_output_metadata({"first": first, "last": last})


@dg.asset
def other() -> None:
    """Do nothing: the third asset."""


@dg.definitions
def defs() -> dg.Definitions:
    from dagster_k8s import k8s_job_executor

    return dg.Definitions(assets=[empty, fitted, other], executor=k8s_job_executor)

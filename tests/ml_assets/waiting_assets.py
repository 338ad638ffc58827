"""A code location whose model trains until a test ends the training."""

import time
from pathlib import Path

import dagster as dg
import pandas as pd

from ml_assets.executors.processes import process_executor
from ml_assets.models import TrainedModel, model
from ml_assets.sensors import close_abandoned_runs
from ml_assets.target import Target

FIRST_ATTEMPT_FAILS = "the first attempt always fails"
_DEADLINE_SECONDS = 480


class Waiting(dg.Config):
    directory: str
    """Folder in which a run creates a file named after its id when training begins; a file ``go`` ends the training."""


@model(registered_name="waiting")
def waiting_model(context: dg.AssetExecutionContext, config: Waiting) -> TrainedModel:
    directory, deadline = Path(config.directory), time.monotonic() + _DEADLINE_SECONDS
    (directory / context.run.run_id).touch()
    while not (directory / "go").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody made {directory / 'go'}")
        time.sleep(0.05)
    return _fitted()


@model(retry_policy=dg.RetryPolicy(max_retries=1))
def retried_model(context: dg.AssetExecutionContext) -> TrainedModel:
    if context.retry_number == 0:
        raise ValueError(FIRST_ATTEMPT_FAILS)
    return _fitted()


@dg.definitions
def defs() -> dg.Definitions:
    preload = ["ml_assets.target", "mlflow.store.tracking.sqlalchemy_store"]
    return dg.Definitions(
        assets=[waiting_model, retried_model],
        resources=Target.from_environment().resources,
        sensors=[close_abandoned_runs],
        executor=process_executor(preload),
    )


def _fitted() -> TrainedModel:
    from sklearn.linear_model import LinearRegression

    frame = pd.DataFrame({"distance": [100.0, 200.0, 400.0]})
    return TrainedModel(LinearRegression().fit(frame, [1.0, 2.0, 4.0]), frame, metrics={"mae": 0.0})

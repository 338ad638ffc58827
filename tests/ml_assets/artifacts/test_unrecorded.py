from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ml_assets import TrainedModel, model
from ml_assets.artifacts.io_manager import STORAGE_KEY, ArtifactStorage
from ml_assets.artifacts.unrecorded import UNRECORDED_METADATA, result_key
from ml_assets.resources.errors import TrackingError
from ml_assets.resources.provenance import record_of
from ml_assets.resources.tracking.runs import MlflowTracking
from tests.mlflow_server import Relay, Server

ROWS = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": [2.0, 4.0, 6.0, 8.0]})
PNG = b"\x89PNG\r\n\x1a\n" + b"not much of a picture"


class Trained:
    """Counts the trainings, and decides what happens to the server during each."""

    def __init__(self, relay: Relay) -> None:
        self.relay, self.times, self.then = relay, 0, "up"

    def train(self) -> TrainedModel:
        from sklearn.linear_model import LinearRegression

        self.times += 1
        self.relay.switch(self.then)
        fitted = LinearRegression().fit(ROWS[["x"]], ROWS["y"])
        return TrainedModel(fitted, ROWS[["x"]], {"mae": 0.5}, {"plot": PNG}, {"best": 7})


@pytest.fixture
def trained(mlflow_server: Server) -> Iterator[Trained]:
    relay = Relay(mlflow_server)
    yield Trained(relay)
    relay.stop()


@pytest.fixture
def behind_relay(storage: ArtifactStorage, trained: Trained) -> dict[str, Any]:
    tracking = MlflowTracking(tracking_uri=trained.relay.uri, experiment="unrecorded", wait_seconds=1)
    return {STORAGE_KEY: replace(storage, tracking=tracking)}


def test_model_outlives_its_server_and_is_recorded_without_training_again(
    trained: Trained, behind_relay: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    @model(registered_name="outliving", code_version="1")
    def outliving() -> TrainedModel:
        return trained.train()

    def run() -> dg.ExecuteInProcessResult:
        return dg.materialize([outliving], instance=instance, resources=behind_relay)

    trained.then = "hung"
    with pytest.raises(TrackingError, match=r"has not answered .* the trained model is stored as md5:.* Next: start"):
        run()
    (told,) = instance.fetch_observations(outliving.key, limit=5).records
    assert told.asset_observation
    kept: Any = told.asset_observation.metadata[UNRECORDED_METADATA].value
    trained.relay.switch("up")
    trained.then = "up"
    result = run()
    assert trained.times == 1
    (event,) = result.asset_materializations_for_node("outliving")
    record = record_of(event.metadata)
    assert record.content
    assert (record.data_version, record.computed_in) == (kept["content"]["version"], kept["run_id"])
    assert record.mlflow
    assert (record.mlflow.registered_model, record.mlflow.model_version) == ("outliving", "1")
    from mlflow import MlflowClient

    client = MlflowClient(trained.relay.uri, trained.relay.uri)
    recorded = client.get_run(record.mlflow.run_id)
    assert (recorded.info.status, recorded.data.metrics, recorded.data.params["best"]) == (
        "FINISHED",
        {"mae": 0.5},
        "7",
    )
    assert [each.path for each in client.list_artifacts(record.mlflow.run_id, "figures")] == ["figures/plot.png"]
    # A model that is recorded is not used again.
    assert run().success
    assert trained.times == 2


def test_server_that_comes_back_in_time_fails_nothing(
    trained: Trained, behind_relay: dict[str, Any], instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    @model(registered_name="patient", code_version="1")
    def patient() -> TrainedModel:
        found = trained.train()
        trained.relay.back_after(1.0)
        return found

    storage = behind_relay[STORAGE_KEY]
    tracking = storage.tracking.model_copy(update={"wait_seconds": 60})
    trained.then = "down"
    assert dg.materialize(
        [patient], instance=instance, resources={STORAGE_KEY: replace(storage, tracking=tracking)}
    ).success
    assert caplog.text.count("does not answer; waiting up to 60 seconds for it") == 1
    assert trained.times == 1


def test_key_follows_every_fact_and_no_order() -> None:
    assert result_key(a=1, b={"x": 1, "y": 2}) == result_key(b={"y": 2, "x": 1}, a=1) != result_key(a=2, b={})

"""The model factory on a real MLflow store and a real content store, with a small XGBoost model."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from ml_assets.addresses import Addresses
from ml_assets.artifacts.io_manager import STORAGE_KEY, ArtifactStorage
from ml_assets.artifacts.statement import provenance_statement
from ml_assets.datasets import dataset
from ml_assets.models import TrainedModel, model
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import DefinitionError, InvalidInput, MlAssetsError, SchemaError, TrackingError
from ml_assets.resources.identity import Digest
from ml_assets.resources.image_builders.environment import InterpreterEnvironment
from ml_assets.resources.models.flavors import load_model, save_model
from ml_assets.resources.provenance import ArtifactKind, ProvenanceRecord, record_of
from ml_assets.resources.tracking.runs import MlflowTracking
from ml_assets.resources.tracking.tags import RunTags
from ml_assets.serving.servable import open_servable
from tests.migrated import Migrated

PROJECT = Path(__file__).parents[2]
ROWS = pd.DataFrame({"distance": np.arange(40.0), "delay": np.arange(40.0) * 2 + 1})
PNG = b"\x89PNG\r\n\x1a\n" + b"not much of a picture"


class TrainConfig(dg.Config):
    rounds: int = 3
    seed: int = 5


@dataset()
def departures() -> pd.DataFrame:
    return ROWS


@model(registered_name="delay")
def delay_model(departures: pd.DataFrame, config: TrainConfig) -> TrainedModel:
    from matplotlib.figure import Figure
    from xgboost import XGBRegressor

    estimator = XGBRegressor(n_estimators=config.rounds, max_depth=2, n_jobs=1, random_state=config.seed)
    estimator.fit(departures[["distance"]], departures["delay"])
    figure = Figure()
    figure.subplots().plot([0, 1])
    return TrainedModel(
        estimator,
        departures[["distance"]],
        metrics={"mae": 1.25},
        figures={"importance": figure, "residuals": PNG},
        parameters={"best_round": 2},
    )


@dataset()
def predictions(delay_model: TrainedModel, departures: pd.DataFrame) -> pd.DataFrame:
    return departures.assign(predicted=delay_model.predict(departures[["distance"]]))


@dataclass(frozen=True)
class Made:
    """Two equal runs of a pipeline, and a third with other parameters."""

    storage: ArtifactStorage
    client: MlflowClient
    results: list[dg.ExecuteInProcessResult]

    def record(self, run: int, asset: str = "delay_model") -> ProvenanceRecord:
        return record_of(self.metadata(run, asset))

    def metadata(self, run: int, asset: str = "delay_model") -> dict[str, dg.MetadataValue[Any]]:
        (event,) = self.results[run].asset_materializations_for_node(asset)
        return dict(event.metadata)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, migrated: Migrated) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("models")
    storage = storage_in(folder, migrated.mlflow(folder / "mlflow" / "mlflow.db"))
    more_rounds = {"ops": {"delay_model": {"config": {"rounds": 4}}}}
    with migrated.instance(folder / "dagster") as instance:
        results = [
            dg.materialize(
                [departures, delay_model, predictions],
                instance=instance,
                resources={STORAGE_KEY: storage},
                run_config=config,
            )
            for config in (None, None, more_rounds)
        ]
        yield Made(storage, MlflowClient(storage.tracking.tracking_uri), results)


def storage_in(folder: Path, tracking_uri: str) -> ArtifactStorage:
    return ArtifactStorage(
        store=DvcStore(remote=str(folder / "remote"), cache=str(folder / "cache")),
        tracking=MlflowTracking(tracking_uri=tracking_uri, experiment="tests", ui_url="http://mlflow.example"),
        image_builder=InterpreterEnvironment(PROJECT),
        target="local",
        addresses=Addresses("http://dagster.example", "http://mlflow.example", "http://lineage.example"),
    )


def mlflow_text(made: Made, run_id: str, path: str) -> str:
    return Path(made.client.download_artifacts(run_id, path)).read_text()


def test_calling_the_function_returns_the_trained_model() -> None:
    trained = delay_model(ROWS, TrainConfig(rounds=1))
    assert isinstance(trained, TrainedModel)
    assert trained.predict(ROWS[["distance"]]).shape == (40,)


def test_record_names_the_mlflow_run_and_the_registered_version(made: Made) -> None:
    record = made.record(0)
    assert record.kind is ArtifactKind.MODEL
    assert record.content is not None
    assert record.content.format == "model"
    assert record.mlflow is not None
    assert (record.mlflow.registered_model, record.mlflow.model_version) == ("delay", "1")
    run = made.client.get_run(record.mlflow.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "delay_model"
    assert record.mlflow.url == (f"http://mlflow.example/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}")


def test_mlflow_run_has_parameters_metrics_and_figures(made: Made) -> None:
    run_id = made.record(0).mlflow.run_id  # type: ignore[union-attr]
    data = made.client.get_run(run_id).data
    assert data.params == {"rounds": "3", "seed": "5", "best_round": "2"}
    assert data.metrics == {"mae": 1.25}
    assert 0 <= float(data.tags[RunTags.ONNX_DIFFERENCE]) < 1e-4
    figures = {artifact.path for artifact in made.client.list_artifacts(run_id, "figures")}
    assert figures == {"figures/importance.png", "figures/residuals.png"}


def test_mlflow_run_is_linked_to_versions_commit_and_dagster_run(made: Made) -> None:
    record, result = made.record(0), made.results[0]
    tags = made.client.get_run(record.mlflow.run_id).data.tags  # type: ignore[union-attr]
    assert tags[RunTags.DATA_VERSION] == record.data_version
    assert tags[RunTags.COMMIT] == record.source.commit
    assert tags[RunTags.DAGSTER_RUN] == result.run_id
    assert tags[RunTags.DAGSTER_URL] == f"http://dagster.example/runs/{result.run_id}"
    assert tags[RunTags.ENVIRONMENT] == record.environment.environment_digest
    assert tags[RunTags.CODE_VERSION] == record.code_version


def test_mlflow_run_and_registered_version_lead_back_to_dagster_and_lineage(made: Made) -> None:
    run = made.client.get_run(made.record(0).mlflow.run_id)  # type: ignore[union-attr]
    assert run.data.tags["mlflow.note.content"] == (
        "[Asset in Dagster](http://dagster.example/assets/delay_model)"
        f" · [Run in Dagster](http://dagster.example/runs/{made.results[0].run_id})"
        f" · [Lineage](http://lineage.example/trace?ref={run.info.run_id})"
    )
    assert made.client.get_model_version("delay", "1").description == run.data.tags["mlflow.note.content"]


def test_dagster_leads_to_mlflow_and_lineage(made: Made) -> None:
    entries, run = made.metadata(0), made.record(0).mlflow
    assert run
    assert entries["MLflow run"].value == run.url
    assert entries["registered model in MLflow"].value == "http://mlflow.example/#/models/delay/versions/1"
    assert entries["lineage"].value == f"http://lineage.example/trace?ref={run.run_id}"
    data = made.metadata(0, "departures")
    assert data["lineage"].value == f"http://lineage.example/trace?ref=md5%3A{data['data version'].value[4:]}"


def test_mlflow_run_keeps_the_statement_of_what_made_the_model(made: Made) -> None:
    record = made.record(0)
    assert record.mlflow
    statement = mlflow_text(made, record.mlflow.run_id, "provenance.json")
    assert json.loads(statement) == provenance_statement(record)


def test_registered_version_bears_the_same_tags(made: Made) -> None:
    for run, number in enumerate(("1", "2", "3")):
        record = made.record(run)
        version = made.client.get_model_version("delay", number)
        assert version.run_id == record.mlflow.run_id  # type: ignore[union-attr]
        assert version.tags[RunTags.DATA_VERSION] == record.data_version
        assert version.tags[RunTags.COMMIT] == record.source.commit
        assert version.tags[RunTags.DAGSTER_RUN] == made.results[run].run_id


def test_inputs_are_datasets_of_the_mlflow_run(made: Made) -> None:
    (used,) = made.client.get_run(made.record(0).mlflow.run_id).inputs.dataset_inputs  # type: ignore[union-attr]
    version = made.record(0, "departures").data_version
    assert used.dataset.name == "departures"
    assert used.dataset.digest == Digest.parse(version).hex
    assert json.loads(used.dataset.source)["data_version"] == version


def test_logged_model_has_signature_and_example_and_predicts_the_same(made: Made) -> None:
    import mlflow

    version = made.client.get_model_version("delay", "1")
    mlflow.set_tracking_uri(made.storage.tracking.tracking_uri)
    try:
        info = mlflow.models.get_model_info(f"models:/{version.name}/{version.version}")
        loaded = mlflow.pyfunc.load_model(f"models:/{version.name}/{version.version}")
        predicted = loaded.predict(ROWS[["distance"]])
    finally:
        mlflow.set_tracking_uri(None)
    assert info.signature.inputs.input_names() == ["distance"]
    assert info.saved_input_example_info is not None
    frame = made.storage.store.read_frame(Digest.parse(made.record(0, "predictions").data_version))
    np.testing.assert_allclose(predicted, frame["predicted"], rtol=1e-6)


def test_logged_model_has_what_a_server_needs_and_can_check(made: Made, tmp_path: Path) -> None:
    import mlflow

    mlflow.set_tracking_uri(made.storage.tracking.tracking_uri)
    try:
        folder = Path(mlflow.artifacts.download_artifacts("models:/delay/1/servable", dst_path=str(tmp_path)))
    finally:
        mlflow.set_tracking_uri(None)
    listed = (folder / "listing.json").read_bytes()
    assert made.record(0).data_version == f"md5:{hashlib.md5(listed, usedforsecurity=False).hexdigest()}.dir"
    hashes = {entry["relpath"]: entry["md5"] for entry in json.loads(listed)}
    for name in ("model.onnx", "signature.json", "example.json"):
        assert hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest() == hashes[name]


def test_equal_training_gives_one_data_version_and_other_training_another(made: Made) -> None:
    versions = [made.record(run).data_version for run in range(3)]
    assert versions[0] == versions[1] != versions[2]
    runs = {made.record(run).mlflow.run_id for run in range(3)}  # type: ignore[union-attr]
    assert len(runs) == 3


def test_asset_downstream_predicts_as_the_model_server_does(made: Made) -> None:
    directory = made.storage.store.fetch(Digest.parse(made.record(0).data_version))
    frame = made.storage.store.read_frame(Digest.parse(made.record(0, "predictions").data_version))
    served = open_servable(directory).predict_columns({"distance": ROWS["distance"].to_numpy()})["predictions"]
    np.testing.assert_array_equal(served, frame["predicted"])
    trained = delay_model(ROWS, TrainConfig())
    np.testing.assert_allclose(trained.predict(ROWS[["distance"]]), frame["predicted"], rtol=1e-6)


def test_loaded_model_is_run_as_the_server_runs_it_unless_it_is_not_to_be_served(made: Made, tmp_path: Path) -> None:
    directory = made.storage.store.fetch(Digest.parse(made.record(0).data_version))
    served = TrainedModel("never asked", directory=directory)
    estimator = load_model(directory)
    np.testing.assert_allclose(served.predict(ROWS[["distance"]]), estimator.predict(ROWS[["distance"]]), rtol=1e-6)
    with pytest.raises(InvalidInput, match="unknown column 'delay'"):
        served.predict(ROWS[["delay"]])
    save_model(estimator, tmp_path / "kept", input_example=ROWS[["distance"]])
    kept = TrainedModel(estimator, directory=tmp_path / "kept")
    np.testing.assert_array_equal(kept.predict(ROWS[["distance"]]), estimator.predict(ROWS[["distance"]]))


def test_people_see_metrics_figures_and_the_mlflow_page(made: Made) -> None:
    metadata = made.metadata(0)
    assert metadata["mae"].value == 1.25
    assert 0 <= float(str(metadata["largest difference as ONNX"].value)) < 1e-4
    for name in ("importance", "residuals"):
        assert str(metadata[f"plot {name}"].value).startswith(f"![{name}](data:image/png;base64,")
    assert isinstance(metadata["MLflow run"], dg.UrlMetadataValue)
    assert metadata["registered model"].value == "models:/delay/1"


def test_unregistered_model_is_in_its_run_alone(made: Made, instance: dg.DagsterInstance) -> None:
    @model()
    def unregistered() -> TrainedModel:
        return delay_model(ROWS, TrainConfig(rounds=1))

    result = dg.materialize([unregistered], instance=instance, resources={STORAGE_KEY: made.storage})
    (event,) = result.asset_materializations_for_node("unregistered")
    record = record_of(event.metadata)
    assert record.mlflow is not None
    assert record.mlflow.registered_model is None
    assert "registered model" not in event.metadata
    assert [each.name for each in made.client.search_registered_models()] == ["delay"]


@pytest.mark.parametrize(
    ("returned", "error", "reason"),
    [
        (5, SchemaError, "expected the function to return a TrainedModel, got int"),
        (TrainedModel(object()), SchemaError, "the TrainedModel has no input example"),
        (TrainedModel(object(), ROWS), DefinitionError, "object"),
    ],
    ids=["another type", "no example", "unknown estimator"],
)
def test_what_cannot_be_kept_fails_its_run_and_names_the_asset(
    made: Made, instance: dg.DagsterInstance, returned: Any, error: type[MlAssetsError], reason: str
) -> None:
    @model(registered_name="refused")
    def refused() -> Any:
        return returned

    with pytest.raises(error, match=f"refused: .*{reason}.* Next: "):
        dg.materialize([refused], instance=instance, resources={STORAGE_KEY: made.storage})
    assert instance.get_latest_materialization_event(refused.key) is None
    (run,) = made.client.search_runs(["1"], f"tags.`{RunTags.ASSET}` = 'refused'", max_results=1)
    assert run.info.status == "FAILED"
    assert "refused" not in [each.name for each in made.client.search_registered_models()]


@pytest.mark.parametrize("name", ["", " ", "\n", "team/flight", "a:b", ".", "..", "..a", "x" * 257])
def test_name_that_mlflow_refuses_is_refused_when_declared(name: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.validation import _validate_model_name

    if len(name) <= 256:  # MLflow's databases have this limit, and its function does not check it.
        with pytest.raises(MlflowException):
            _validate_model_name(name)
    with pytest.raises(DefinitionError, match=r"MLflow does not accept .* as the name of a registered model.* Next: "):
        model(registered_name=name)


@pytest.mark.parametrize("name", ["a", " a b ", "a.b", ".a", "a..b", "é", "x" * 256])
def test_name_that_mlflow_accepts_is_accepted(name: str) -> None:
    from mlflow.utils.validation import _validate_model_name

    _validate_model_name(name)
    assert model(registered_name=name)


def test_metric_that_cannot_be_kept_fails_its_run_and_names_the_asset(made: Made, instance: dg.DagsterInstance) -> None:
    @model()
    def misnamed() -> TrainedModel:
        return TrainedModel(object(), ROWS, metrics={"R2 (%)": 0.9})

    with pytest.raises(
        SchemaError, match=r"misnamed: MLflow does not accept 'R2 \(%\)' as the name of a metric.* Next: "
    ):
        dg.materialize([misnamed], instance=instance, resources={STORAGE_KEY: made.storage})
    (run,) = made.client.search_runs(["1"], f"tags.`{RunTags.ASSET}` = 'misnamed'", max_results=1)
    assert run.info.status == "FAILED"


def test_unreachable_tracking_server_stops_the_step_before_it_trains(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    trained = []

    @model(registered_name="lost")
    def lost() -> TrainedModel:
        trained.append(1)
        return delay_model(ROWS, TrainConfig(rounds=1))

    storage = storage_in(tmp_path, "http://127.0.0.1:1")
    with pytest.raises(TrackingError, match=r"lost: the MLflow server http://127\.0\.0\.1:1 does not answer.* Next: "):
        dg.materialize([lost], instance=instance, resources={STORAGE_KEY: storage})
    assert trained == []
    assert instance.get_latest_materialization_event(lost.key) is None
    assert not (tmp_path / "remote").exists()

"""The reference pipeline in Dagster, on two real months, with real storage."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ml_assets.artifacts.inputs import latest_versions
from ml_assets.artifacts.io_manager import ArtifactStorage
from ml_assets.artifacts.trained_model import TrainedModel
from ml_assets.flight_delays import assets, checks
from ml_assets.flight_delays.assets import GROUP, months
from ml_assets.flight_delays.features import TARGET
from ml_assets.flight_delays.source import FlightSource, read_flights, read_weather
from ml_assets.flight_delays.training import TrainConfig
from ml_assets.resources.provenance import RECORD_METADATA

JANUARY, FEBRUARY = "2013-01-01", "2013-02-01"
CONFIG = {"delay_model": {"config": {"n_estimators": 40, "learning_rate": 0.2}}}


def definitions(resources: dict[str, Any]) -> dg.Definitions:
    return dg.Definitions(
        assets=dg.load_assets_from_modules([assets]),
        asset_checks=dg.load_asset_checks_from_modules([checks]),
        jobs=[dg.define_asset_job("month", selection=dg.AssetSelection.groups(GROUP))],
        resources={"flight_source": FlightSource(), **resources},
    )


def run(
    resources: dict[str, Any], instance: dg.DagsterInstance, partition: str, config: dict[str, Any] = CONFIG
) -> dg.ExecuteInProcessResult:
    return (
        definitions(resources)
        .resolve_job_def("month")
        .execute_in_process(
            partition_key=partition, instance=instance, run_config={"ops": config}, raise_on_error=False
        )
    )


def data_versions(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    found = [event.step_materialization_data.materialization for event in result.get_asset_materialization_events()]
    return {one.asset_key.to_user_string(): (one.tags or {})["dagster/data_version"] for one in found}


def read(storage: ArtifactStorage, instance: dg.DagsterInstance, asset: dg.AssetsDefinition, partition: str) -> Any:
    (entry,) = latest_versions(instance, asset.key, [partition])
    return storage.read(entry)


def test_there_is_a_partition_for_each_month_of_2013() -> None:
    assert months.get_partition_keys() == [f"2013-{month:02}-01" for month in range(1, 13)]


def test_asset_functions_return_plain_values_when_called(both: pd.DataFrame, february: pd.DataFrame) -> None:
    context = dg.build_asset_context(partition_key=FEBRUARY)
    flights = assets.flights(context, flight_source=FlightSource())
    weather = assets.weather(context, flight_source=FlightSource())
    pd.testing.assert_frame_equal(flights, read_flights("2013-02"))
    pd.testing.assert_frame_equal(weather, read_weather("2013-02"))
    pd.testing.assert_frame_equal(assets.departures(flights, weather), february)
    model = assets.delay_model(context, departures=both, config=TrainConfig(n_estimators=2))
    assert isinstance(model, TrainedModel)
    assert len(assets.predictions(model, february)) == len(february)


def test_two_months_run_from_source_to_predictions(
    storage: ArtifactStorage, resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    """One long test, because each month costs seconds: stored data, checks and repeatability."""
    first, second = run(resources, instance, JANUARY), run(resources, instance, FEBRUARY)
    assert first.success
    assert second.success

    # The model of February has read both months and predicts every flight of February.
    model_record = latest_versions(instance, assets.delay_model.key, [FEBRUARY])[0].metadata[RECORD_METADATA]
    read_by_model = [(one["asset"], one["partition"]) for one in model_record["inputs"] if one["loaded"]]
    assert read_by_model == [("departures", JANUARY), ("departures", FEBRUARY)]
    predictions = read(storage, instance, assets.predictions, FEBRUARY)
    assert len(predictions) == len(read_flights("2013-02"))
    assert read(storage, instance, assets.departures, FEBRUARY)[TARGET].isna().sum() == 1261

    # Checks are recorded for the month that they examined.
    found = {check.check_name: check for check in second.get_asset_check_evaluations()}
    assert {check.partition for check in found.values()} == {FEBRUARY}
    assert {name for name, check in found.items() if check.passed} == set(found) - {"weather_schema"}
    assert found["weather_schema"].severity is dg.AssetCheckSeverity.WARN
    assert "previous version: " in (found["model_quality"].description or "")
    assert found["departures_drift"].description == "same distribution as in the previous month"
    earlier = {check.check_name: check for check in first.get_asset_check_evaluations()}
    assert "no previous version" in (earlier["model_quality"].description or "")
    assert earlier["departures_drift"].description == "no previous month to compare with"

    again = run(resources, instance, FEBRUARY)
    assert again.success
    assert data_versions(again) == data_versions(second)
    assert len(data_versions(again)) == 5


def test_model_that_is_no_better_than_the_baseline_stops_its_predictions(
    resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    useless = {"delay_model": {"config": {"n_estimators": 1, "learning_rate": 0.001}}}
    result = run(resources, instance, JANUARY, useless)
    assert not result.success
    assert set(data_versions(result)) == {"flights", "weather", "departures", "delay_model"}
    (quality,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "model_quality"]
    assert not quality.passed
    assert quality.severity is dg.AssetCheckSeverity.ERROR


def test_month_that_breaks_its_schema_stops_before_the_features(
    tmp_path: Path, resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    landing = tmp_path / "landing"
    landing.mkdir()
    broken = read_flights("2013-01").assign(origin="BOS")
    broken.to_csv(landing / "flights-2013-01.csv", index=False)
    read_weather("2013-01").to_csv(landing / "weather-2013-01.csv", index=False)
    result = run({**resources, "flight_source": FlightSource(landing=str(landing))}, instance, JANUARY)
    assert not result.success
    assert set(data_versions(result)) == {"flights", "weather"}
    (failed,) = [one for one in result.get_asset_check_evaluations() if not one.passed]
    assert (failed.check_name, failed.severity) == ("flights_schema", dg.AssetCheckSeverity.ERROR)
    assert "origin: 27,004 of 27,004 rows" in (failed.description or "")


def test_month_that_has_not_arrived_fails_with_what_to_do_next(
    tmp_path: Path, resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    result = run({**resources, "flight_source": FlightSource(landing=str(tmp_path))}, instance, JANUARY)
    (failure,) = [
        one.step_failure_data for one in result.all_events if one.is_step_failure and "flights" in one.step_key
    ]
    assert "has no flights of '2013-01'" in failure.error_display_string
    assert "Next: wait until both files of the month arrive" in failure.error_display_string


@pytest.mark.parametrize("module", ["assets", "checks"])
def test_loading_the_pipeline_imports_no_heavy_library(module: str) -> None:
    program = f"import json, sys; import ml_assets.flight_delays.{module}; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    heavy = {
        "mlflow",
        "dvc",
        "dvc_data",
        "pandera",
        "sklearn",
        "scipy",
        "xgboost",
        "matplotlib",
        "kubernetes",
        "docker",
    }
    assert heavy & set(json.loads(output)) == set()

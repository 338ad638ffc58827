"""The code location of the reference pipeline."""

from pathlib import Path

import dagster as dg
import pytest

from ml_assets.definitions import defs


def test_everything_in_the_code_location_can_be_loaded_and_run() -> None:
    found = defs()
    dg.Definitions.validate_loadable(found)
    repository = found.get_repository_def()
    assert {"flight_delays", "images"} <= set(repository.job_names)
    assert repository.has_schedule_def("nightly_retraining")
    assert {sensor.name for sensor in repository.sensor_defs} >= {
        "ml_assets_alert_on_failure",
        "ml_assets_close_abandoned_mlflow_runs",
    }
    assert found.resolve_job_def("flight_delays").executor_def.name == "multiprocess"


def test_months_arrive_where_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_ASSETS__FLIGHT_DELAYS__LANDING", "arrivals")
    source = (defs().resources or {})["flight_source"]
    assert source.landing == str(Path(__file__).parents[2] / "arrivals")

"""The composition root: what settings choose."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.artifacts.io_manager import STORAGE_KEY
from ml_assets.definitions import content_store, defs, open_instance, registry_client, resources_for, settings
from ml_assets.resources.errors import SettingsError
from ml_assets.resources.settings import Settings, load_settings
from ml_assets.sensors import ALERTS_KEY

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    environment = {
        "DAGSTER_HOME": str(tmp_path / "home"),
        "ML_ASSETS__DVC__REMOTE": "s3://bucket/path",
        "ML_ASSETS__DVC__OPTIONS__ENDPOINTURL": "http://127.0.0.1:9000",
        "ML_ASSETS__DVC__CACHE": str(tmp_path / "cache"),
        "ML_ASSETS__MLFLOW__TRACKING_URI": "https://mlflow.example",
        "ML_ASSETS__MLFLOW__ARTIFACT_LOCATION": "s3://bucket/runs",
        "ML_ASSETS__IMAGES__PLAIN_HTTP": '["mirror:5000"]',
        "ML_ASSETS__IMAGES__DOCKER_CONFIG": str(tmp_path / "config.json"),
        "ML_ASSETS__UI_URL": "https://dagster.example",
        "ML_ASSETS__ALERTS__WEBHOOK": "https://chat.example/hook",
        "ML_ASSETS__FLIGHT_DELAYS__LANDING": "arrivals",
        "OMP_NUM_THREADS": "2",
    }
    return load_settings(environment, PROJECT)


def test_settings_reach_the_resources(chosen: Settings, tmp_path: Path) -> None:
    resources = resources_for(chosen)
    artifacts, source = resources[STORAGE_KEY], resources["flight_source"]
    assert artifacts.store.remote == "s3://bucket/path"
    assert artifacts.store.options == {"endpointurl": "http://127.0.0.1:9000"}
    assert artifacts.store.cache == str(tmp_path / "cache")
    assert artifacts.tracking.tracking_uri == "https://mlflow.example"
    assert artifacts.tracking.artifact_location == "s3://bucket/runs"
    assert (artifacts.target, artifacts.addresses.dagster) == ("local", "https://dagster.example")
    assert artifacts.thread_variables == {"OMP_NUM_THREADS": "2"}
    assert resources[ALERTS_KEY].webhook == "https://chat.example/hook"
    assert source.landing == str(PROJECT / "arrivals")


def test_local_target_keeps_everything_below_the_project() -> None:
    local = load_settings({}, PROJECT)
    resources = resources_for(local)
    assert content_store(local).remote == str(PROJECT / "var" / "local" / "remote")
    assert resources[STORAGE_KEY].tracking.tracking_uri == f"sqlite:///{PROJECT}/var/local/mlflow/mlflow.db"


def test_settings_reach_the_client_of_registries(chosen: Settings, tmp_path: Path) -> None:
    client = vars(registry_client(chosen))
    assert client["_plain_http"] == {"mirror:5000"}
    assert client["_docker_config"] == tmp_path / "config.json"


def test_home_gets_the_targets_dagster_yaml_and_keeps_it(chosen: Settings, tmp_path: Path) -> None:
    file = tmp_path / "home" / "dagster.yaml"
    with open_instance(chosen) as instance:
        assert instance.run_monitoring_enabled
        assert file.read_text() == (PROJECT / "deployments" / "local" / "dagster.yaml").read_text()
    file.write_text("telemetry:\n  enabled: false\n")
    with open_instance(chosen) as instance:
        assert not instance.run_monitoring_enabled
    assert [path.name for path in (tmp_path / "home").glob(".dagster.yaml.*")] == []


def test_home_without_a_right_dagster_yaml_is_told(chosen: Settings, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetri: 1\n")
    with pytest.raises(SettingsError, match=r"home/dagster\.yaml is wrong: .* Next: correct the file"):
        open_instance(chosen)


def test_everything_in_the_code_location_can_be_loaded_and_run() -> None:
    found = defs()
    dg.Definitions.validate_loadable(found)
    repository = found.get_repository_def()
    assert {"flight_delays", "images"} <= set(repository.job_names)
    assert repository.has_schedule_def("nightly_retraining")
    assert {sensor.name for sensor in repository.sensor_defs} >= {"alert_on_failure", "close_abandoned_mlflow_runs"}
    assert found.resolve_job_def("flight_delays").executor_def.name == "multiprocess"


def test_target_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_ASSETS_TARGET", "moon")
    with pytest.raises(SettingsError, match="ML_ASSETS_TARGET is 'moon'"):
        settings()


def test_environment_is_not_read_at_import() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import ml_assets.definitions"],
        env=os.environ | {"ML_ASSETS_TARGET": "moon"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

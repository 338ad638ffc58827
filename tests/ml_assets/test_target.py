"""The library's root: the effect of settings, objects created once, and resources for definitions."""

import os
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

import ml_assets as ml
from ml_assets.artifacts.io_manager import STORAGE_KEY
from ml_assets.reproduction.job import JOB_NAME
from ml_assets.resources.errors import DefinitionError, MissingPackage, SettingsError
from ml_assets.resources.extras import EXTRAS
from ml_assets.resources.settings import load_settings
from ml_assets.sensors import REMOVE_LEFTOVERS
from ml_assets.target import Target, on_target

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def target(tmp_path: Path) -> Target:
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
        "OMP_NUM_THREADS": "2",
    }
    return Target(load_settings(environment, PROJECT))


def test_settings_reach_the_resources(target: Target, tmp_path: Path) -> None:
    resources = target.resources
    artifacts = resources[STORAGE_KEY]
    assert artifacts.store.remote == "s3://bucket/path"
    assert artifacts.store.options == {"endpointurl": "http://127.0.0.1:9000"}
    assert artifacts.store.cache == str(tmp_path / "cache")
    assert artifacts.tracking.tracking_uri == "https://mlflow.example"
    assert artifacts.tracking.artifact_location == "s3://bucket/runs"
    assert (artifacts.target, artifacts.addresses.dagster) == ("local", "https://dagster.example")
    assert artifacts.thread_variables == {"OMP_NUM_THREADS": "2"}


def test_local_target_keeps_everything_below_the_project() -> None:
    local = Target(load_settings({}, PROJECT))
    assert local.store.remote == str(PROJECT / "var" / "local" / "remote")
    assert local.tracking.tracking_uri == f"sqlite:///{PROJECT}/var/local/mlflow/mlflow.db"


def test_settings_reach_the_client_of_registries(target: Target, tmp_path: Path) -> None:
    client = vars(target.registry_client)
    assert client["_plain_http"] == {"mirror:5000"}
    assert client["_docker_config"] == tmp_path / "config.json"


def test_home_gets_the_targets_dagster_yaml_and_keeps_it(target: Target, tmp_path: Path) -> None:
    file = tmp_path / "home" / "dagster.yaml"
    with target:
        assert target.instance.run_monitoring_enabled
        assert file.read_text() == (PROJECT / "deployments" / "local" / "dagster.yaml").read_text()
    file.write_text("telemetry:\n  enabled: false\n")
    with target:
        assert not target.instance.run_monitoring_enabled
    assert [path.name for path in (tmp_path / "home").glob(".dagster.yaml.*")] == []


def test_each_part_is_made_once_and_the_instance_opens_again_after_it_was_closed(target: Target) -> None:
    assert target.store is target.store
    assert target.resources[STORAGE_KEY].store == target.store
    with target:
        first, lineage = target.instance, target.lineage
        assert target.instance is first
    with target:
        assert target.instance is not first
        assert target.lineage is not lineage


def test_a_targets_settings_cannot_be_exchanged(target: Target) -> None:
    with pytest.raises(FrozenInstanceError):
        target.settings = load_settings({}, PROJECT)  # type: ignore[misc]


def test_definitions_get_what_the_target_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ML_ASSETS_TARGET", raising=False)
    bound = on_target(dg.Definitions(assets=[dg.AssetSpec("external")]))
    assert set(bound.resources or {}) == {STORAGE_KEY}
    assert bound.resolve_job_def(JOB_NAME).executor_def.name == "multiprocess"
    assert [key.to_user_string() for key in bound.resolve_all_asset_keys()] == ["external"]


def containers(tmp_path: Path) -> Target:
    return Target(load_settings({"ML_ASSETS_TARGET": "docker", "DAGSTER_HOME": str(tmp_path / "home")}, PROJECT))


@dg.op
def work() -> None: ...


@dg.job
def reproduce() -> None:
    work()


@dg.sensor()
def alert_on_failure() -> dg.SkipReason:
    return dg.SkipReason("nothing to do")


class Alerts(dg.ConfigurableResource[None]):
    webhook: str = ""


def test_a_projects_own_parts_of_similar_names_are_kept(target: Target) -> None:
    own = dg.Definitions(
        assets=[dg.AssetSpec("external")],
        jobs=[reproduce],
        sensors=[alert_on_failure],
        resources={"alerts": Alerts(), "artifacts": 1, "io_manager": dg.mem_io_manager},
        executor=dg.in_process_executor,
    )
    bound = target.bind(own)
    dg.Definitions.validate_loadable(bound)
    repository = bound.get_repository_def()
    assert {"reproduce", JOB_NAME} <= set(repository.job_names)
    assert {"alert_on_failure", "ml_assets_alert_on_failure"} <= {sensor.name for sensor in repository.sensor_defs}
    assert bound.resolve_job_def(JOB_NAME).executor_def is dg.in_process_executor
    assert set(bound.resources or {}) == {"alerts", "artifacts", "io_manager", STORAGE_KEY}


def test_each_part_can_be_left_out(target: Target, tmp_path: Path) -> None:
    names = [JOB_NAME, *(sensor.name for sensor in target.sensors), STORAGE_KEY, "executor", REMOVE_LEFTOVERS]
    bound = target.bind(dg.Definitions(assets=[dg.AssetSpec("external")]), without=names)
    assert (list(bound.jobs or ()), list(bound.sensors or ()), dict(bound.resources or {})) == ([], [], {})
    assert bound.executor is None
    images = dg.Definitions(assets=[ml.container_image(n, dockerfile="D", sources=["x"]) for n in ("builder", "train")])
    in_containers = containers(tmp_path).bind(images, without=[REMOVE_LEFTOVERS])
    assert REMOVE_LEFTOVERS not in {sensor.name for sensor in in_containers.sensors or ()}


@pytest.mark.parametrize(
    ("without", "message"),
    [
        (["reproduce"], rf"without names 'reproduce', which no target adds \(did you mean .*{JOB_NAME}.*\?\)"),
        ("executor", r"without is the text 'executor'\. Next: pass a list"),
    ],
)
def test_a_part_that_no_target_adds_is_refused(target: Target, without: list[str], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        target.bind(dg.Definitions(), without=without)


@dg.job(name=JOB_NAME)
def colliding() -> None:
    work()


@dg.schedule(name="ml_assets_alert_on_failure", cron_schedule="0 0 * * *", job=reproduce)
def colliding_schedule() -> dg.SkipReason:
    return dg.SkipReason("nothing to do")


@pytest.mark.parametrize(
    ("definitions", "message"),
    [
        (dg.Definitions(jobs=[colliding]), rf"a job {JOB_NAME}, .* without=\['{JOB_NAME}'\]"),
        (dg.Definitions(schedules=[colliding_schedule]), "a sensor ml_assets_alert_on_failure, which"),
        (dg.Definitions(resources={STORAGE_KEY: 1}), f"a resource {STORAGE_KEY}, which .* call on_target once"),
    ],
)
def test_a_collision_says_what_to_do(target: Target, definitions: dg.Definitions, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        target.bind(definitions)


def test_definitions_are_bound_once(target: Target) -> None:
    with pytest.raises(DefinitionError, match="Next: call on_target once, on all definitions of the code location"):
        target.bind(target.bind(dg.Definitions()))


def test_an_executor_beside_containers_is_refused_unless_it_is_kept_on_purpose(tmp_path: Path) -> None:
    images = [ml.container_image(name, dockerfile="D", sources=["x"]) for name in ("builder", "train")]
    own = dg.Definitions(assets=images, executor=dg.in_process_executor)
    with pytest.raises(DefinitionError, match=r"target docker runs steps in containers\. Next: remove executor="):
        containers(tmp_path).bind(own)
    assert containers(tmp_path).bind(own, without=["executor"]).executor is dg.in_process_executor


def test_a_projects_io_managers_go_on_working_beside_ours(
    target: Target, resources: dict[str, object], instance: dg.DagsterInstance
) -> None:
    @dg.asset
    def plain() -> int:
        return 2

    @ml.dataset
    def ours(plain: int) -> pd.DataFrame:
        return pd.DataFrame({"x": [plain]})

    @dg.asset(io_manager_key="second")
    def after(ours: pd.DataFrame) -> int:
        return int(ours["x"].sum()) + 1

    own = {"io_manager": dg.mem_io_manager, "second": dg.InMemoryIOManager()}
    bound = target.bind(dg.Definitions(assets=[plain, ours, after], resources=own), without=[STORAGE_KEY])
    whole = dg.Definitions.merge(bound, dg.Definitions(resources=resources))
    result = whole.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance)
    assert (result.output_for_node("plain"), result.output_for_node("after")) == (2, 3)


def test_home_without_a_right_dagster_yaml_is_told(target: Target, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetri: 1\n")
    with pytest.raises(SettingsError, match=r"home/dagster\.yaml is invalid: .* Next: correct the file"):
        _ = target.instance


def test_home_that_dagster_would_write_elsewhere_is_refused(target: Target, tmp_path: Path) -> None:
    home = tmp_path / "a?b" / "home"
    settings = target.settings.model_copy(update={"home": str(home)})
    with pytest.raises(SettingsError, match=r"contains a question mark.*Next: set home"):
        _ = Target(settings).instance
    assert not (tmp_path / "a").exists()


def test_package_that_the_homes_dagster_yaml_needs_is_told_with_its_extra(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXTRAS, "no_launcher", "docker")  # type: ignore[arg-type]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("run_launcher:\n  module: no_launcher\n  class: Launcher\n")
    with pytest.raises(
        MissingPackage, match=r"no_launcher is not installed. Next: run pip install 'ml-assets\[docker\]'"
    ):
        _ = target.instance


def test_target_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_ASSETS_TARGET", "moon")
    with pytest.raises(SettingsError, match="ML_ASSETS_TARGET is 'moon'"):
        Target.from_environment()


def test_environment_is_not_read_at_import() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import ml_assets.definitions"],
        env=os.environ | {"ML_ASSETS_TARGET": "moon"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

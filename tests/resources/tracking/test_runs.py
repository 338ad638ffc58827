import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dagster import DagsterExecutionInterruptedError

from ml_assets.resources.errors import SettingsError, TrackingError
from ml_assets.resources.models.flavors import save_model
from ml_assets.resources.provenance import InputVersion
from ml_assets.resources.sqlite_url import sqlite_url
from ml_assets.resources.tracking.runs import MlflowTracking
from ml_assets.resources.tracking.tags import RunTags
from tests.mlflow_server import Server
from tests.ports import free_port

TAGS = {
    RunTags.ASSET: "delay_model",
    RunTags.PARTITION: "2013-03",
    RunTags.DAGSTER_RUN: "11112222",
    RunTags.DAGSTER_STEP: "delay_model",
    RunTags.ATTEMPT: "0",
}
# Runs in its own process: opens a run, prints its id and waits to be killed.
HANG = """
import sys
from ml_assets.resources.tracking.runs import MlflowTracking
from tests.resources.tracking.test_runs import TAGS
with MlflowTracking(tracking_uri=sys.argv[1], experiment="flights").run(name="x", tags=TAGS, parameters={}) as run:
    print(run.identity.run_id, flush=True)
    sys.stdin.read()
"""
# Opens a run on request.
OPEN = """
import sys
import mlflow.store.tracking.sqlalchemy_store
from ml_assets.resources.tracking.runs import MlflowTracking
from tests.resources.tracking.test_runs import TAGS
print("ready", flush=True)
sys.stdin.readline()
with MlflowTracking(tracking_uri=sys.argv[1], experiment="flights").run(name="x", tags=TAGS, parameters={"a": 1}):
    pass
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, **pipes)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def server(mlflow_server: Server) -> Server:
    return mlflow_server


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/deep/er/mlflow.db"


@pytest.fixture
def tracking(database: str) -> MlflowTracking:
    return MlflowTracking(tracking_uri=database, experiment="flights", ui_url="http://ui.example/")


@pytest.fixture(params=["database", "server"])
def any_tracking(request: pytest.FixtureRequest) -> MlflowTracking:
    store = request.getfixturevalue(request.param)
    uri = store if isinstance(store, str) else store.uri
    return MlflowTracking(tracking_uri=uri, experiment="flights", ui_url="http://ui.example/")


def client_of(tracking: MlflowTracking) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking.tracking_uri, tracking.tracking_uri)


def one_run(tracking: MlflowTracking, parameters: Mapping[str, Any] | None = None, **tags: str) -> str:
    with tracking.run(name="delay_model", tags={**TAGS, **tags}, parameters=parameters or {}) as run:
        pass
    return run.identity.run_id


def test_run_that_succeeds_is_finished_and_names_its_page(any_tracking: MlflowTracking) -> None:
    with any_tracking.run(name="delay_model", tags=TAGS, parameters={"rounds": 5, "tree": {"depth": 3}}) as run:
        run.log_metrics({"rmse": 12.5})
        run.set_tags({RunTags.DATA_VERSION: "md5:0"})
    recorded = client_of(any_tracking).get_run(run.identity.run_id)
    assert recorded.info.status == "FINISHED"
    assert recorded.info.run_name == "delay_model"
    assert recorded.data.params == {"rounds": "5", "tree.depth": "3"}
    assert recorded.data.metrics == {"rmse": 12.5}
    assert TAGS.items() <= recorded.data.tags.items()
    assert recorded.data.tags[RunTags.DATA_VERSION] == "md5:0"
    assert json.loads(recorded.data.tags[RunTags.PROCESS])["pid"] == os.getpid()
    page = f"http://ui.example/#/experiments/{recorded.info.experiment_id}/runs/{recorded.info.run_id}"
    assert run.identity.url == page


def test_address_of_the_server_is_not_printed(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    tracking = MlflowTracking(tracking_uri=server.uri.replace("//", "//ann:secret@"), experiment="flights")
    with tracking.run(name="x", tags=TAGS, parameters={}) as run:
        elsewhere = json.loads(run.tags[RunTags.PROCESS]) | {"started": "1"}
        run.set_tags({RunTags.PROCESS: json.dumps(elsewhere)})
        assert tracking.close_abandoned(lambda tags: False) == [run.identity.run_id]
    assert run.identity.tracking_uri == server.uri
    printed = capfd.readouterr()
    assert "secret" not in printed.out + printed.err


def test_run_that_fails_is_failed_and_says_why(any_tracking: MlflowTracking) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        any_tracking.run(name="delay_model", tags=TAGS, parameters={}) as run,
    ):
        raise ZeroDivisionError("no flights")
    recorded = client_of(any_tracking).get_run(run.identity.run_id)
    assert recorded.info.status == "FAILED"
    assert recorded.data.tags["mlflow.note.content"] == "ZeroDivisionError: no flights"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, DagsterExecutionInterruptedError, SystemExit])
def test_run_that_is_interrupted_is_killed(tracking: MlflowTracking, interruption: type[BaseException]) -> None:
    with (
        pytest.raises(interruption),
        tracking.run(name="delay_model", tags=TAGS, parameters={}) as run,
    ):
        raise interruption
    assert client_of(tracking).get_run(run.identity.run_id).info.status == "KILLED"


def test_functions_of_mlflow_record_in_the_run(any_tracking: MlflowTracking) -> None:
    import mlflow

    with any_tracking.run(name="delay_model", tags=TAGS, parameters={}) as run:
        mlflow.log_metric("loss", 1.0)
        mlflow.log_param("solver", "own")
        with mlflow.start_run(nested=True) as child:
            mlflow.log_metric("fold", 1.0)
    client = client_of(any_tracking)
    assert client.get_run(run.identity.run_id).data.metrics == {"loss": 1.0}
    assert client.get_run(run.identity.run_id).data.params == {"solver": "own"}
    assert client.get_run(child.info.run_id).info.experiment_id == run.identity.experiment_id


def test_functions_of_mlflow_point_afterwards_where_they_did_before(tracking: MlflowTracking, tmp_path: Path) -> None:
    import mlflow

    before = f"sqlite:///{tmp_path}/other.db"
    mlflow.set_tracking_uri(before)
    mlflow.set_experiment("other")
    try:
        one_run(tracking)
        assert mlflow.get_tracking_uri() == before
        assert mlflow.active_run() is None
        with mlflow.start_run() as run:
            assert mlflow.get_experiment_by_name("other").experiment_id == run.info.experiment_id
    finally:
        mlflow.set_tracking_uri(None)
        mlflow.tracking.fluent._active_experiment_id = None
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)


def test_run_that_the_step_left_open_or_ended_itself_gets_the_steps_status(tracking: MlflowTracking) -> None:
    import mlflow

    with pytest.raises(ValueError, match="bad"), tracking.run(name="x", tags=TAGS, parameters={}) as ended:  # noqa: PT012
        mlflow.end_run()
        raise ValueError("bad")
    with tracking.run(name="x", tags=TAGS, parameters={}):
        child = mlflow.start_run(nested=True)
    assert client_of(tracking).get_run(ended.identity.run_id).info.status == "FAILED"
    assert client_of(tracking).get_run(child.info.run_id).info.status == "FINISHED"
    assert mlflow.active_run() is None


def test_step_killed_outright_is_closed_as_killed_and_others_are_left(any_tracking: MlflowTracking) -> None:
    with any_tracking.run(name="alive", tags=TAGS, parameters={}) as alive:
        step = start(HANG, any_tracking.tracking_uri)
        assert step.stdout is not None
        run_id = step.stdout.readline().strip()
        assert run_id not in any_tracking.close_abandoned(lambda tags: False)
        step.kill()
        # Even before its parent reaps it, an ended process counts as gone.
        os.waitid(os.P_PID, step.pid, os.WEXITED | os.WNOWAIT)
        assert any_tracking.close_abandoned(lambda tags: False) == [run_id]
        step.communicate()
        assert any_tracking.close_abandoned(lambda tags: False) == []
        assert client_of(any_tracking).get_run(run_id).info.status == "KILLED"
        assert client_of(any_tracking).get_run(alive.identity.run_id).info.status == "RUNNING"


def test_run_of_a_dagster_run_that_ended_is_closed_wherever_its_process_was(tracking: MlflowTracking) -> None:
    with tracking.run(name="lost", tags=TAGS, parameters={}) as run:
        elsewhere = json.loads(run.tags[RunTags.PROCESS]) | {"host": "another", "pid": 999_999}
        run.set_tags({RunTags.PROCESS: json.dumps(elsewhere)})
        assert tracking.close_abandoned(lambda tags: False) == []
        assert tracking.close_abandoned(lambda tags: tags[RunTags.DAGSTER_RUN] == "11112222") == [run.identity.run_id]


def test_no_database_has_no_abandoned_run_and_none_is_made(tmp_path: Path) -> None:
    tracking = MlflowTracking(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="flights")
    assert tracking.close_abandoned(lambda tags: True) == []
    assert list(tmp_path.iterdir()) == []


def test_retry_names_the_attempt_that_it_repeats_and_closes_it(any_tracking: MlflowTracking) -> None:
    step = start(HANG, any_tracking.tracking_uri)
    assert step.stdout is not None
    first = step.stdout.readline().strip()
    step.kill()
    step.communicate()
    second = one_run(any_tracking, **{RunTags.ATTEMPT: "1"})
    third = one_run(any_tracking, **{RunTags.ATTEMPT: "2"})
    other_partition = one_run(any_tracking, **{RunTags.ATTEMPT: "2", RunTags.PARTITION: "2013-04"})
    client = client_of(any_tracking)
    assert client.get_run(first).info.status == "KILLED"
    assert client.get_run(second).data.tags[RunTags.REPEATS] == first
    assert client.get_run(third).data.tags[RunTags.REPEATS] == second
    assert RunTags.REPEATS not in client.get_run(other_partition).data.tags


def test_a_re_execution_names_the_last_attempt_of_the_run_that_it_repeats(tracking: MlflowTracking) -> None:
    one_run(tracking, **{RunTags.DAGSTER_RUN: "first-run"})
    last = one_run(tracking, **{RunTags.DAGSTER_RUN: "first-run", RunTags.ATTEMPT: "1"})
    again = one_run(tracking, **{RunTags.DAGSTER_RUN: "second-run", RunTags.DAGSTER_PARENT_RUN: "first-run"})
    assert client_of(tracking).get_run(again).data.tags[RunTags.REPEATS] == last


def test_two_processes_that_make_the_database_at_once_both_record(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    processes = [start(OPEN, uri) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    client = client_of(MlflowTracking(tracking_uri=uri, experiment="flights"))
    experiment = client.get_experiment_by_name("flights")
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FINISHED", "FINISHED"]
    assert experiment.artifact_location == f"{tmp_path}/new/artifacts"


def test_runs_and_their_artifacts_stay_in_a_folder_of_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "a b#1 c%20d"
    tracking = MlflowTracking(
        tracking_uri=sqlite_url(folder / "mlflow.db"),
        experiment="flights",
        artifact_location=str(folder / "other?1%20#artifacts"),
    )
    run_id = one_run(tracking)
    client_of(tracking).log_text(run_id, "text", "note.txt")
    assert list(tmp_path.iterdir()) == [folder]
    assert [file.read_text() for file in (folder / "other?1%20#artifacts").rglob("note.txt")] == ["text"]


def test_database_left_unfinished_by_a_killed_process_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db.unfinished").write_bytes(b"half of a database")
    assert one_run(MlflowTracking(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="flights"))


def test_parameters_beyond_mlflows_limits_are_kept_whole_in_an_artifact(any_tracking: MlflowTracking) -> None:
    parameters = {f"p{number}": number for number in range(250)} | {"long": "é" * 7000, "a?b": 1, "list": [1, 2]}
    with any_tracking.run(name="many", tags=TAGS, parameters=parameters) as run:
        pass
    client = client_of(any_tracking)
    recorded = client.get_run(run.identity.run_id).data.params
    assert len(recorded) == 253
    assert recorded["p249"] == "249"
    assert recorded["list"] == "[1, 2]"
    assert recorded["long"] == "é" * 5999 + "…"
    whole = Path(client.download_artifacts(run.identity.run_id, "parameters.json")).read_text()
    assert json.loads(whole) == parameters


def test_parameter_that_has_another_value_already_keeps_it_and_fails_nothing(tracking: MlflowTracking) -> None:
    import mlflow

    with tracking.run(name="twice", tags=TAGS, parameters={"depth": 3}) as run:
        mlflow.log_param("solver", "own")
        run.log_parameters({"depth": 4, "solver": "other", "rounds": 5})
    client = client_of(tracking)
    assert client.get_run(run.identity.run_id).data.params == {"depth": "3", "solver": "own", "rounds": "5"}
    whole = Path(client.download_artifacts(run.identity.run_id, "parameters.json")).read_text()
    assert json.loads(whole) == {"depth": 4, "solver": "other", "rounds": 5}


def test_inputs_are_datasets_that_hold_the_whole_version(any_tracking: MlflowTracking) -> None:
    versions = [
        InputVersion(asset="flights", partition="2013-01", data_version="md5:" + "a" * 32, storage_id=7, run_id="r"),
        InputVersion(asset="weather", data_version="sha256:" + "b" * 64),
        InputVersion(asset="images/train", data_version="v" * 100, loaded=False),
    ]
    with any_tracking.run(name="inputs", tags=TAGS, parameters={}) as run:
        run.log_inputs(versions)
    logged = client_of(any_tracking).get_run(run.identity.run_id).inputs.dataset_inputs
    by_name = {entry.dataset.name: entry for entry in logged}
    assert sorted(by_name) == ["flights@2013-01", "images/train", "weather"]
    assert by_name["flights@2013-01"].dataset.digest == "a" * 32
    assert by_name["weather"].dataset.digest == "b" * 36
    assert json.loads(by_name["weather"].dataset.source)["data_version"] == "sha256:" + "b" * 64
    tags = {tag.key: tag.value for tag in by_name["flights@2013-01"].tags}
    assert tags["mlflow.data.context"] == "input"
    assert tags["ml_assets.storage_id"] == "7"


def test_value_that_mlflow_refuses_is_not_blamed_on_the_store(any_tracking: MlflowTracking) -> None:
    with (
        any_tracking.run(name="misnamed", tags=TAGS, parameters={}) as run,
        pytest.raises(TrackingError, match=r"R2 \(%\)") as refused,
    ):
        run.log_metrics({"R2 (%)": 0.9})
    assert refused.value.next_step == "correct the value, and run again"


def test_figures_are_artifacts_of_the_run(any_tracking: MlflowTracking) -> None:
    from matplotlib.figure import Figure

    with any_tracking.run(name="figures", tags=TAGS, parameters={}) as run:
        run.log_figures({"residuals": Figure(), "importance": b"\x89PNG\r\n\x1a\n"})
    client = client_of(any_tracking)
    paths = [item.path for item in client.list_artifacts(run.identity.run_id, "figures")]
    assert sorted(paths) == ["figures/importance.png", "figures/residuals.png"]
    assert Path(client.download_artifacts(run.identity.run_id, paths[0])).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("library", ["xgboost", "sklearn"])
def test_registered_model_predicts_the_same_and_links_to_its_data(
    any_tracking: MlflowTracking, library: str, tmp_path: Path
) -> None:
    import mlflow
    import xgboost
    from sklearn.ensemble import RandomForestRegressor

    random = np.random.default_rng(0)
    rows = pd.DataFrame({"distance": random.integers(100, 3000, 50), "wind": random.normal(size=50)})
    estimator = (
        xgboost.XGBRegressor(n_estimators=3) if library == "xgboost" else RandomForestRegressor(3, random_state=0)
    )
    estimator.fit(rows, rows.wind)
    saved = save_model(estimator, tmp_path / "model", input_example=rows)
    name = f"flight-delay-{library}"
    with any_tracking.run(name="model", tags=TAGS, parameters={"long": "x" * 7000}) as run:
        run.set_tags({RunTags.DATA_VERSION: "md5:" + "a" * 32})
        registered, version = run.log_model(saved, name)
    assert (registered, version) == (name, "1")
    recorded = client_of(any_tracking).get_model_version(name, "1")
    assert recorded.tags[RunTags.DATA_VERSION] == "md5:" + "a" * 32
    assert recorded.run_id == run.identity.run_id
    mlflow.set_tracking_uri(any_tracking.tracking_uri)
    try:
        loaded = mlflow.pyfunc.load_model(f"models:/{name}/1")
        np.testing.assert_array_equal(loaded.predict(rows), estimator.predict(rows))
        assert loaded.metadata.signature.inputs.input_names() == ["distance", "wind"]
        assert loaded.input_example is not None
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/1", dst_path=str(tmp_path / "copy")))
        assert f"{'xgboost' if library == 'xgboost' else 'skops'}" in (folder / "requirements.txt").read_text()
        weights = "model.ubj" if library == "xgboost" else "model.skops"
        assert (folder / weights).read_bytes() == (saved.directory / weights).read_bytes()
    finally:
        mlflow.set_tracking_uri(None)


def test_model_without_a_registered_name_is_logged_alone(tracking: MlflowTracking, tmp_path: Path) -> None:
    from sklearn.linear_model import Ridge

    rows = pd.DataFrame({"wind": [1.0, 2.0, 3.0]})
    saved = save_model(Ridge().fit(rows, rows.wind), tmp_path, input_example=rows)
    with tracking.run(name="model", tags=TAGS, parameters={}) as run:
        assert run.log_model(saved, None) == (None, None)
    assert len(client_of(tracking).get_run(run.identity.run_id).outputs.model_outputs) == 1


def test_logging_a_model_does_not_read_the_metadata_of_every_package(
    tracking: MlflowTracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.utils import requirements_utils
    from sklearn.linear_model import Ridge

    rows = pd.DataFrame({"wind": [1.0, 2.0, 3.0]})
    saved = save_model(Ridge().fit(rows, rows.wind), tmp_path, input_example=rows)
    monkeypatch.setattr(requirements_utils, "_MODULES_TO_PACKAGES", None)
    monkeypatch.setattr("importlib_metadata.packages_distributions", lambda: pytest.fail("it did"))
    with tracking.run(name="model", tags=TAGS, parameters={}) as run:
        run.log_model(saved, None)
    assert requirements_utils._MODULES_TO_PACKAGES is None, "what reads them elsewhere still does"


def test_server_that_does_not_answer_is_an_error_that_hides_the_password() -> None:
    tracking = MlflowTracking(
        tracking_uri=f"http://ann:secret@127.0.0.1:{free_port('127.0.0.1')}", experiment="flights"
    )
    for act in (lambda: one_run(tracking), lambda: tracking.close_abandoned(lambda tags: True)):
        with pytest.raises(TrackingError, match="does not answer") as caught:
            act()
        assert "secret" not in str(caught.value)


def test_server_that_is_not_mlflow_is_an_error(tmp_path: Path) -> None:
    port = free_port()
    command = [
        sys.executable,
        "-u",
        "-m",
        "http.server",
        str(port),
        "--bind",
        "127.0.0.1",
        "--directory",
        str(tmp_path),
    ]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert other.stdout is not None
        assert "Serving HTTP" in other.stdout.readline()
        with pytest.raises(TrackingError, match="answers with status 404"):
            one_run(MlflowTracking(tracking_uri=f"http://127.0.0.1:{port}", experiment="flights"))
    finally:
        other.kill()
        other.communicate()


def test_server_that_dies_during_a_step_is_named_and_the_run_is_closed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    server = Server(tmp_path)
    tracking = MlflowTracking(tracking_uri=server.uri, experiment="flights")
    try:
        with (  # noqa: PT012
            pytest.raises(TrackingError, match="does not answer"),
            tracking.run(name="x", tags=TAGS, parameters={}) as run,
        ):
            server.stop()
            mlflow.log_metric("loss", 1.0)
    finally:
        server.stop()
    assert mlflow.active_run() is None
    survivor = MlflowTracking(tracking_uri=f"sqlite:///{tmp_path}/server.db", experiment="flights")
    assert survivor.close_abandoned(lambda tags: True) == [run.identity.run_id]


def test_database_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrackingError, match="the MLflow operation failed"):
        one_run(MlflowTracking(tracking_uri=f"sqlite:///{tmp_path}/file/mlflow.db", experiment="flights"))


def test_deleted_experiment_is_an_error_that_says_how_to_restore_it(tmp_path: Path) -> None:
    tracking = MlflowTracking(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="flights")
    one_run(tracking)
    client_of(tracking).delete_experiment(client_of(tracking).get_experiment_by_name("flights").experiment_id)
    with pytest.raises(TrackingError, match="experiments restore"):
        one_run(tracking)


@pytest.mark.parametrize("uri", ["sqlite:///relative.db", "mlruns", "postgresql://host/db", "http://", ""])
def test_address_that_is_no_store_is_refused(uri: str) -> None:
    with pytest.raises(SettingsError, match="tracking_uri must be"):
        MlflowTracking(tracking_uri=uri, experiment="flights")

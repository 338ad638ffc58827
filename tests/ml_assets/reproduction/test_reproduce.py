"""Reproduction in the current process, on a real instance, store and MLflow."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import pandas as pd
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository
from mlflow import MlflowClient

from ml_assets.artifacts.io_manager import ArtifactStorage
from ml_assets.datasets import dataset
from ml_assets.features import feature_set
from ml_assets.models import TrainedModel, model
from ml_assets.multi import multi_asset
from ml_assets.reproduction.job import JOB_NAME, OP_NAME, REFUSAL_METADATA, reproduction_job
from ml_assets.reproduction.reproduce import reproduce
from ml_assets.reproduction.request import ReproductionRequest
from ml_assets.reproduction.verdict import Outcome, Verdict
from ml_assets.resources.errors import ReproductionRefused
from ml_assets.resources.provenance import RECORD_METADATA, REPRODUCTION_METADATA, record_of
from ml_assets.resources.tracking.tags import RunTags

regions = dg.DynamicPartitionsDefinition(name="regions")
days = dg.DailyPartitionsDefinition(start_date="2026-01-01")
FACTOR = {"scale": 1.0, "noise": 0.0}
"""Hidden dependencies of functions, which real functions should not have."""


class Scale(dg.Config):
    by: int = 2


@dataset(partitions_def=regions)
def numbers(context: dg.AssetExecutionContext) -> pd.DataFrame:
    start = len(context.instance.fetch_materializations(context.asset_key, limit=10).records)
    return pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "start": start})


@feature_set(ins={"numbers": dg.AssetIn(partition_mapping=dg.AllPartitionMapping())})
def scaled(numbers: dict[str, pd.DataFrame], config: Scale) -> pd.DataFrame:
    frame = pd.concat(numbers.values(), ignore_index=True)
    return frame.assign(y=frame["x"] * config.by * FACTOR["scale"] + FACTOR["noise"])


@feature_set(check_specs=[dg.AssetCheckSpec("is_positive", asset="checked")])
def checked(scaled: pd.DataFrame) -> dg.MaterializeResult:  # type: ignore[type-arg]
    result = dg.AssetCheckResult(passed=True)
    return dg.MaterializeResult(value=scaled, check_results=[result])


@model(registered_name="line")
def line(scaled: pd.DataFrame) -> TrainedModel:
    import mlflow
    from sklearn.linear_model import LinearRegression

    mlflow.log_metric("logged by hand", 1.0)
    estimator = LinearRegression().fit(scaled[["x"]], scaled["y"])
    return TrainedModel(estimator, scaled[["x"]], {"slope": float(estimator.coef_[0])})


@dg.asset_check(asset=scaled)
def counts() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset
def plain() -> int:
    return 1


@feature_set()
def of_plain(plain: int) -> pd.DataFrame:
    return pd.DataFrame({"plain": [plain]})


@multi_asset(outs={"evens": dataset(), "trend": model()})
def split(scaled: pd.DataFrame) -> tuple[pd.DataFrame, TrainedModel]:
    return scaled[scaled["x"] % 2 == 0].reset_index(drop=True), line(scaled)


@dataset()
def started() -> pd.DataFrame:
    return pd.read_csv(Path(os.environ["START_OF_TEST"]))


ASSETS = [numbers, scaled, checked, line, plain, of_plain, split, started]


@dataclass
class Scene:
    """Assets on an instance, and their materializations."""

    current: ClassVar[dg.Definitions]

    instance: dg.DagsterInstance
    storage: ArtifactStorage
    definitions: dg.Definitions

    def make(self, *names: str, partition: str | None = None, config: dict[str, Any] | None = None) -> None:
        job = self.definitions.resolve_implicit_global_asset_job_def()
        job.execute_in_process(
            run_config={"ops": {name: {"config": each} for name, each in (config or {}).items()}},
            asset_selection=[dg.AssetKey(name) for name in names],
            partition_key=partition,
            instance=self.instance,
        )

    def request(self, name: str, **options: Any) -> ReproductionRequest:
        event = self.instance.get_latest_materialization_event(dg.AssetKey(name))
        assert event
        assert event.asset_materialization
        record = record_of(event.asset_materialization.metadata)
        ((found),) = self.instance.fetch_materializations(dg.AssetKey(name), limit=1).records
        return ReproductionRequest(
            asset=name,
            partition=record.partition,
            storage_id=found.storage_id,
            data_version=record.data_version,
            **options,
        )

    def reproduce(self, request: ReproductionRequest) -> Verdict:
        return reproduce(request, self.definitions.get_repository_def(), self.instance, self.storage, print)

    def everything(self) -> tuple[int, dict[str, int], set[str]]:
        """Return what must not grow: the number of runs, the materializations by asset, and the files of the remote."""
        counted = {}
        for key in self.instance.all_asset_keys():
            counted[key.to_user_string()] = len(self.instance.fetch_materializations(key, limit=100).records)
        remote = Path(self.storage.store.remote)
        return self.instance.get_runs_count(), counted, {str(each) for each in remote.rglob("*")}


@pytest.fixture
def scene(instance: dg.DagsterInstance, storage: ArtifactStorage, resources: dict[str, Any]) -> Scene:
    definitions = dg.Definitions(assets=ASSETS, asset_checks=[counts], jobs=[reproduction_job()], resources=resources)
    found = Scene(instance, storage, definitions)
    instance.add_dynamic_partitions("regions", ["east", "west"])
    for partition in ("east", "west"):
        found.make("numbers", partition=partition)
    return found


def test_past_versions_are_read_though_newer_ones_and_other_partitions_exist(scene: Scene) -> None:
    scene.make("scaled", config={"scaled": {"by": 3}})
    request = scene.request("scaled")
    scene.make("numbers", partition="east")
    scene.instance.add_dynamic_partitions("regions", ["north"])
    scene.make("numbers", partition="north")
    scene.make("scaled")
    before = scene.everything()
    verdict = scene.reproduce(request)
    assert (verdict.outcome, verdict.difference) == (Outcome.IDENTICAL, None)
    assert verdict.reproduced_version == request.data_version != scene.request("scaled").data_version
    assert verdict.warnings == ()
    assert scene.everything() == before


def test_difference_is_named_and_judged_by_tolerance(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.make("scaled")
    monkeypatch.setitem(FACTOR, "noise", 1e-9)
    near = scene.reproduce(scene.request("scaled"))
    assert (near.outcome, near.difference) == (Outcome.WITHIN_TOLERANCE, "only the bytes of the file")
    assert near.reproduced_version != near.data_version
    exact = scene.reproduce(scene.request("scaled", tolerance=0))
    assert exact.outcome is Outcome.DIFFERENT
    assert exact.difference == "column y, row 0: 2.0 → 2.000000001"
    assert not exact.is_reproduced


def test_model_is_judged_by_metrics_and_predictions_and_its_run_is_tagged(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.make("scaled", "line")
    request = scene.request("line")
    before = scene.everything()
    client = MlflowClient(scene.storage.tracking.tracking_uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", scene.storage.tracking.tracking_uri)  # nothing is registered there either
    same = scene.reproduce(request)
    assert same.outcome is Outcome.IDENTICAL
    # A model of another training on the same inputs, as from a library that adds in another order.
    monkeypatch.setattr(TrainedModel, "__post_init__", _shift(1e-9))
    near = scene.reproduce(request)
    assert (near.outcome, near.warnings) == (Outcome.WITHIN_TOLERANCE, ())
    monkeypatch.setattr(TrainedModel, "__post_init__", _shift(1.0))
    far = scene.reproduce(request)
    assert far.outcome is Outcome.DIFFERENT
    assert far.difference is not None
    assert far.difference.startswith("prediction on the recorded input example, column 0, row 0: ")
    assert scene.everything() == before
    (version,) = client.search_model_versions("name = 'line'")
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert version.run_id == run.info.run_id
    assert run.info.status == "FINISHED"
    tags = run.data.tags
    assert (tags[RunTags.REPRODUCTION], tags[RunTags.REPRODUCTION_DIFFERENCE]) == ("different", far.difference)
    client.delete_run(run.info.run_id)
    gone = scene.reproduce(request)
    assert gone.outcome is Outcome.DIFFERENT
    assert "was deleted" in gone.warnings[0]


def _shift(by: float) -> Any:
    def shifted(self: TrainedModel) -> None:
        if self.input_example is not None:
            self.estimator.intercept_ += by

    return shifted


def test_job_logs_the_verdict_as_an_observation_that_changes_nothing_else(scene: Scene) -> None:
    scene.make("scaled")
    request = scene.request("scaled")
    before = scene.everything()
    result = _run_job(scene, request)
    (observation,) = [event for event in result.all_events if event.event_type is dg.DagsterEventType.ASSET_OBSERVATION]
    logged = observation.asset_observation_data.asset_observation
    assert logged.asset_key == dg.AssetKey("scaled")
    verdict = Verdict.model_validate(logged.metadata[REPRODUCTION_METADATA].value)
    assert (verdict.outcome, verdict.dagster_run) == (Outcome.IDENTICAL, result.run_id)
    assert scene.everything() == (before[0] + 1, *before[1:])


def test_refusal_fails_the_job_with_what_to_do_next(scene: Scene) -> None:
    scene.make("scaled")
    request = scene.request("scaled").model_copy(update={"storage_id": 10**6})
    result = _run_job(scene, request)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    entry = failure.step_failure_data.user_failure_data.metadata[REFUSAL_METADATA].value
    assert "event 1000000 of Dagster's log is not, or no longer, its materialization" in entry["what"]
    assert entry["asset"] == "scaled"


@dg.definitions
def current() -> dg.Definitions:
    """Return the code location, which Dagster reloads for a run."""
    return Scene.current


def _run_job(scene: Scene, request: ReproductionRequest) -> dg.JobExecutionResult:
    Scene.current = dg.Definitions.merge(scene.definitions, dg.Definitions(executor=dg.in_process_executor))
    job = ReconstructableRepository.for_module(__name__, "current").get_reconstructable_job(JOB_NAME)
    config = {"ops": {OP_NAME: {"config": {"request": request.model_dump_json()}}}}
    return dg.execute_job(job, scene.instance, run_config=config)


def test_one_of_several_artifacts_of_a_function_is_reproduced(scene: Scene) -> None:
    scene.make("scaled", "evens", "trend")
    assert scene.reproduce(scene.request("evens")).outcome is Outcome.IDENTICAL
    assert scene.reproduce(scene.request("trend")).outcome is Outcome.IDENTICAL


def test_checks_do_not_run_and_those_inside_of_the_asset_are_logged_nowhere(scene: Scene) -> None:
    scene.make("scaled", "checked")
    key = dg.AssetCheckKey(dg.AssetKey("checked"), "is_positive")
    (logged,) = scene.instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    assert scene.reproduce(scene.request("checked")).outcome is Outcome.IDENTICAL
    assert scene.instance.event_log_storage.get_asset_check_execution_history(key, limit=5) == [logged]


def test_what_is_gone_is_named(scene: Scene) -> None:
    scene.make("scaled")
    request = scene.request("scaled")
    remote = Path(scene.storage.store.remote)
    inputs = {
        each.asset_materialization.metadata[RECORD_METADATA].value["data_version"]
        for each in scene.instance.fetch_materializations(dg.AssetKey("numbers"), limit=5).records
    }
    for folder in (remote, Path(scene.storage.store.cache)):
        for version in inputs:
            for file in folder.rglob(f"{version[6:]}*"):
                file.unlink()
    with pytest.raises(
        ReproductionRefused, match=r"scaled: the content of its input numbers@\w+ \(md5:.*cannot be fetched"
    ):
        scene.reproduce(request)
    scene.instance.wipe_assets([dg.AssetKey("numbers")])
    with pytest.raises(ReproductionRefused, match=r"recorded its input numbers@\w+ \(md5:\w+\) is gone from Dagster's"):
        scene.reproduce(request)


def test_input_of_another_io_manager_is_refused(scene: Scene) -> None:
    scene.make("plain", "of_plain")
    with pytest.raises(ReproductionRefused, match=r"its input plain .* is stored by its own IO manager"):
        scene.reproduce(scene.request("of_plain"))


def test_other_code_is_refused_unless_it_is_allowed(
    scene: Scene, resources: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.make("scaled")

    @feature_set(name="scaled", ins={"numbers": dg.AssetIn(partition_mapping=dg.AllPartitionMapping())})
    def other(numbers: dict[str, pd.DataFrame], config: Scale) -> pd.DataFrame:
        return pd.DataFrame({"y": [1.0]})

    today = Scene(scene.instance, scene.storage, dg.Definitions(assets=[numbers, other], resources=resources))
    with pytest.raises(ReproductionRefused, match=r"other conditions than .*: code version: recorded \w+, here \w+"):
        today.reproduce(scene.request("scaled"))
    verdict = today.reproduce(scene.request("scaled", allow_unpinned=True))
    assert verdict.outcome is Outcome.DIFFERENT
    assert verdict.difference == "columns: x, start, y → y"
    assert verdict.warnings[0].startswith("not pinned: code version")
    renamed = Scene(scene.instance, scene.storage, dg.Definitions(assets=[numbers], resources=resources))
    with pytest.raises(ReproductionRefused, match="scaled: the code here does not define the asset"):
        renamed.reproduce(scene.request("scaled"))


def test_a_file_that_the_code_version_does_not_cover_is_compared(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "project" / "start.csv"
    file.parent.mkdir()
    file.write_text("x\n1\n")
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.setenv("START_OF_TEST", str(file))
    scene.make("started")
    assert scene.reproduce(scene.request("started")).outcome is Outcome.IDENTICAL
    file.write_text("x\n2\n")
    with pytest.raises(ReproductionRefused, match=r"start\.csv: recorded \w+, here \w+"):
        scene.reproduce(scene.request("started"))


def test_failure_is_no_verdict(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.make("scaled")
    monkeypatch.setitem(FACTOR, "scale", "text")  # type: ignore[arg-type]
    with pytest.raises(ReproductionRefused, match="the rerun failed: UFuncTypeError"):
        scene.reproduce(scene.request("scaled"))


def test_request_survives_as_text(scene: Scene) -> None:
    scene.make("scaled")
    request = scene.request("scaled", tolerance=0.5)
    assert ReproductionRequest.model_validate_json(json.dumps(request.model_dump())) == request

"""Declarations: a factory with and without parentheses, and several artifacts from one function."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.linear_model import LinearRegression

import ml_assets as ml
from ml_assets.artifacts.io_manager import KIND_METADATA, ArtifactStorage
from ml_assets.resources.errors import DefinitionError, SchemaError
from ml_assets.resources.identity import Digest
from ml_assets.resources.provenance import ArtifactKind, ProvenanceRecord

FRAME = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [2.0, 4.0, 6.0]})


def trained(factor: float = 1.0) -> ml.TrainedModel:
    rows = FRAME[["x"]].to_numpy()
    estimator = LinearRegression().fit(rows, FRAME["y"] * factor)
    history = {"loss": [4.0, float("nan"), 1.0], "mae": {0: 2.0, 10: 1.0}}
    return ml.TrainedModel(estimator, rows, {"mae": 0.0}, history=history)


def numbers() -> pd.DataFrame:
    return FRAME


def records(result: dg.ExecuteInProcessResult) -> dict[str, ProvenanceRecord]:
    events = result.get_asset_materialization_events()
    return {event.asset_key.to_user_string(): ml.record_of(event.materialization.metadata) for event in events}


@pytest.mark.parametrize("factory", [ml.dataset, ml.feature_set, ml.model])
def test_factory_works_with_and_without_parentheses_and_as_a_call(factory: Any) -> None:
    bare, empty, called = factory(numbers), factory()(numbers), factory(numbers, name="other", pool="cpu")
    assert bare.key == empty.key == dg.AssetKey("numbers")
    (first,), (second,) = bare.specs, empty.specs
    assert (first.code_version, first.kinds, first.metadata) == (second.code_version, second.kinds, second.metadata)
    assert (called.key, called.op.pool) == (dg.AssetKey("other"), "cpu")
    pd.testing.assert_frame_equal(bare(), FRAME)


def test_a_name_in_place_of_the_function_is_refused() -> None:
    with pytest.raises(DefinitionError, match="decorates a function, got 'numbers'"):
        ml.dataset("numbers")  # type: ignore[call-overload]


@ml.multi_asset(
    outs={
        "split": ml.dataset(key_prefix="lake", description="The rows for training."),
        "line": ml.model(registered_name="line"),
        "steep": ml.model(registered_name="steep", code_version="mine"),
    }
)
def training(numbers: pd.DataFrame) -> tuple[pd.DataFrame, ml.TrainedModel, ml.TrainedModel]:
    import mlflow

    if mlflow.active_run():  # not in a direct call
        mlflow.log_param("by_hand", len(numbers))
    return numbers.head(2), trained(), trained(2.0)


def test_several_artifacts_have_their_own_records_and_runs(
    resources: dict[str, Any], instance: dg.DagsterInstance, storage: ArtifactStorage
) -> None:
    source = ml.dataset(numbers)
    result = dg.materialize([source, training], instance=instance, resources=resources)
    found = records(result)
    split, line, steep = found["lake/split"], found["line"], found["steep"]
    assert [each.kind for each in (split, line, steep)] == [
        ArtifactKind.DATASET,
        ArtifactKind.MODEL,
        ArtifactKind.MODEL,
    ]
    assert len({each.data_version for each in (split, line, steep)}) == 3
    assert split.code_version == line.code_version
    assert steep.code_version == "mine"
    assert [each.asset for each in steep.inputs] == ["numbers"]
    assert split.content is not None
    assert split.content.rows == 2
    assert split.mlflow is None
    assert line.mlflow is not None
    assert steep.mlflow is not None
    assert (line.mlflow.registered_model, steep.mlflow.registered_model) == ("line", "steep")
    client = MlflowClient(storage.tracking.tracking_uri)
    runs = [client.get_run(each.mlflow.run_id).data for each in (line, steep)]
    assert [run.tags["ml_assets.data_version"] for run in runs] == [line.data_version, steep.data_version]
    assert ["by_hand" in run.params for run in runs] == [True, False]
    versions = [client.get_model_version(name, "1").tags["ml_assets.data_version"] for name in ("line", "steep")]
    assert versions == [line.data_version, steep.data_version]
    losses, errors = (client.get_metric_history(line.mlflow.run_id, name) for name in ("loss", "mae"))
    assert [each.step for each in losses] == [0, 1, 2]
    assert [(each.step, each.value) for each in errors] == [(0, 2.0), (10, 1.0), (10, 0.0)]
    assert runs[0].metrics["mae"] == 0.0
    assert runs[0].metrics["loss"] == 1.0


def test_a_model_of_an_array_is_served_by_position(
    resources: dict[str, Any], instance: dg.DagsterInstance, storage: ArtifactStorage
) -> None:
    @ml.model
    def line() -> ml.TrainedModel:
        return trained()

    @ml.dataset
    def predicted(line: ml.TrainedModel) -> pd.DataFrame:
        return pd.DataFrame({"y": line.predict(FRAME[["x"]].to_numpy())})

    found = records(dg.materialize([line, predicted], instance=instance, resources=resources))["predicted"]
    assert storage.store.read_frame(Digest.parse(found.data_version))["y"].round(6).tolist() == [2.0, 4.0, 6.0]


def test_several_artifacts_are_declared_as_ours_and_called_as_a_function() -> None:
    specs = training.specs_by_key
    assert {spec.metadata[KIND_METADATA] for spec in specs.values()} == {"dataset", "model"}
    assert specs[dg.AssetKey(["lake", "split"])].description == "The rows for training."
    head, line, _ = training(FRAME)
    assert (len(head), line.metrics) == (2, {"mae": 0.0})


def test_a_value_that_cannot_be_stored_is_told_of_its_own_output(
    resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    @ml.multi_asset(outs={"good": ml.dataset(), "bad": ml.feature_set()})
    def both() -> Any:
        return FRAME, {1, 2}

    with pytest.raises(SchemaError, match=r"^bad: expected the function to return .*, got set\. Next: "):
        dg.materialize([both], instance=instance, resources=resources)
    assert instance.get_latest_materialization_event(dg.AssetKey("good")) is None


@ml.multi_asset(outs={"a": ml.dataset(), "b": ml.dataset()}, can_subset=True)
def chosen(context: dg.AssetExecutionContext) -> Iterator[dg.Output[Any]]:
    for name in sorted(context.op_execution_context.selected_output_names):
        yield dg.Output(FRAME.assign(name=name), output_name=name)


@ml.multi_asset(outs={"c": ml.dataset(), "d": ml.dataset()}, can_subset=True)
def all_at_once() -> tuple[pd.DataFrame, pd.DataFrame]:
    return FRAME, FRAME.head(1)


@pytest.mark.parametrize(("assets", "key"), [(chosen, "b"), (all_at_once, "d")])
def test_a_subset_of_several_artifacts_is_made(
    assets: dg.AssetsDefinition, key: str, resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    result = dg.materialize([assets], selection=[key], instance=instance, resources=resources)
    assert set(records(result)) == {key}
    whole = dg.materialize([assets], instance=instance, resources=resources)
    assert set(records(whole)) == {spec.key.to_user_string() for spec in assets.specs}


def test_one_of_several_artifacts_is_skipped(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    @ml.multi_asset(outs={"good": ml.dataset(), "rare": ml.dataset(output_required=False)})
    def both() -> Any:
        return FRAME, None

    @ml.feature_set
    def after(rare: pd.DataFrame) -> pd.DataFrame:
        return rare

    result = dg.materialize([both, after], instance=instance, resources=resources)
    assert set(records(result)) == {"good"}
    assert [event.step_key for event in result.all_events if event.is_step_skipped] == ["after"]


def test_image_and_own_dependencies_reach_each_artifact() -> None:
    image = ml.container_image("train", dockerfile="Dockerfile.train", sources=["ml_assets"])

    @ml.multi_asset(
        outs={"rows": ml.dataset(), "line": ml.model()},
        image=image,
        pool="gpu",
        internal_asset_deps={"rows": {dg.AssetKey("numbers")}, "line": {dg.AssetKey("rows")}},
    )
    def both(numbers: pd.DataFrame) -> Any: ...

    assert both.asset_deps[dg.AssetKey("line")] == {dg.AssetKey("rows"), image.key}
    assert both.op.pool == "gpu"


@pytest.mark.parametrize(
    ("outs", "message"),
    [
        ({}, "multi_asset has no outputs"),
        ({"a": ml.dataset}, "the output 'a' is <function dataset"),
        ({"a": dg.AssetOut()}, "declare it with a factory"),
        ({"a": ml.dataset(pool="cpu", retry_policy=dg.RetryPolicy())}, "the output 'a' sets pool, retry_policy, which"),
        ({"a": ml.model(seed=3)}, "sets seed, which only the whole step can have. Next: pass it to multi_asset"),
    ],
)
def test_a_wrong_output_is_refused_when_it_is_declared(outs: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        ml.multi_asset(outs=outs)(numbers)


async def fetched() -> pd.DataFrame:
    await asyncio.sleep(0)
    return FRAME


def test_a_coroutine_is_awaited(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    asset = ml.dataset(fetched)
    result = dg.materialize([asset], instance=instance, resources=resources)
    assert records(result)["fetched"].content.rows == 3  # type: ignore[union-attr]

    @ml.multi_asset(outs={"a": ml.dataset(), "b": ml.dataset()})
    async def both() -> AsyncIterator[dg.MaterializeResult[Any]]:
        yield dg.MaterializeResult(asset_key="b", value=FRAME)
        yield dg.MaterializeResult(asset_key="a", value=FRAME.head(1))

    found = records(dg.materialize([both], instance=instance, resources=resources))
    assert {name: record.content.rows for name, record in found.items()} == {"a": 1, "b": 3}  # type: ignore[union-attr]


def skipping() -> pd.DataFrame | None:
    return None


def skipping_by_yielding() -> Iterator[Any]:
    yield from ()


def giving() -> Iterator[Any]:
    yield dg.Output(FRAME)


@pytest.mark.parametrize("function", [skipping, skipping_by_yielding])
def test_an_optional_artifact_is_skipped_with_all_that_reads_it(
    function: Any, resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    rare = ml.dataset(function, name="rare", output_required=False)

    @ml.feature_set
    def after(rare: pd.DataFrame) -> pd.DataFrame:
        return rare

    result = dg.materialize([rare, after], instance=instance, resources=resources)
    assert (result.success, records(result)) == (True, {})
    assert [event.step_key for event in result.all_events if event.is_step_skipped] == ["after"]
    assert instance.get_latest_data_version_record(rare.key) is None


def test_an_optional_artifact_is_kept_where_it_has_a_value(
    resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    rare = ml.dataset(giving, output_required=False)
    assert set(records(dg.materialize([rare], instance=instance, resources=resources))) == {"giving"}


def test_nothing_from_an_artifact_that_is_required_is_refused(
    resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    with pytest.raises(SchemaError, match=r"skipping: expected the function to return .* got NoneType"):
        dg.materialize([ml.dataset(skipping)], instance=instance, resources=resources)
    with pytest.raises(DefinitionError, match="a generator yields several values or none"):
        ml.dataset(giving)

import inspect
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ml_assets.artifacts.io_manager import KIND_METADATA, ArtifactStorage
from ml_assets.datasets import dataset
from ml_assets.features import feature_set
from ml_assets.images import container_image
from ml_assets.resources.errors import DefinitionError, SchemaError
from ml_assets.resources.identity import Digest
from ml_assets.resources.provenance import ArtifactKind, LaunchKind, Observed, ProvenanceRecord, record_of

FRAME = pd.DataFrame({"carrier": ["UA", "DL"], "delay": [1.5, -3.0]})


@dataset()
def flights() -> pd.DataFrame:
    """Flights."""
    return FRAME


class Scale(dg.Config):
    factor: float = 2.0
    seed: int = 7


@feature_set()
def scaled(context: dg.AssetExecutionContext, flights: pd.DataFrame, config: Scale) -> pd.DataFrame:
    context.log.info("scaling")
    return flights.assign(delay=flights["delay"] * config.factor)


def recorded(result: dg.ExecuteInProcessResult, key: str) -> ProvenanceRecord:
    (event,) = result.asset_materializations_for_node(key.replace("/", "__"))
    return record_of(event.metadata)


def test_calling_the_function_returns_its_plain_value() -> None:
    pd.testing.assert_frame_equal(flights(), FRAME)
    doubled = scaled(dg.build_asset_context(), FRAME, Scale(factor=2))
    pd.testing.assert_frame_equal(doubled, FRAME.assign(delay=[3.0, -6.0]))


def test_an_asset_called_inside_another_returns_its_plain_value(
    resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    @dataset()
    def outer() -> pd.DataFrame:
        return flights().head(1)

    result = dg.materialize([outer], instance=instance, resources=resources)
    assert recorded(result, "outer").content.rows == 1


def hidden() -> int:
    return 1


@dataset()
def free() -> pd.DataFrame:
    return pd.DataFrame({"x": [pd.of_test()]})


@dataset(code_version="1")
def given() -> pd.DataFrame:
    return pd.DataFrame({"x": [pd.of_test()]})


def test_what_ran_beyond_the_code_version_is_recorded(
    resources: dict[str, Any], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pd, "of_test", hidden, raising=False)
    result = dg.materialize([flights, free, given], instance=instance, resources=resources)
    plain, found = recorded(result, "flights"), recorded(result, "free").observed
    assert plain.observed == Observed(code_version=plain.code_version)
    assert found is not None
    (item,) = found.uncovered
    assert item.name == f"{__name__}:hidden"
    assert found.code_version not in (None, recorded(result, "free").code_version)
    assert recorded(result, "given").observed is None


def test_the_data_version_is_the_dvc_hash_of_the_content(
    resources: dict[str, Any], instance: dg.DagsterInstance, storage: ArtifactStorage
) -> None:
    result = dg.materialize([flights], instance=instance, resources=resources)
    (event,) = result.asset_materializations_for_node("flights")
    version = event.tags["dagster/data_version"]
    assert storage.store.has(Digest.parse(version))
    assert version == storage.store.put_frame(FRAME).version


def test_the_record_is_whole(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    result = dg.materialize(
        [flights, scaled],
        instance=instance,
        resources=resources,
        run_config={"ops": {"scaled": {"config": {"factor": 3.0}}}},
        tags={"user": "ada"},
    )
    upstream, record = recorded(result, "flights"), recorded(result, "scaled")
    assert record.kind is ArtifactKind.FEATURE_SET
    assert record.parameters == {"factor": 3.0, "seed": 7}
    assert record.seeds["seed"] == record.seeds["numpy"] == 7
    assert [(read.asset, read.data_version, read.run_id) for read in record.inputs] == [
        ("flights", upstream.data_version, result.run_id)
    ]
    assert record.launch.kind is LaunchKind.USER
    assert record.launch.name == "ada"
    assert record.environment.image is None
    assert Digest.parse(record.environment.environment_digest).algorithm == "sha256"
    assert record.hardware.cpus >= 1
    assert record.hardware.memory_bytes > 0
    assert record.content is not None
    assert record.content.rows == 2
    assert record.dagster_run == result.run_id
    assert record.code_version == scaled.specs_by_key[scaled.key].code_version
    assert record.ended_at >= record.started_at
    assert record.reproducible is (record.source.dirty is False)


def test_people_see_schema_rows_and_a_preview(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    result = dg.materialize([flights], instance=instance, resources=resources)
    metadata = result.asset_materializations_for_node("flights")[0].metadata
    assert metadata["dagster/row_count"].value == 2
    schema = metadata["dagster/column_schema"].value
    assert [column.name for column in schema.columns] == ["carrier", "delay"]
    assert metadata["preview"].records[0].data == {"carrier": "UA", "delay": 1.5}
    assert metadata["image"].value == "not containerized"


def test_files_and_directories_are_kept(
    resources: dict[str, Any], instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    @dataset()
    def pictures() -> Path:
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        (folder / "a.txt").write_text("a")
        return folder

    @dataset()
    def names(pictures: Path) -> pd.DataFrame:
        return pd.DataFrame({"name": sorted(file.name for file in pictures.iterdir())})

    result = dg.materialize([pictures, names], instance=instance, resources=resources)
    assert recorded(result, "pictures").data_version.endswith(".dir")
    assert recorded(result, "names").content.rows == 1


KEYWORDS: dict[str, Any] = {
    "name": "renamed",
    "key_prefix": ["warehouse"],
    "ins": {"flights": dg.AssetIn("other_flights")},
    "deps": ["elsewhere"],
    "metadata": {"colour": "blue"},
    "tags": {"team": "delays"},
    "description": "described",
    "required_resource_keys": {"clock"},
    "io_manager_key": "own_io",
    "dagster_type": dg.PythonObjectDagsterType(pd.DataFrame),
    "partitions_def": dg.StaticPartitionsDefinition(["a", "b"]),
    "hooks": set(),
    "op_tags": {"queue": "slow"},
    "group_name": "grouped",
    "output_required": True,
    "automation_condition": dg.AutomationCondition.eager(),
    "backfill_policy": dg.BackfillPolicy.multi_run(1),
    "retry_policy": dg.RetryPolicy(max_retries=2),
    "code_version": "mine",
    "key": None,
    "check_specs": [],
    "owners": ["team:delays"],
    "kinds": {"parquet"},
    "pool": "cpu",
    "config_schema": {"n": int},
    "freshness_policy": dg.FreshnessPolicy.time_window(fail_window=timedelta(days=1)),
    "resource_defs": {},
    "io_manager_def": None,
    "is_virtual": False,
    "compute_kind": "pandas",
}


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
@pytest.mark.parametrize("keyword", sorted(set(inspect.signature(dg.asset).parameters) - {"compute_fn", "kwargs"}))
def test_every_keyword_of_dagster_asset_is_accepted(keyword: str) -> None:
    if keyword not in KEYWORDS:
        pytest.fail(f"dagster.asset takes {keyword}, and no value of it is tried here")

    def renamed(flights: pd.DataFrame) -> pd.DataFrame:
        return flights

    partitions = {"partitions_def": KEYWORDS["partitions_def"]} if keyword == "backfill_policy" else {}
    made = feature_set(**{keyword: KEYWORDS[keyword], **partitions})(renamed)
    assert isinstance(made, dg.AssetsDefinition)


def test_keywords_reach_the_asset() -> None:
    made = feature_set(
        key_prefix=["warehouse"],
        group_name="grouped",
        metadata={"colour": "blue"},
        kinds={"parquet"},
        owners=["team:delays"],
        code_version="mine",
        pool="cpu",
        retry_policy=dg.RetryPolicy(max_retries=2),
    )(scaled.op.compute_fn.decorated_fn)
    (spec,) = made.specs
    assert spec.key.path == ["warehouse", "scaled"]
    assert spec.group_name == "grouped"
    assert spec.metadata["colour"] == "blue"
    assert spec.metadata[KIND_METADATA] == "feature set"
    assert spec.kinds == {"parquet", "feature_set"}
    assert spec.code_version == "mine"
    assert made.op.pool == "cpu"
    assert made.op.retry_policy.max_retries == 2


def test_the_image_becomes_a_dependency(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    train = container_image("train", dockerfile="Dockerfile.train", sources=["ml_assets", "resources"])

    @dataset(image=train, pool="cpu")
    def numbers() -> pd.DataFrame:
        return FRAME

    result = dg.materialize([train, numbers], instance=instance, resources=resources)
    image, record = recorded(result, "images/train"), recorded(result, "numbers")
    assert record.environment.image_asset == "images/train"
    assert record.environment.pool == "cpu"
    assert [(read.asset, read.loaded) for read in record.inputs] == [("images/train", False)]
    assert image.data_version == record.environment.environment_digest
    assert image.content is None


def test_a_check_inside_the_asset_works(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    @dataset(check_specs=[dg.AssetCheckSpec("has_rows", asset="checked")])
    def checked() -> dg.MaterializeResult:  # type: ignore[type-arg]
        return dg.MaterializeResult(
            value=FRAME, metadata={"source": "paper"}, check_results=[dg.AssetCheckResult(passed=True)]
        )

    result = dg.materialize([checked], instance=instance, resources=resources)
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True]
    (event,) = result.asset_materializations_for_node("checked")
    assert event.metadata["source"].value == "paper"
    assert recorded(result, "checked").content.rows == 2


class Source(dg.ConfigurableResource):  # type: ignore[type-arg]
    password: str


class Tuning(dg.Config):
    token: str = "none"
    rounds: int = 3
    seed: int = 0


@dataset()
def tuned(source: Source, config: Tuning) -> pd.DataFrame:
    return pd.DataFrame({"value": [len(source.password), len(config.token), config.rounds]})


def test_a_resource_is_no_parameter(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    result = dg.materialize(
        [tuned],
        instance=instance,
        resources={**resources, "source": Source(password="open sesame")},
        run_config={"ops": {"tuned": {"config": {"rounds": 9, "seed": 77}}}},
    )
    record = recorded(result, "tuned")
    assert record.parameters == {"token": "none", "rounds": 9, "seed": 77}
    assert record.seeds == {"seed": 77, "random": 77, "numpy": 77}
    assert "sesame" not in record.model_dump_json()


def test_a_parameter_from_the_environment_is_recorded_by_its_name(
    resources: dict[str, Any], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    result = dg.materialize(
        [tuned],
        instance=instance,
        resources={**resources, "source": Source(password="")},
        run_config={"ops": {"tuned": {"config": {"token": {"env": "SECRET_TOKEN"}}}}},
    )
    assert result.output_for_node("tuned")["value"].tolist() == [0, 4, 3]
    assert recorded(result, "tuned").parameters["token"] == "env:SECRET_TOKEN"


def test_an_output_with_metadata_is_kept(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    @dataset()
    def wrapped() -> dg.Output[pd.DataFrame]:
        return dg.Output(FRAME, metadata={"source": "paper"})

    result = dg.materialize([wrapped], instance=instance, resources=resources)
    assert result.asset_materializations_for_node("wrapped")[0].metadata["source"].value == "paper"
    assert recorded(result, "wrapped").content.rows == 2


def test_a_data_version_of_ones_own_is_refused(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    @dataset()
    def versioned() -> dg.MaterializeResult[pd.DataFrame]:
        return dg.MaterializeResult(value=FRAME, data_version=dg.DataVersion("v1"))

    with pytest.raises(DefinitionError, match="versioned: the function returned the data version 'v1'"):
        dg.materialize([versioned], instance=instance, resources=resources)


def test_a_prefix_given_at_loading_reaches_the_image(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    train = container_image("train", dockerfile="Dockerfile.train", sources=["resources"])

    @dataset(image=train)
    def numbers() -> pd.DataFrame:
        return FRAME

    module = ModuleType("module_of_assets")
    module.train, module.numbers = train, numbers  # type: ignore[attr-defined]
    assets = dg.load_assets_from_modules([module], key_prefix="prod")
    result = dg.materialize(assets, instance=instance, resources=resources)
    (event,) = [made for made in result.get_asset_materialization_events() if made.asset_key.path[-1] == "numbers"]
    record = record_of(event.materialization.metadata)
    assert record.environment.image_asset == "prod/images/train"
    assert event.materialization.tags["dagster/input_data_version/prod/images/train"]
    assert [read.asset for read in record.inputs] == ["prod/images/train"]


def test_each_attempt_is_numbered(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    calls = []

    @dataset(retry_policy=dg.RetryPolicy(max_retries=1))
    def flaky() -> pd.DataFrame:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("not yet")
        return FRAME

    result = dg.materialize([flaky], instance=instance, resources=resources)
    assert recorded(result, "flaky").attempt == 1


def test_a_generator_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"several: a generator yields .* Next: return one value"):

        @dataset()
        def several() -> Any:
            yield FRAME


def test_a_single_run_backfill_is_refused() -> None:
    with pytest.raises(DefinitionError, match="one data version"):

        @dataset(backfill_policy=dg.BackfillPolicy.single_run())
        def all_at_once() -> pd.DataFrame:
            return FRAME


def test_a_range_of_partitions_in_one_run_is_refused(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    @dataset(partitions_def=dg.StaticPartitionsDefinition(["a", "b", "c"]))
    def parts() -> pd.DataFrame:
        return FRAME

    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}
    with pytest.raises(DefinitionError, match="parts: the run covers partitions a to c"):
        dg.materialize([parts], instance=instance, resources=resources, tags=tags)


def test_a_value_of_another_type_names_the_asset(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    @feature_set()
    def listed() -> Any:
        return {1, 2}

    with pytest.raises(
        SchemaError, match=r"listed: expected the function to return pandas.*DataFrame, .*, got set\. Next: "
    ):
        dg.materialize([listed], instance=instance, resources=resources)
    assert instance.get_latest_materialization_event(dg.AssetKey("listed")) is None


def test_a_full_remote_records_nothing_and_a_second_run_repairs_it(
    resources: dict[str, Any], instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    (tmp_path / "remote").write_text("a file stands where the remote should be")
    with pytest.raises(Exception, match=r"flights: .* Next: "):
        dg.materialize([flights], instance=instance, resources=resources)
    assert instance.get_latest_materialization_event(dg.AssetKey("flights")) is None
    (tmp_path / "remote").unlink()
    assert dg.materialize([flights], instance=instance, resources=resources).success


def test_an_io_manager_of_ones_own_gets_the_value_too(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    own = dg.InMemoryIOManager()

    @dataset(io_manager_key="own_io")
    def numbers() -> pd.DataFrame:
        return FRAME

    result = dg.materialize([numbers], instance=instance, resources={**resources, "own_io": own})
    assert recorded(result, "numbers").content.rows == 2
    assert len(own.values) == 1

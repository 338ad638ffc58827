from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ml_assets.artifacts.io_manager import STORAGE_KEY, ArtifactStorage
from ml_assets.datasets import dataset
from ml_assets.features import feature_set
from ml_assets.resources.errors import InputError
from ml_assets.resources.image_builders.environment import InterpreterEnvironment
from tests.ml_assets.conftest import PROJECT

FRAME = pd.DataFrame({"value": [1, 2]})


@dataset()
def numbers() -> pd.DataFrame:
    return FRAME


def test_an_unannotated_input_comes_as_what_was_stored(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    @feature_set()
    def copied(numbers) -> pd.DataFrame:  # type: ignore[no-untyped-def]
        return numbers

    result = dg.materialize([numbers, copied], instance=instance, resources=resources)
    pd.testing.assert_frame_equal(result.output_for_node("copied"), FRAME)


def test_a_frame_can_be_had_as_a_file(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    @feature_set()
    def sizes(numbers: Path) -> pd.DataFrame:
        return pd.DataFrame({"size": [numbers.stat().st_size]})

    result = dg.materialize([numbers, sizes], instance=instance, resources=resources)
    assert result.output_for_node("sizes")["size"].item() > 0


def test_an_annotation_that_does_not_fit_is_refused(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    @feature_set()
    def counted(numbers: int) -> pd.DataFrame:
        return FRAME

    with pytest.raises(
        InputError, match=r"numbers: the content has the format 'parquet' and cannot be loaded as <class 'int'>"
    ):
        dg.materialize([numbers, counted], instance=instance, resources=resources)


def test_several_partitions_of_files_come_by_name_only(
    resources: dict[str, Any], instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    @dataset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
    def files(context: dg.AssetExecutionContext) -> Path:
        path = tmp_path / context.partition_key
        path.write_text(context.partition_key)
        return path

    @feature_set()
    def joined(files: dict[str, Path]) -> pd.DataFrame:
        return pd.DataFrame({"text": [files[name].read_text() for name in sorted(files)]})

    @feature_set()
    def unnamed(files: Path) -> pd.DataFrame:
        return FRAME

    for partition in ("a", "b"):
        dg.materialize([files], instance=instance, resources=resources, partition_key=partition)
    result = dg.materialize([files, joined], selection=[joined], instance=instance, resources=resources)
    assert result.output_for_node("joined")["text"].tolist() == ["a", "b"]
    with pytest.raises(InputError, match=r"not all DataFrames and cannot be concatenated"):
        dg.materialize([files, unnamed], selection=[unnamed], instance=instance, resources=resources)


@pytest.mark.parametrize("name", ["customer", None])
def test_partitions_are_joined_with_the_index_that_each_has(
    name: str | None, resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    @dataset(partitions_def=dg.StaticPartitionsDefinition(["north", "south"]))
    def orders(context: dg.AssetExecutionContext) -> pd.DataFrame:
        index = pd.Index([f"{context.partition_key} 1", f"{context.partition_key} 2"], name=name) if name else None
        return pd.DataFrame({"pieces": [1, 2]}, index=index)

    @feature_set()
    def joined(orders: pd.DataFrame) -> pd.DataFrame:
        return orders

    for partition in ("north", "south"):
        dg.materialize([orders], instance=instance, resources=resources, partition_key=partition)
    result = dg.materialize([orders, joined], selection=[joined], instance=instance, resources=resources)
    customers = pd.Index(["north 1", "north 2", "south 1", "south 2"], name="customer")
    expected = pd.DataFrame({"pieces": [1, 2, 1, 2]}, index=customers if name else None)
    pd.testing.assert_frame_equal(result.output_for_node("joined"), expected)


def test_a_plain_asset_cannot_be_stored_by_it(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    @dg.asset(io_manager_key=STORAGE_KEY)
    def plain() -> int:
        return 1

    with pytest.raises(InputError, match=r"plain: .* stores only assets made by the factories"):
        dg.materialize([plain], instance=instance, resources=resources)


MONTHS = dg.MonthlyPartitionsDefinition(start_date="2013-01-01", end_date="2013-04-01")
BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)


def test_an_optional_input_without_partitions_is_none(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    """A running total reads its own previous month; the first month has none."""

    @dataset(partitions_def=MONTHS, ins={"total": dg.AssetIn(partition_mapping=BEFORE)})
    def total(total: pd.DataFrame | None) -> pd.DataFrame:
        return pd.DataFrame({"value": [0 if total is None else total["value"].item() + 1]})

    for month in ("2013-01-01", "2013-02-01"):
        result = dg.materialize([total], instance=instance, resources=resources, partition_key=month)
    assert result.output_for_node("total")["value"].tolist() == [1]


def test_a_required_input_without_partitions_is_named(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    @dataset(partitions_def=MONTHS, ins={"total": dg.AssetIn(partition_mapping=BEFORE)})
    def total(total: pd.DataFrame) -> pd.DataFrame:
        return total

    with pytest.raises(InputError, match=r"total: none of its partitions maps .* `DataFrame \| None`"):
        dg.materialize([total], instance=instance, resources=resources, partition_key="2013-01-01")


def test_a_materialization_reported_by_hand_says_so(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    @feature_set()
    def copied(numbers: pd.DataFrame) -> pd.DataFrame:
        return numbers

    instance.report_runless_asset_event(dg.AssetMaterialization("numbers"))
    with pytest.raises(InputError, match=r"numbers: .* was reported manually and has no content"):
        dg.materialize([numbers, copied], selection=[copied], instance=instance, resources=resources)


def test_content_can_be_loaded_outside_a_run(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    dg.materialize([numbers], instance=instance, resources=resources)
    definitions = dg.Definitions(assets=[numbers], resources=resources)
    loaded = definitions.load_asset_value(dg.AssetKey("numbers"), python_type=pd.DataFrame, instance=instance)
    pd.testing.assert_frame_equal(loaded, FRAME)


def test_a_changed_environment_makes_what_ran_in_it_stale(
    storage: ArtifactStorage, instance: dg.DagsterInstance
) -> None:
    """The image's version among the inputs is the environment in which the step ran, not the image asset's latest."""
    from ml_assets.images import container_image
    from ml_assets.resources.identity import Digest

    class Upgraded(InterpreterEnvironment):
        def environment_digest(self) -> Digest:
            return Digest.of_bytes(b"another environment")

    train = container_image("train", dockerfile="Dockerfile.train", sources=["resources"])

    @dataset(image=train)
    def made_in_it() -> pd.DataFrame:
        return FRAME

    def run(builder: InterpreterEnvironment, *selection: dg.AssetsDefinition) -> dict[str, str]:
        chosen = ArtifactStorage(
            store=storage.store, tracking=storage.tracking, image_builder=builder, target=storage.target
        )
        result = dg.materialize(
            [train, made_in_it], selection=[*selection], instance=instance, resources={STORAGE_KEY: chosen}
        )
        (event,) = result.asset_materializations_for_node("made_in_it")
        return dict(event.tags or {})

    tag = "dagster/input_data_version/images/train"
    first = run(InterpreterEnvironment(PROJECT), train, made_in_it)
    upgraded = run(Upgraded(PROJECT), made_in_it)
    assert first[tag] == str(InterpreterEnvironment(PROJECT).environment_digest())
    assert upgraded[tag] == str(Digest.of_bytes(b"another environment"))

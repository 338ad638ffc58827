from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster._core.loader import LoadingContextForTest

from ml_assets.artifacts.inputs import ResolvedInput, input_tags, latest_versions
from ml_assets.artifacts.io_manager import STORAGE_KEY
from ml_assets.dagster_internals import CachingStaleStatusResolver, StaleStatus
from ml_assets.datasets import dataset
from ml_assets.features import feature_set
from ml_assets.resources.errors import ContentCorrupt, InputError
from ml_assets.resources.provenance import INPUTS_METADATA, InputVersion, record_of

MONTHS = dg.MonthlyPartitionsDefinition(start_date="2013-01-01", end_date="2013-07-01")
CONTENT = {"value": 1}
MANY = dg.AssetKey("many")
POINTER = "dagster/input_event_pointer/many"


@dataset()
def numbers() -> pd.DataFrame:
    return pd.DataFrame({"value": [CONTENT["value"]]})


@dataset(partitions_def=MONTHS)
def monthly(context: dg.AssetExecutionContext) -> pd.DataFrame:
    return pd.DataFrame({"month": [context.partition_key], "value": [CONTENT["value"]]})


@feature_set(partitions_def=MONTHS, window={"monthly": 3})
def windowed(monthly: pd.DataFrame) -> pd.DataFrame:
    return monthly


@pytest.fixture(autouse=True)
def _fresh_content() -> None:
    CONTENT["value"] = 1


def read_by(instance: dg.DagsterInstance, key: str, partition: str | None = None) -> tuple[InputVersion, ...]:
    event = instance.get_latest_data_version_record(dg.AssetKey(key), partition_key=partition)
    assert event is not None
    assert event.asset_materialization is not None
    return record_of(event.asset_materialization.metadata).inputs


def record(instance: dg.DagsterInstance, event: type[dg.AssetMaterialization | dg.AssetObservation], name: str) -> None:
    instance.report_runless_asset_event(event(MANY, partition=name, tags={"dagster/data_version": f"v-{name}"}))


def latest(instance: dg.DagsterInstance, name: str) -> ResolvedInput:
    """Return Dagster's own answer for one partition."""
    return ResolvedInput(MANY, name, instance.get_latest_data_version_record(MANY, partition_key=name), loaded=True)


def status(instance: dg.DagsterInstance, assets: list[Any], key: str, partition: str | None = None) -> StaleStatus:
    kept = dg.mem_io_manager
    graph = dg.Definitions(assets=assets, resources={STORAGE_KEY: kept}).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    return resolver.get_status(dg.AssetKey(key), partition)


def test_an_input_is_loaded_by_the_version_that_was_recorded(
    resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    """The upstream changes while the step runs; the step uses the version that it resolved and becomes out of date."""

    @feature_set(code_version="1")  # what the function captures has no content that could be hashed
    def copied(numbers: pd.DataFrame) -> pd.DataFrame:
        CONTENT["value"] = 2
        dg.materialize([numbers_asset], instance=instance, resources=resources)
        return numbers

    numbers_asset = numbers
    first = dg.materialize([numbers], instance=instance, resources=resources)
    result = dg.materialize([numbers, copied], instance=instance, resources=resources, selection=[copied])
    (read,) = read_by(instance, "copied")
    assert read.run_id == first.run_id
    assert result.output_for_node("copied")["value"].tolist() == [1]
    assert status(instance, [numbers, copied], "copied") is StaleStatus.STALE


def test_an_unchanged_input_leaves_its_reader_fresh(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    @feature_set()
    def copied(numbers: pd.DataFrame) -> pd.DataFrame:
        return numbers

    dg.materialize([numbers, copied], instance=instance, resources=resources)
    dg.materialize([numbers], instance=instance, resources=resources)
    assert status(instance, [numbers, copied], "copied") is StaleStatus.FRESH


def test_a_run_reads_what_it_materialized_itself(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    """Another run materializes the upstream between this run's two steps."""

    @dg.asset(deps=[numbers])
    def meddler() -> None:
        CONTENT["value"] = 2
        dg.materialize([numbers], instance=instance, resources=resources)

    @feature_set(deps=[meddler])
    def copied(numbers: pd.DataFrame) -> pd.DataFrame:
        return numbers

    result = dg.materialize([numbers, meddler, copied], instance=instance, resources=resources)
    read = next(version for version in read_by(instance, "copied") if version.asset == "numbers")
    assert read.run_id == result.run_id
    assert result.output_for_node("copied")["value"].tolist() == [1]


def test_a_window_reads_and_records_each_partition_in_order(
    resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    for month in ("2013-01-01", "2013-02-01", "2013-03-01", "2013-04-01"):
        dg.materialize([monthly], instance=instance, resources=resources, partition_key=month)
    result = dg.materialize(
        [monthly, windowed], selection=[windowed], instance=instance, resources=resources, partition_key="2013-04-01"
    )
    assert result.output_for_node("windowed")["month"].tolist() == ["2013-02-01", "2013-03-01", "2013-04-01"]
    assert [read.partition for read in read_by(instance, "windowed", "2013-04-01")] == [
        "2013-02-01",
        "2013-03-01",
        "2013-04-01",
    ]


def test_a_window_prefers_what_its_own_run_materialized(
    resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    """Another run materializes the window's last partition between this run's two steps."""

    @dg.asset(deps=[monthly], partitions_def=MONTHS)
    def meddler(context: dg.AssetExecutionContext) -> None:
        CONTENT["value"] = 2
        dg.materialize([monthly], instance=instance, resources=resources, partition_key=context.partition_key)

    @feature_set(partitions_def=MONTHS, window={"monthly": 2}, deps=[meddler])
    def joined(monthly: pd.DataFrame) -> pd.DataFrame:
        return monthly

    earlier = dg.materialize([monthly], instance=instance, resources=resources, partition_key="2013-01-01")
    assets = [monthly, meddler, joined]
    result = dg.materialize(assets, instance=instance, resources=resources, partition_key="2013-02-01")
    read = [version for version in read_by(instance, "joined", "2013-02-01") if version.asset == "monthly"]
    assert [version.run_id for version in read] == [earlier.run_id, result.run_id]
    assert status(instance, assets, "joined", "2013-02-01") is StaleStatus.STALE


def test_a_window_is_shorter_where_the_upstream_begins(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    result = dg.materialize([monthly, windowed], instance=instance, resources=resources, partition_key="2013-01-01")
    assert result.output_for_node("windowed")["month"].tolist() == ["2013-01-01"]


@pytest.mark.parametrize("changed", ["2013-01-01", "2013-03-01"])
def test_a_changed_partition_in_the_window_makes_its_reader_stale(
    resources: dict[str, Any], instance: dg.DagsterInstance, changed: str
) -> None:
    for month in ("2013-01-01", "2013-02-01", "2013-03-01"):
        dg.materialize([monthly], instance=instance, resources=resources, partition_key=month)
    dg.materialize(
        [monthly, windowed], selection=[windowed], instance=instance, resources=resources, partition_key="2013-03-01"
    )
    assert status(instance, [monthly, windowed], "windowed", "2013-03-01") is StaleStatus.FRESH
    CONTENT["value"] = 2
    dg.materialize([monthly], instance=instance, resources=resources, partition_key=changed)
    assert status(instance, [monthly, windowed], "windowed", "2013-03-01") is StaleStatus.STALE


def test_many_partitions_resolve_as_each_does(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    """The partitions are materialized, observed, both or neither, in an order that differs from the names' order."""
    monkeypatch.setattr("ml_assets.artifacts.inputs._PAGE", 40)
    names = [f"p{number:03}" for number in reversed(range(150))]
    for place, name in enumerate(names):
        for event in ((dg.AssetMaterialization, dg.AssetObservation), (dg.AssetObservation,), ())[place % 3]:
            record(instance, event, name)
    for name in names[:30:3]:
        record(instance, dg.AssetMaterialization, name)
    expected = [latest(instance, name) for name in names]
    assert {type(entry.event and entry.event.asset_event) for entry in expected} == {
        dg.AssetMaterialization,
        dg.AssetObservation,
        type(None),
    }
    resolved = latest_versions(instance, MANY, names)
    assert resolved == expected
    newest = max(entry.event.storage_id for entry in resolved if entry.event)
    assert input_tags({MANY: resolved}, instance)[POINTER] == str(newest)


def test_many_partitions_are_not_looked_up_one_by_one(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"p{number:03}" for number in range(150)]
    for name in names:
        record(instance, dg.AssetMaterialization, name)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a partition was looked up alone")

    monkeypatch.setattr(instance, "get_latest_data_version_record", refuse)
    resolved = latest_versions(instance, MANY, names)
    assert [entry.data_version for entry in resolved] == [f"v-{name}" for name in names]
    assert input_tags({MANY: resolved}, instance)


def test_partitions_are_read_as_of_one_moment(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    """All partitions change after the first look; the versions at the first look are read."""
    names = ["a", "b", "c"]
    for name in names:
        record(instance, dg.AssetMaterialization, name)
    expected = [latest(instance, name) for name in names]
    look, looks = instance.get_latest_storage_id_by_partition, []

    def change_after_first_look(*asked: Any) -> Any:
        found = look(*asked)
        looks.append(asked)
        if len(looks) == 1:
            for name in names:
                record(instance, dg.AssetMaterialization, name)
        return found

    monkeypatch.setattr(instance, "get_latest_storage_id_by_partition", change_after_first_look)
    assert latest_versions(instance, MANY, names) == expected


def test_the_pointer_stays_before_a_newer_version_that_was_passed_over(instance: dg.DagsterInstance) -> None:
    for name in ("a", "a", "b"):
        record(instance, dg.AssetMaterialization, name)
    newer, other = latest(instance, "a"), latest(instance, "b")
    assert newer.event is not None
    assert other.event is not None
    older = instance.get_latest_data_version_record(MANY, partition_key="a", before_cursor=newer.event.storage_id)
    read = [ResolvedInput(MANY, "a", older, loaded=True), other]
    assert input_tags({MANY: read}, instance)[POINTER] == str(newer.event.storage_id - 1)
    record(instance, dg.AssetMaterialization, "a")
    assert input_tags({MANY: read}, instance)[POINTER] == str(newer.event.storage_id - 1)


def test_partitions_come_by_name_where_asked(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    seen = {}

    @feature_set(partitions_def=MONTHS, window={"monthly": 2})
    def named(monthly: dict[str, pd.DataFrame]) -> pd.DataFrame:
        seen.update(monthly)
        return pd.concat(monthly.values())

    for month in ("2013-01-01", "2013-02-01"):
        dg.materialize([monthly], instance=instance, resources=resources, partition_key=month)
    dg.materialize(
        [monthly, named], selection=[named], instance=instance, resources=resources, partition_key="2013-02-01"
    )
    assert sorted(seen) == ["2013-01-01", "2013-02-01"]


def test_an_asset_of_another_kind_records_what_it_read(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    @dg.asset(io_manager_key="elsewhere")
    def report(numbers: pd.DataFrame) -> str:
        return f"{len(numbers)} rows"

    result = dg.materialize(
        [numbers, report], instance=instance, resources={**resources, "elsewhere": dg.InMemoryIOManager()}
    )
    (event,) = result.asset_materializations_for_node("report")
    (read,) = event.metadata[INPUTS_METADATA].value
    assert read["asset"] == "numbers"
    assert read["run_id"] == result.run_id


def test_a_missing_input_says_what_to_materialize(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    @feature_set()
    def copied(numbers: pd.DataFrame) -> pd.DataFrame:
        return numbers

    with pytest.raises(InputError, match="numbers: the asset has never been materialized"):
        dg.materialize([numbers, copied], selection=[copied], instance=instance, resources=resources)


def test_an_altered_object_in_the_remote_is_named_and_repaired_by_running_again(
    resources: dict[str, Any], instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    @feature_set()
    def copied(numbers: pd.DataFrame) -> pd.DataFrame:
        return numbers

    dg.materialize([numbers], instance=instance, resources=resources)
    (stored,) = [path for path in (tmp_path / "remote" / "files").rglob("*") if path.is_file()]
    stored.chmod(0o644)
    stored.write_bytes(stored.read_bytes()[:-10])
    for cached in [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]:
        cached.unlink()
    with pytest.raises(ContentCorrupt, match="numbers: "):
        dg.materialize([numbers, copied], selection=[copied], instance=instance, resources=resources)
    assert dg.materialize([numbers, copied], instance=instance, resources=resources).success


REGIONS = dg.StaticPartitionsDefinition(["us", "eu", "asia", "africa"])


def test_dimensions_are_joined_in_one_order(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    days = dg.DailyPartitionsDefinition(start_date="2013-01-01", end_date="2013-01-02")

    @dataset(partitions_def=dg.MultiPartitionsDefinition({"day": days, "region": REGIONS}))
    def sales(context: dg.AssetExecutionContext) -> pd.DataFrame:
        return pd.DataFrame({"region": [context.partition_key.split("|")[1]]})

    @feature_set(partitions_def=days)
    def daily(sales: pd.DataFrame) -> pd.DataFrame:
        return sales

    for region in REGIONS.get_partition_keys():
        dg.materialize([sales], instance=instance, resources=resources, partition_key=f"2013-01-01|{region}")
    result = dg.materialize(
        [sales, daily], selection=[daily], instance=instance, resources=resources, partition_key="2013-01-01"
    )
    assert result.output_for_node("daily")["region"].tolist() == list(REGIONS.get_partition_keys())

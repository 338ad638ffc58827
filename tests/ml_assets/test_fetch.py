"""Lookup of content by reference, in events that the factories record."""

from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ml_assets.artifacts.io_manager import ArtifactStorage
from ml_assets.datasets import dataset
from ml_assets.fetch import StoredArtifact, find_artifact
from ml_assets.resources.errors import AmbiguousReference, InputError, UnknownReference
from ml_assets.resources.identity import AssetPartition, Digest
from ml_assets.resources.provenance import TRACKED_METADATA, Content

VERSIONS = {
    "old": "md5:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1",
    "alike": "md5:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa2",
    "new": "md5:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb3.dir",
}


class Form(dg.Config):
    value: int


@dataset()
def table(config: Form) -> pd.DataFrame:
    return pd.DataFrame({"value": [config.value]})


@dataset(partitions_def=dg.StaticPartitionsDefinition(["a", "b", "aaaaaa"]))
def parts(context: dg.AssetExecutionContext) -> pd.DataFrame:
    return pd.DataFrame({"part": [context.partition_key]})


def observe(instance: dg.DagsterInstance, asset: str, version: str) -> None:
    place = {"repository": "/srv/labels", "remote": None, "version": version, "path": "raw/labels.csv"}
    metadata = {TRACKED_METADATA: dg.MetadataValue.json({**place, "size": 10, "files": 2})}
    tags = {"dagster/data_version": version}
    instance.report_runless_asset_event(dg.AssetObservation(asset, metadata=metadata, tags=tags))


def made(
    instance: dg.DagsterInstance, resources: dict[str, Any], asset: dg.AssetsDefinition, **options: Any
) -> StoredArtifact:
    result = dg.materialize([asset], instance=instance, resources=resources, **options)
    (event,) = result.asset_materializations_for_node(asset.key.to_user_string())
    return find_artifact(instance, f"{asset.key.to_user_string()}@{(event.tags or {})['dagster/data_version']}")


def config(value: int) -> dict[str, Any]:
    return {"ops": {"table": {"config": {"value": value}}}}


def test_asset_alone_is_its_latest_materialization(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    first = made(instance, resources, table, run_config=config(1))
    second = made(instance, resources, table, run_config=config(2))
    assert find_artifact(instance, "table") == second
    assert find_artifact(instance, f"table@{first.data_version}") == first
    assert find_artifact(instance, f"table@{Digest.parse(first.data_version).short}") == first
    assert first.file_name == "table.parquet"
    assert first.artifact == AssetPartition("table")


def test_partition_goes_before_a_version_that_begins_alike(
    resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    for partition in ("aaaaaa", "b"):
        made(instance, resources, parts, partition_key=partition)
    assert find_artifact(instance, "parts@aaaaaa").artifact == AssetPartition("parts", "aaaaaa")
    with pytest.raises(
        AmbiguousReference,
        match=r"2 partitions or versions of parts match\. Next: choose one of: parts@aaaaaa, parts@b",
    ):
        find_artifact(instance, "parts")


def test_only_partition_need_not_be_named(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    made(instance, resources, parts, partition_key="b")
    assert find_artifact(instance, "parts").artifact == AssetPartition("parts", "b")
    with pytest.raises(UnknownReference, match=r"parts has no partition or version a\. Next: choose one of: b"):
        find_artifact(instance, "parts@a")


def test_tracked_dataset_is_found_by_its_observations(instance: dg.DagsterInstance) -> None:
    for version in VERSIONS.values():
        observe(instance, "labels", version)
    newest = find_artifact(instance, "labels")
    assert newest.content == Content(format="directory", version=VERSIONS["new"], size=10, files=2)
    assert newest.file_name == "labels.csv"
    assert find_artifact(instance, "labels@md5:bbbbbb").data_version == VERSIONS["new"]


def test_beginning_of_several_versions_is_ambiguous(instance: dg.DagsterInstance) -> None:
    for version in VERSIONS.values():
        observe(instance, "labels", version)
    with pytest.raises(
        AmbiguousReference,
        match=f"2 partitions or versions of labels match.*labels@{VERSIONS['old']}, labels@{VERSIONS['alike']}",
    ):
        find_artifact(instance, "labels@aaaaaaaa")
    with pytest.raises(UnknownReference, match="no partition or version aaaaa"):
        find_artifact(instance, "labels@aaaaa")


def test_assets_without_content_are_unknown(instance: dg.DagsterInstance) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization("foreign"))
    for reference in ("foreign", "never"):
        with pytest.raises(UnknownReference, match=f"no recorded artifact of an asset '{reference}' has content"):
            find_artifact(instance, reference)


def test_known_versions_are_listed_up_to_a_dozen(instance: dg.DagsterInstance) -> None:
    for number in range(14):
        observe(instance, "labels", f"md5:{number:032x}")
    with pytest.raises(UnknownReference, match=" and 2 more"):
        find_artifact(instance, "labels@ffffff")


def test_image_has_no_content(storage: ArtifactStorage) -> None:
    image = StoredArtifact(AssetPartition("images/train"), "sha256:0", "run", None, 1)
    with pytest.raises(InputError, match="images/train: the artifact is an image"):
        image.stored()
    assert image.store(storage.store) is storage.store

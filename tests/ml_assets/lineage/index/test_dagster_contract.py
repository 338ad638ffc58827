"""Undocumented behavior of Dagster on which lineage relies; if a test fails, check what has changed there.

`event_log` reads Dagster's tables, and `event_parser` reads the format of its events. `test_event_parser` checks with
real runs how Dagster hashes versions.
"""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sql
from dagster._core.definitions.data_version import CODE_VERSION_TAG, NULL_EVENT_POINTER

from ml_assets.dagster_internals import (
    DATA_VERSION_TAG,
    AssetKeyTable,
    SqlEventLogStorage,
    SqlEventLogStorageTable,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from ml_assets.lineage.index import event_parser
from ml_assets.lineage.index.event_log import EventLog
from ml_assets.lineage.index.event_parser import parse_event
from ml_assets.resources.provenance import INPUTS_METADATA
from tests.migrated import Migrated


@pytest.fixture
def instance(tmp_path: Path, migrated: Migrated) -> Iterator[dg.DagsterInstance]:
    with migrated.instance(tmp_path) as instance:
        yield instance


def storage_of(instance: dg.DagsterInstance) -> SqlEventLogStorage:
    storage = instance.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)
    return storage


def test_tags_of_versions_have_the_names_that_are_read() -> None:
    key = dg.AssetKey(["a", "b"])
    assert event_parser._DATA_VERSION_TAG == DATA_VERSION_TAG
    assert event_parser._CODE_VERSION_TAG == CODE_VERSION_TAG
    assert get_input_data_version_tag(key) == event_parser._INPUT_VERSION_TAG + "a/b"
    assert get_input_event_pointer_tag(key) == event_parser._INPUT_POINTER_TAG + "a/b"
    assert event_parser._NO_EVENT == NULL_EVENT_POINTER


def test_tables_have_the_columns_that_are_read() -> None:
    read = {"id", "run_id", "event", "dagster_event_type", "timestamp"}
    assert read <= set(SqlEventLogStorageTable.columns.keys())
    assert {"asset_key", "asset_details"} <= set(AssetKeyTable.columns.keys())


@pytest.mark.parametrize("form", [dg.AssetMaterialization, dg.AssetObservation])
def test_an_event_is_read_as_json_as_dagster_itself_reads_it(
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    form: type[dg.AssetMaterialization | dg.AssetObservation],
) -> None:
    """In any other format, Dagster would have to read every event, which takes six times as long."""
    metadata = {INPUTS_METADATA: dg.MetadataValue.json([{"asset": "a", "data_version": "v"}]), "rows": 1}
    tags = {DATA_VERSION_TAG: "b"}
    instance.report_runless_asset_event(form(["made", "here"], partition="x", metadata=metadata, tags=tags))
    with storage_of(instance).index_connection() as connection:
        (text,) = connection.scalars(sql.select(SqlEventLogStorageTable.c.event))
    assert event_parser._Event.of_json(1, text)
    fast = parse_event(1, text)
    monkeypatch.setattr(event_parser._Event, "of_json", lambda *_: None)
    assert fast == parse_event(1, text)


def test_a_wipe_is_found_where_dagster_notes_it(instance: dg.DagsterInstance) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization("flights"))
    instance.wipe_assets([dg.AssetKey("flights")])
    with storage_of(instance).index_connection() as connection:
        assert set(EventLog(connection).wipes()) == {"flights"}

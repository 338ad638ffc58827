"""The inputs of a past materialization as it read them: only their events, on a separate instance."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.artifacts.inputs import events_by_id
from ml_assets.lineage import explain_missing
from ml_assets.resources.dvc.git import store_of
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import MlAssetsError, ReproductionRefused
from ml_assets.resources.identity import AssetPartition, Digest
from ml_assets.resources.provenance import (
    RECORD_METADATA,
    TRACKED_METADATA,
    InputVersion,
    ProvenanceRecord,
    find_record,
)

__all__ = ["fetch_inputs", "past_inputs", "seed"]


def past_inputs(instance: dg.DagsterInstance, record: ProvenanceRecord) -> dict[InputVersion, dg.EventLogRecord]:
    """Return the event of each input in a record. Leave out an input that is gone if it was not loaded.

    Raises:
        ReproductionRefused: the event of a loaded input is gone, or does not say where its content is.
    """
    by_asset: dict[str, list[InputVersion]] = defaultdict(list)
    for version in record.inputs:
        by_asset[version.asset].append(version)
    found = {}
    for asset, versions in by_asset.items():
        ids = [version.storage_id for version in versions if version.storage_id is not None]
        events = events_by_id(instance, dg.AssetKey.from_user_string(asset), ids)
        for version in versions:
            event = events.get(version.storage_id or 0)
            if event is not None and _is_of(event, version):
                found[version] = event
            elif version.loaded:
                raise _gone(version)
    for version, event in found.items():
        if version.loaded and not {RECORD_METADATA, TRACKED_METADATA} & _metadata(event).keys():
            raise ReproductionRefused(
                f"its input {_named(version)} is stored by its own IO manager, which stores no versions",
                next_step="declare that asset with a factory of ml_assets, to make later results reproducible",
            )
    return found


def fetch_inputs(
    inputs: Mapping[InputVersion, dg.EventLogRecord], store: DvcStore, instance: dg.DagsterInstance
) -> None:
    """Fetch the content of all loaded inputs into the cache, before anything runs.

    Args:
        inputs: versions with their events.
        store: the content store, which keeps them in its cache.
        instance: the instance, which records what `ml-assets gc` collected.

    Raises:
        ReproductionRefused: the content of an input is gone or cannot be fetched.
    """
    for version, event in inputs.items():
        if version.loaded:
            try:
                _fetch(_metadata(event), store)
            except MlAssetsError as error:
                explained = explain_missing(error, version.data_version, instance)
                raise ReproductionRefused(
                    f"the content of its input {_named(version)} cannot be fetched: {explained.what}",
                    next_step=explained.next_step,
                ) from error


def seed(instance: dg.DagsterInstance, events: Iterable[dg.EventLogRecord]) -> None:
    """Write copies of events to another instance, where they are then the latest of their assets and partitions."""
    for record in sorted(events, key=lambda each: each.storage_id):
        event = record.asset_materialization or record.event_log_entry.asset_observation
        if event is not None:
            instance.report_runless_asset_event(event)


def _fetch(metadata: Mapping[str, Any], store: DvcStore) -> None:
    record = find_record(metadata)
    if record is None:
        pointer = metadata[TRACKED_METADATA]
        store_of(Path(pointer["repository"]), pointer["remote"], store.cache).fetch(Digest.parse(pointer["version"]))
    elif record.content is not None:
        store.fetch(Digest.parse(record.content.version))


def _metadata(event: dg.EventLogRecord) -> dict[str, Any]:
    recorded = event.asset_event
    return {name: value.value for name, value in recorded.metadata.items()} if recorded else {}


def _is_of(event: dg.EventLogRecord, version: InputVersion) -> bool:
    """Return True if an event is still the one that was read. SQLite may reuse the id of a deleted event."""
    tags = (event.asset_event.tags if event.asset_event else None) or {}
    return event.partition_key == version.partition and tags.get("dagster/data_version") == version.data_version


def _gone(version: InputVersion) -> ReproductionRefused:
    return ReproductionRefused(
        f"the event that recorded its input {_named(version)} is gone from Dagster's log (its asset was wiped, or its"
        " run deleted)",
        next_step="materialize it again from current inputs; without the event, the location of its content is unknown",
    )


def _named(version: InputVersion) -> str:
    return f"{AssetPartition(version.asset, version.partition)} ({version.data_version})"

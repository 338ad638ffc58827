"""The input versions of a step: resolved once, loaded by content, recorded exactly."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Self

import dagster as dg

from ml_assets.artifacts.partitions import in_order
from ml_assets.dagster_internals import (
    extract_data_version_from_entry,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import InputVersion

__all__ = [
    "ResolvedInput",
    "events_by_id",
    "input_tags",
    "latest_versions",
    "resolve_inputs",
    "windowed_ins",
]

_PAGE: Final = 1000
"""Partitions or events per query: Dagster's own limit."""


@dataclass(frozen=True)
class ResolvedInput:
    """One partition of one upstream asset, and the event that records its content."""

    key: dg.AssetKey
    partition: str | None
    event: dg.EventLogRecord | None
    """None if the upstream was never materialized or observed."""
    loaded: bool

    @property
    def artifact(self) -> AssetPartition:
        """The asset and its partition."""
        return AssetPartition(self.key.to_user_string(), self.partition)

    @property
    def data_version(self) -> str | None:
        """Data version that the event recorded."""
        version = extract_data_version_from_entry(self.event.event_log_entry) if self.event else None
        return version.value if version else None

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata values that the event recorded."""
        entry = self.event.event_log_entry if self.event else None
        event = entry and (entry.asset_materialization or entry.asset_observation)
        return {name: value.value for name, value in event.metadata.items()} if event else {}

    def to_version(self) -> InputVersion | None:
        """Return the version for the provenance record; None if there is none."""
        if self.event is None or self.data_version is None:
            return None
        return InputVersion(
            asset=self.artifact.asset,
            partition=self.partition,
            data_version=self.data_version,
            storage_id=self.event.storage_id,
            run_id=self.event.event_log_entry.run_id,
            loaded=self.loaded,
        )


def resolve_inputs(step: dg.StepExecutionContext) -> dict[dg.AssetKey, list[ResolvedInput]]:
    """Return every input of a step by upstream key, one entry per partition, in the order of the partitions.

    An input is this run's materialization if the upstream ran in it, otherwise the latest. All are read as of one
    moment.
    """
    own_run = _OwnRun.of(step)
    return {
        key: _resolve_key(step.instance, key, partitions, loaded, own_run)
        for key, partitions, loaded in _dependencies(step)
    }


def latest_versions(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Sequence[str | None], *, loaded: bool = True
) -> list[ResolvedInput]:
    """Return the latest version of each partition, as of one moment, for readers outside a step."""
    return _resolve_key(instance, key, partitions, loaded, None)


def events_by_id(
    instance: dg.DagsterInstance, key: dg.AssetKey, storage_ids: Sequence[int]
) -> dict[int, dg.EventLogRecord]:
    """Return materializations and observations of an asset by id, without those that are not in the log."""
    found: dict[int, dg.EventLogRecord] = {}
    for fetch in (instance.fetch_materializations, instance.fetch_observations):
        missing = [storage_id for storage_id in storage_ids if storage_id not in found]
        for start in range(0, len(missing), _PAGE):
            wanted = dg.AssetRecordsFilter(asset_key=key, storage_ids=missing[start : start + _PAGE])
            found.update((record.storage_id, record) for record in fetch(wanted, limit=_PAGE).records)
    return found


def input_tags(inputs: Mapping[dg.AssetKey, Sequence[ResolvedInput]], instance: dg.DagsterInstance) -> dict[str, str]:
    """Return Dagster's own tags for input versions, filled with the versions actually read.

    Dagster itself looks up the versions at another moment. The value for several partitions is the same as Dagster's:
    SHA-256 over the versions in the order of the partitions' names.
    """
    tags = {}
    for key, entries in inputs.items():
        known = [entry for entry in entries if entry.event is not None]
        if not known:
            continue
        if len(known) == 1 and known[0].partition is None:
            version, pointer = known[0].data_version, known[0].event.storage_id  # type: ignore[union-attr]
        else:
            ordered = sorted(known, key=lambda entry: entry.partition or "")
            version = sha256("".join(entry.data_version or "" for entry in ordered).encode()).hexdigest()
            pointer = _cursor(known, instance)
        if version is not None:
            tags[get_input_data_version_tag(key)] = version
            tags[get_input_event_pointer_tag(key)] = str(pointer)
    return tags


def windowed_ins(ins: Mapping[str, dg.AssetIn], window: Mapping[str, int]) -> dict[str, dg.AssetIn]:
    """Return the inputs of an asset, some with a window of partitions up to its own.

    Args:
        ins: inputs as the author declared them.
        window: number of partitions to load, by parameter.

    Raises:
        DefinitionError: a window is empty.
    """
    result = dict(ins)
    for parameter, length in window.items():
        if length < 1:
            raise DefinitionError(
                f"window[{parameter!r}] is {length}", next_step="give the number of partitions, at least 1"
            )
        with warnings.catch_warnings():
            # Marked as beta, but Dagster's documentation recommends it for this purpose.
            warnings.simplefilter("ignore", dg.BetaWarning)
            mapping = dg.TimeWindowPartitionMapping(
                start_offset=1 - length, end_offset=0, allow_nonexistent_upstream_partitions=True
            )
        result[parameter] = result.get(parameter, dg.AssetIn())._replace(partition_mapping=mapping)
    return result


def _dependencies(step: dg.StepExecutionContext) -> list[tuple[dg.AssetKey, list[str | None], bool]]:
    layer = step.job_def.asset_layer
    found: list[tuple[dg.AssetKey, list[str | None], bool]] = []
    for step_input in step.step.step_inputs:
        key = layer.get_asset_key_for_node_input(step.node_handle, step_input.name)
        if key is None:
            continue
        loaded = not step.op_def.input_def_named(step_input.name).dagster_type.is_nothing
        found.append((key, _partitions(step, step_input.name, layer.get(key).partitions_def), loaded))
    return found


def _partitions(
    step: dg.StepExecutionContext, input_name: str, definition: dg.PartitionsDefinition[Any] | None
) -> list[str | None]:
    if not step.has_asset_partitions_for_input(input_name):
        return [None]
    subset = step.asset_partitions_subset_for_input(input_name, require_valid_partitions=False)
    return list(in_order(subset.get_partition_keys(), definition))


@dataclass(frozen=True)
class _OwnRun:
    """The materializations of the step's own run so far."""

    instance: dg.DagsterInstance
    run_id: str
    materialized: frozenset[tuple[dg.AssetKey | None, str | None]]

    @classmethod
    def of(cls, step: dg.StepExecutionContext) -> Self:
        records = step.instance.get_records_for_run(step.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        events = [record.event_log_entry.get_dagster_event() for record in records.records]
        return cls(step.instance, step.run_id, frozenset((event.asset_key, event.partition) for event in events))

    def prefer(
        self, key: dg.AssetKey, partition: str | None, latest: dg.EventLogRecord | None
    ) -> dg.EventLogRecord | None:
        """Return the run's latest materialization; the given latest event if the run has none."""
        if (key, partition) not in self.materialized or (latest and latest.run_id == self.run_id):
            return latest
        return self._find(key, partition) or latest

    def _find(self, key: dg.AssetKey, partition: str | None) -> dg.EventLogRecord | None:
        """Search the asset's events, because the run's own events may have other ids."""
        cursor = None
        while True:
            page = self.instance.fetch_materializations(_filter(key, partition), limit=20, cursor=cursor)
            for record in page.records:
                if record.event_log_entry.run_id == self.run_id:
                    return record
            if not page.has_more:
                return None
            cursor = page.cursor


def _filter(key: dg.AssetKey, partition: str | None) -> dg.AssetRecordsFilter:
    return dg.AssetRecordsFilter(asset_key=key, asset_partitions=None if partition is None else [partition])


def _resolve_key(
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    partitions: Sequence[str | None],
    loaded: bool,
    own_run: _OwnRun | None,
) -> list[ResolvedInput]:
    if len(partitions) < 2 or None in partitions:
        events = {partition: _latest(instance, key, partition) for partition in partitions}
    else:
        events = _as_of_one_moment(instance, key, partitions)
    return [
        ResolvedInput(key, partition, own_run.prefer(key, partition, event) if own_run else event, loaded)
        for partition, event in events.items()
    ]


def _as_of_one_moment(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Sequence[str | None]
) -> dict[str | None, dg.EventLogRecord | None]:
    # Queried twice: a partition may have changed during the lookup of the others.
    horizon = max(_latest_ids(instance, key, partitions).values(), default=0)
    ids = _latest_ids(instance, key, partitions)
    records = events_by_id(instance, key, [storage_id for storage_id in ids.values() if storage_id <= horizon])
    return {
        partition: (records.get(ids[partition]) or _latest(instance, key, partition, before=horizon + 1))
        if partition in ids
        else None
        for partition in partitions
    }


def _latest_ids(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Sequence[str | None]
) -> Mapping[str | None, int]:
    """Return the storage id of `_latest` for each partition that has one, with many partitions per query."""
    found: dict[str | None, int] = {}
    for kind in (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION):
        missing = [partition for partition in partitions if partition is not None and partition not in found]
        for start in range(0, len(missing), _PAGE):
            page = set(missing[start : start + _PAGE])
            found.update(instance.get_latest_storage_id_by_partition(key, kind, page))
    return found


def _latest(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None, before: int | None = None
) -> dg.EventLogRecord | None:
    return instance.get_latest_data_version_record(key, partition_key=partition, before_cursor=before)


def _cursor(entries: Sequence[ResolvedInput], instance: dg.DagsterInstance) -> int:
    """Return the event up to which Dagster may consider the partitions as read.

    This is the latest event read. If another partition had a newer version before it that was skipped in favor of this
    run's own, it is the event before that version, so that the newer version shows as an update.
    """
    newest = max(entry.event.storage_id for entry in entries if entry.event)
    cursor = newest
    latest = _latest_ids(instance, entries[0].key, [entry.partition for entry in entries])
    for entry in entries:
        seen = latest.get(entry.partition)
        if seen is None or seen > newest:
            # Changed since it was read: use the event of that moment.
            record = _latest(instance, entry.key, entry.partition, before=newest + 1)
            seen = record.storage_id if record else None
        if entry.event and seen is not None and seen != entry.event.storage_id:
            cursor = min(cursor, seen - 1)
    return cursor

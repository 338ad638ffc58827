"""Dagster's current view of assets: their staleness, the runs that target them, and the launches of these runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg

from ml_assets.artifacts.inputs import ResolvedInput, events_by_id, latest_versions
from ml_assets.artifacts.record import launch_of
from ml_assets.dagster_internals import (
    ASSET_EVALUATION_ID_TAG,
    USER_TAG,
    CachingStaleStatusResolver,
    LoadingContext,
    StaleStatus,
    extract_data_version_from_entry,
    get_expanded_label,
)
from ml_assets.lineage.code_location import CodeLocation
from ml_assets.lineage.index.event_parser import parse_record
from ml_assets.lineage.why import DagsterReason, Facts, LaterRun, LatestEvent, Status
from ml_assets.resources.errors import AmbiguousReference, RecordError, UnknownReference
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import Launch, LaunchKind, Uncovered, find_record

__all__ = ["Staleness"]

_STATUSES: Final = {
    StaleStatus.FRESH: Status.FRESH,
    StaleStatus.STALE: Status.STALE,
    StaleStatus.MISSING: Status.MISSING,
}
_CODE_VERSION_TAG: Final = "dagster/code_version"
_SHOWN: Final = 6


class Staleness:
    """Collects the known facts about assets at one moment, with the resolver of Dagster's UI.

    Args:
        instance: the instance that records the assets.
        location: the current definitions.
    """

    def __init__(self, instance: dg.DagsterInstance, location: CodeLocation) -> None:
        self._instance, self._location = instance, location
        self._resolver = CachingStaleStatusResolver(instance, location.graph, _Loading(instance))
        self._runs: dict[str, dg.DagsterRun | None] = {}

    def find(self, reference: str) -> AssetPartition:
        """Return the asset or partition written ``key`` or ``key@partition``.

        Raises:
            UnknownReference: no such asset is defined, or it has no such partition.
        """
        try:
            artifact = AssetPartition.parse(reference)
        except ValueError as error:
            raise UnknownReference(str(error), next_step="write it as ASSET or ASSET@PARTITION") from error
        key = dg.AssetKey.from_user_string(artifact.asset)
        if not self._location.graph.has(key):
            known = sorted(each.to_user_string() for each in self._location.graph.get_all_asset_keys())
            raise UnknownReference(
                f"no asset {artifact.asset!r} is defined",
                next_step=f"choose one of: {_several(known)}; or set --module to the module of your definitions",
            )
        partitions = self._location.graph.get(key).partitions_def
        if artifact.partition is None:
            return artifact
        if partitions is None:
            raise UnknownReference(f"{artifact.asset} has no partitions", next_step=f"write {artifact.asset} alone")
        if artifact.partition not in self.partitions(artifact.asset):
            raise UnknownReference(
                f"{artifact.asset} has no partition {artifact.partition!r}",
                next_step=f"choose one of: {_several(self.partitions(artifact.asset))}",
            )
        return artifact

    def partitions(self, asset: str) -> tuple[str, ...]:
        """Return the partitions of an asset; empty if it is not partitioned."""
        partitions = self._location.graph.get(dg.AssetKey.from_user_string(asset)).partitions_def
        return (
            () if partitions is None else tuple(partitions.get_partition_keys(dynamic_partitions_store=self._instance))
        )

    def facts(self, artifact: AssetPartition) -> Facts:
        """Return all known facts about an unpartitioned asset, or about one partition.

        Raises:
            AmbiguousReference: the asset is partitioned, and no partition is named.
            LineageError: its record is malformed, or has a newer form than this version reads.
        """
        key = dg.AssetKey.from_user_string(artifact.asset)
        if artifact.partition is None and self.partitions(artifact.asset):
            raise AmbiguousReference(
                f"{artifact.asset} is partitioned", next_step="name a partition, or ask for a summary"
            )
        reasons = self._reasons(key, artifact.partition)
        latest = self._latest(key, artifact)
        planned = self._instance.event_log_storage.get_latest_planned_materialization_info(key, artifact.partition)
        is_newer = planned is not None and (latest is None or planned.storage_id > int(latest.id.rpartition("#")[2]))
        run = self._run(latest.run_id) if latest else None
        current = self._current(reasons, latest)
        return Facts(
            artifact=artifact,
            status=self._status(key, artifact.partition),
            dagster_reasons=reasons,
            latest=latest,
            later_run=self._later_run(planned.run_id, key) if planned and is_newer else None,
            code_version=self._location.graph.get(key).code_version,
            code=self._location.code(key),
            uncovered=self._location.present(key, _uncovered(latest)),
            current={artifact: entry.data_version for artifact, entry in current.items()},
            same_values=frozenset(self._same_values(latest, current)),
            images=self._location.images,
            launch=latest.record.launch if latest and latest.record else _launch(run),
            conditions=self._conditions(run, key, artifact.partition) if run else (),
        )

    def every(self, asset: str) -> Iterator[Facts]:
        """Return Dagster's facts about each partition of an asset, without records."""
        key = dg.AssetKey.from_user_string(asset)
        storage = self._instance.event_log_storage
        planned = storage.get_latest_asset_partition_materialization_attempts_without_materializations(key)
        for partition in self.partitions(asset):
            reasons = self._reasons(key, partition)
            yield Facts(
                artifact=AssetPartition(asset, partition),
                status=self._status(key, partition),
                dagster_reasons=reasons,
                later_run=self._later_run(planned[partition][0], None) if partition in planned else None,
                images=self._location.images,
            )

    def _status(self, key: dg.AssetKey, partition: str | None) -> Status:
        return _STATUSES[self._resolver.get_status(key, partition)]

    def _reasons(self, key: dg.AssetKey, partition: str | None) -> tuple[DagsterReason, ...]:
        return tuple(
            DagsterReason(
                cause.category.value,
                cause.reason,
                AssetPartition(cause.dependency.asset_key.to_user_string(), cause.dependency.partition_key)
                if cause.dependency
                else None,
            )
            for cause in self._resolver.get_stale_causes(key, partition)
        )

    def _latest(self, key: dg.AssetKey, artifact: AssetPartition) -> LatestEvent | None:
        record = self._instance.get_latest_data_version_record(
            key, self._location.graph.get(key).is_external, artifact.partition
        )
        if record is None or record.asset_event is None:
            return None
        version = extract_data_version_from_entry(record.event_log_entry)
        return LatestEvent(
            id=f"{artifact}#{record.storage_id}",
            moment=datetime.fromtimestamp(record.timestamp, UTC),
            run_id=record.run_id,
            data_version=version.value if version else None,
            code_version=(record.asset_event.tags or {}).get(_CODE_VERSION_TAG),
            record=parse_record(record.storage_id, dg.serialize_value(record.event_log_entry)),
        )

    def _current(
        self, reasons: Sequence[DagsterReason], latest: LatestEvent | None
    ) -> Mapping[AssetPartition, ResolvedInput]:
        wanted = {reason.dependency for reason in reasons if reason.dependency}
        wanted |= {
            AssetPartition(read.asset, read.partition)
            for read in (latest.record.inputs if latest and latest.record else ())
        }
        current: dict[AssetPartition, ResolvedInput] = {}
        for asset in sorted({artifact.asset for artifact in wanted}):
            partitions = sorted({each.partition for each in wanted if each.asset == asset}, key=lambda name: name or "")
            for entry in latest_versions(self._instance, dg.AssetKey.from_user_string(asset), partitions):
                current[entry.artifact] = entry
        return current

    def _same_values(
        self, latest: LatestEvent | None, current: Mapping[AssetPartition, ResolvedInput]
    ) -> Iterator[AssetPartition]:
        """Return the inputs with another version whose tables hold the same values as the recorded ones."""
        for read in latest.record.inputs if latest and latest.record else ():
            entry = current.get(AssetPartition(read.asset, read.partition))
            if entry is None or read.storage_id is None or entry.data_version == read.data_version:
                continue
            recorded = events_by_id(self._instance, entry.key, [read.storage_id]).get(read.storage_id)
            before = replace(entry, event=recorded)
            if (values := _values(before)) is not None and values == _values(entry):
                yield entry.artifact

    def _run(self, run_id: str) -> dg.DagsterRun | None:
        if run_id not in self._runs:
            self._runs[run_id] = self._instance.get_run_by_id(run_id) if run_id else None
        return self._runs[run_id]

    def _later_run(self, run_id: str, key: dg.AssetKey | None) -> LaterRun | None:
        """Return the outcome of a run, with its error if the asset is named."""
        run = self._run(run_id)
        if run is None or run.status is dg.DagsterRunStatus.SUCCESS:
            return None
        error = self._error(run_id, key) if key and run.is_finished else None
        return LaterRun(run_id, run.status.value, run.is_finished, error)

    def _error(self, run_id: str, key: dg.AssetKey) -> str | None:
        """Return the error of the asset's step, or of the first failed step if the asset's step did not run."""
        planned = self._events(run_id, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
        steps = {event.step_key for event in planned if event.asset_key == key}
        failed = self._events(run_id, dg.DagsterEventType.STEP_FAILURE)
        failed.sort(key=lambda event: event.step_key not in steps)
        for event in failed:
            error = event.step_failure_data.error
            cause = error.cause or error if error else None
            line = cause.message.strip().splitlines()[0] if cause and cause.message.strip() else "failed"
            return f"step {event.step_key}: {line}"
        return None

    def _events(self, run_id: str, kind: dg.DagsterEventType) -> list[dg.DagsterEvent]:
        records = self._instance.get_records_for_run(run_id, of_type=kind).records
        return [event for record in records if (event := record.event_log_entry.dagster_event)]

    def _conditions(self, run: dg.DagsterRun, key: dg.AssetKey, partition: str | None) -> tuple[str, ...]:
        """Return the true parts of the automation condition that requested a run."""
        evaluation = run.tags.get(ASSET_EVALUATION_ID_TAG)
        storage = self._instance.schedule_storage
        if storage is None or evaluation is None or not evaluation.isdecimal():
            return ()
        for record in storage.get_auto_materialize_evaluations_for_evaluation_id(int(evaluation)):
            if record.key == key:
                whole = record.get_evaluation_with_run_ids().evaluation
                return tuple(dict.fromkeys(_true_conditions(whole, key, partition)))
        return ()


class _Loading(LoadingContext):
    """The owner of Dagster's caches."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._loaders: dict[type, Any] = {}

    @property
    def instance(self) -> dg.DagsterInstance:
        return self._instance

    @property
    def loaders(self) -> dict[type, Any]:
        return self._loaders


def _uncovered(latest: LatestEvent | None) -> tuple[Uncovered, ...]:
    observed = latest.record.observed if latest and latest.record else None
    return observed.uncovered if observed else ()


def _values(entry: ResolvedInput) -> str | None:
    """Return the digest of a table's values; None if it is not recorded."""
    try:
        record = find_record(entry.metadata)
    except RecordError:
        return None
    return record.content.values if record and record.content else None


def _launch(run: dg.DagsterRun | None) -> Launch | None:
    """Return the launch of a run; with a user only if Dagster recorded one, because this process has another user."""
    if run is None:
        return None
    launch = launch_of(run.tags)
    is_known = launch.kind is not LaunchKind.USER or USER_TAG in run.tags
    return launch if is_known else launch.model_copy(update={"name": None})


def _true_conditions(evaluation: Any, key: dg.AssetKey, partition: str | None) -> Iterator[str]:
    """Return the innermost conditions that held; negated conditions are left out."""
    true = [child for child in evaluation.child_evaluations if _holds(child, key, partition)]
    inner = [child for child in true if child.condition_snapshot.operator_type != "not"]
    for child in inner:
        yield from _true_conditions(child, key, partition)
    if not true:
        about = f" ({evaluation.key.to_user_string()})" if evaluation.key != key else ""
        yield " ".join(get_expanded_label(evaluation, use_label=True)) + about


def _holds(evaluation: Any, key: dg.AssetKey, partition: str | None) -> bool:
    subset = evaluation.true_subset
    if subset.is_empty or partition is None or subset.key != key:
        return not subset.is_empty
    return partition in subset.value


def _several(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "(none exists)") + more

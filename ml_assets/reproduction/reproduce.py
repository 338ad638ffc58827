"""Answers a request: finds the record, runs it again with the current definitions, and judges the result."""

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from ml_assets.artifacts.io_manager import ArtifactStorage
from ml_assets.lineage import Aspect, recorded_differences
from ml_assets.reproduction.comparison import compare
from ml_assets.reproduction.request import ReproductionRequest
from ml_assets.reproduction.rerun import RerunContext, rerun, what_is_other
from ml_assets.reproduction.verdict import Verdict
from ml_assets.resources.errors import MlAssetsError, RecordError, ReproductionRefused, TrackingError
from ml_assets.resources.provenance import ArtifactKind, ProvenanceRecord, find_record

__all__ = ["past_record", "reproduce"]


def reproduce(
    request: ReproductionRequest,
    repository: dg.RepositoryDefinition,
    instance: dg.DagsterInstance,
    storage: ArtifactStorage,
    say: Callable[[str], None],
    dagster_run: str | None = None,
) -> Verdict:
    """Run the requested materialization again, with the current definitions, and judge the result.

    The MLflow run gets the verdict as tags. The verdict is not logged.

    Args:
        request: the materialization to run, and how to judge it.
        repository: all current definitions.
        instance: the instance with the past events; read-only.
        storage: the past artifacts.
        say: receives a line for the user.
        dagster_run: id of the surrounding run.

    Raises:
        ReproductionRefused: one of its inputs is gone, something cannot be pinned, or the rerun fails.
    """
    started_at = datetime.now(UTC)
    try:
        record = past_record(instance, request)
        with tempfile.TemporaryDirectory(prefix="ml-assets-reproduction-") as folder:
            context = RerunContext(repository, instance, storage, Path(folder).resolve(), say)
            other = what_is_other(record, context)
            if other and not request.allow_unpinned:
                raise _unpinned(other)
            made = rerun(record, context)
            say("comparing the result")
            found = compare(record, made, storage, request.tolerance)
    except MlAssetsError as error:
        raise error.for_asset(str(request.artifact)) from error.__cause__
    verdict = Verdict(
        outcome=found.outcome,
        asset=record.asset,
        partition=record.partition,
        storage_id=request.storage_id,
        data_version=record.data_version,
        reproduced_version=made.record.data_version,
        difference=found.difference,
        tolerance=request.tolerance,
        conditions=_conditions(record, made.record),
        warnings=(*(f"not pinned: {each}" for each in other), *found.warnings),
        image=made.record.environment.image,
        commit=made.record.source.commit,
        dagster_run=dagster_run,
        started_at=started_at,
        ended_at=datetime.now(UTC),
    )
    return _tag_mlflow_run(verdict, record, storage)


def past_record(instance: dg.DagsterInstance, request: ReproductionRequest) -> ProvenanceRecord:
    """Return the record that a request names.

    Raises:
        ReproductionRefused: the record is gone, cannot be read, or belongs to an image.
    """
    key = dg.AssetKey.from_user_string(request.asset)
    wanted = dg.AssetRecordsFilter(asset_key=key, storage_ids=[request.storage_id])
    for event in instance.fetch_materializations(wanted, limit=1).records:
        materialization = event.asset_materialization
        try:
            record = find_record(materialization.metadata) if materialization else None
        except RecordError as error:
            raise ReproductionRefused(error.what, next_step=error.next_step, asset=str(request.artifact)) from error
        if record is not None and record.data_version == request.data_version:
            return _reproducible_kind(record)
    raise ReproductionRefused(
        f"event {request.storage_id} of Dagster's log is not, or no longer, its materialization with data version"
        f" {request.data_version}",
        next_step="list its materializations with ml-assets trace",
        asset=str(request.artifact),
    )


def _reproducible_kind(record: ProvenanceRecord) -> ProvenanceRecord:
    if record.kind is ArtifactKind.IMAGE:
        raise ReproductionRefused(
            "it is an image, and images are built, not run",
            next_step="check out its commit, run ml-assets images bootstrap there, and compare the image digests",
            asset=record.asset,
        )
    return record


def _unpinned(other: tuple[str, ...]) -> ReproductionRefused:
    return ReproductionRefused(
        f"it would run under other conditions than recorded: {'; '.join(other)}",
        next_step="run it under the recorded conditions, or use --allow-unpinned; the verdict then lists these",
    )


def _conditions(then: ProvenanceRecord, now: ProvenanceRecord) -> tuple[str, ...]:
    found = sorted(recorded_differences(then, now), key=lambda each: each.aspect)
    return tuple(
        f"{each.aspect.name.lower()} {each.what}: {each.before or 'none'} → {each.after or 'none'}"
        for each in found
        if each.aspect is not Aspect.COMMIT
    )


def _tag_mlflow_run(verdict: Verdict, record: ProvenanceRecord, storage: ArtifactStorage) -> Verdict:
    if record.mlflow is None:
        return verdict
    from ml_assets.resources.tracking.logged_model import set_run_tags

    tracking = storage.tracking
    try:
        set_run_tags(tracking.tracking_uri, tracking.experiment, record.mlflow.run_id, verdict.run_tags())
    except TrackingError as error:
        note = f"the MLflow run {record.mlflow.run_id} could not be tagged: {error.what}"
        return verdict.model_copy(update={"warnings": (*verdict.warnings, note)})
    return verdict

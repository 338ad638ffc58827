"""The image of an image asset that a run's steps use. It stays the same for the whole run."""

from collections.abc import Sequence

import dagster as dg

from ml_assets.resources.provenance import ProvenanceRecord, find_record

__all__ = ["image_record"]

_PAGE = 100


def image_record(instance: dg.DagsterInstance, run: dg.DagsterRun, asset: str) -> ProvenanceRecord | None:
    """Return the image record of an image asset for a run; None if it has none.

    If the run has made the image, this is the run's own record. Otherwise it is the newest record at the start of the
    run, so that a run keeps its images when an upgrade makes new ones. If there was none then, it is the newest now.

    Args:
        instance: instance that recorded the materialization.
        run: run whose steps use the image.
        asset: its key.
    """
    key = dg.AssetKey.from_user_string(asset)
    newest = _materializations(instance, key, limit=1)
    if not newest:
        return None
    if newest[0].run_id == run.run_id:
        return _record(newest[0])
    began = _beginning(instance, run)
    if began is None or newest[0].timestamp <= began:
        return _record(newest[0])
    later = _materializations(instance, key, limit=_PAGE, after=began)
    own = [each for each in later if each.run_id == run.run_id]
    return _record((own or _materializations(instance, key, limit=1, before=began) or newest)[0])


def _beginning(instance: dg.DagsterInstance, run: dg.DagsterRun) -> float | None:
    found = instance.get_run_record_by_id(run.run_id)
    return None if found is None else found.start_time or found.create_timestamp.timestamp()


def _materializations(
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    *,
    limit: int,
    before: float | None = None,
    after: float | None = None,
) -> Sequence[dg.EventLogRecord]:
    """Return the materializations, newest first."""
    wanted = dg.AssetRecordsFilter(asset_key=key, before_timestamp=before, after_timestamp=after)
    return instance.fetch_materializations(wanted, limit=limit).records


def _record(materialization: dg.EventLogRecord) -> ProvenanceRecord | None:
    event = materialization.asset_materialization
    return find_record(event.metadata) if event else None

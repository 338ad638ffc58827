"""Which image a run's steps have of an image asset: one for the whole run, whatever is made meanwhile."""

from collections.abc import Sequence

import dagster as dg

from ml_assets.resources.provenance import ProvenanceRecord, find_record

__all__ = ["image_record"]

_PAGE = 100


def image_record(instance: dg.DagsterInstance, run: dg.DagsterRun, asset: str) -> ProvenanceRecord | None:
    """What an image asset's materialization recorded, for a run; None if it has none.

    It is the run's own, where it has made the image; else the newest as the run began, so that a run goes on in its
    images when an upgrade makes others; and the newest of all for a run that began before there was any.

    Args:
        instance: where it was materialized.
        run: whose steps are to run in it.
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
    """The newest first."""
    wanted = dg.AssetRecordsFilter(asset_key=key, before_timestamp=before, after_timestamp=after)
    return instance.fetch_materializations(wanted, limit=limit).records


def _record(materialization: dg.EventLogRecord) -> ProvenanceRecord | None:
    event = materialization.asset_materialization
    return find_record(event.metadata) if event else None

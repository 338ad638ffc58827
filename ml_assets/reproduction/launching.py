"""Reproduction with containers: an ordinary run of the job, with its step placed in the recorded image."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.dagster_internals import MAX_RETRIES_TAG, REPOSITORY_LABEL_TAG, JobPythonOrigin, RemoteJobOrigin
from ml_assets.executors.database_retry import retry_database_operations
from ml_assets.executors.event_tail import EventTail
from ml_assets.executors.resume import placement_of
from ml_assets.placement import Placement
from ml_assets.reproduction.job import JOB_NAME, OP_NAME, REFUSAL_METADATA, reproduction_job
from ml_assets.reproduction.request import ReproductionRequest
from ml_assets.reproduction.verdict import Verdict
from ml_assets.resources.errors import RegistryError, ReproductionRefused
from ml_assets.resources.identity import ImageReference
from ml_assets.resources.provenance import OVERRIDES_TAG, REPRODUCTION_METADATA, ImageLabels, ProvenanceRecord

if TYPE_CHECKING:
    from ml_assets.resources.pools import Pool
    from ml_assets.resources.registry.client import RegistryClient

__all__ = ["ReproductionRun", "reproduce_in_image", "require_image"]

_LOOK_SECONDS = 1.0
_RUNS = 20
_TOLD = {
    dg.DagsterEventType.PIPELINE_ENQUEUED,
    dg.DagsterEventType.PIPELINE_STARTING,
    dg.DagsterEventType.PIPELINE_START,
    dg.DagsterEventType.STEP_WORKER_STARTING,
    dg.DagsterEventType.STEP_START,
}


def reproduce_in_image(
    request: ReproductionRequest,
    record: ProvenanceRecord,
    instance: dg.DagsterInstance,
    pools: Mapping[str, "Pool"],
    pool: str | None,
    say: Callable[[str], None],
) -> Verdict:
    """Launch a run that runs a record's materialization again in its image, and wait for the verdict.

    The instance's own run launcher launches the run, from the past run's code location as its newest run has it. Only
    the run logs the verdict. An interruption of this function cancels the run.

    Args:
        request: the request.
        record: the record that it names.
        instance: the instance of the record, which gets the run.
        pools: the pools of today.
        pool: the pool to run on; by default the recorded pool, with the resources that the step had there.
        say: receives a line for the user.

    Raises:
        ReproductionRefused: the pool is gone, no code location is known, or the run gives no verdict.
    """
    retry_database_operations(instance)
    run = ReproductionRun.of(request, record, instance, pools, pool).create(instance)
    say(f"launched run {run.run_id} of job {JOB_NAME} in {record.environment.image}")
    try:
        instance.submit_run(run.run_id, workspace=None)  # type: ignore[arg-type]  # no coordinator or launcher of ours reads it
        ended = _wait(instance, run.run_id, say)
    except BaseException:
        instance.run_coordinator.cancel_run(run.run_id)
        say(f"canceled run {run.run_id}")
        raise
    return _verdict(instance, ended, request)


def require_image(
    image: str, request: ReproductionRequest, registry: "RegistryClient", say: Callable[[str], None]
) -> None:
    """Refuse an image that is gone, or whose code cannot read the request.

    Raises:
        ReproductionRefused: the image is gone, or its code cannot read the request.
    """
    try:
        labels = registry.labels(ImageReference.parse(image)) if registry.find(image) else None
    except RegistryError as error:
        say(f"cannot check whether the image still exists: {error.what}")
        return
    if labels is None:
        raise ReproductionRefused(
            f"its image {image} is gone from the registry",
            next_step="push it again from another copy; a rebuilt image has a different digest",
            asset=str(request.artifact),
        )
    reads = labels.get(ImageLabels.REPRODUCES)
    if reads != str(request.version) and ImageLabels.BUILD_KEY in labels:
        why = f"reads requests of format {reads}" if reads else "was built before ml-assets could reproduce"
        raise ReproductionRefused(
            f"its image {image} {why}, but this request has format {request.version}",
            next_step="use the matching version of ml-assets, or materialize it in a later image",
            asset=str(request.artifact),
        )


class ReproductionRun:
    """A run of the job that is not yet created in Dagster.

    Args:
        request: the config of its op.
        placement: the override that places its step.
        code: the origin from which a run worker loads the job.
        location: the origin of the job in its code location.
        label: tag that names the code location, if any.
    """

    def __init__(
        self,
        request: ReproductionRequest,
        placement: Mapping[str, Any],
        code: JobPythonOrigin,
        location: RemoteJobOrigin,
        label: str | None,
    ) -> None:
        self.request, self.placement = request, placement
        self._code, self._location, self._label = code, location, label

    @classmethod
    def of(
        cls,
        request: ReproductionRequest,
        record: ProvenanceRecord,
        instance: dg.DagsterInstance,
        pools: Mapping[str, "Pool"],
        pool: str | None,
    ) -> "ReproductionRun":
        """Return the run that reproduces a record."""
        placement = {"image": record.environment.image, **_pool_and_resources(record, instance, pool)}
        if placement["pool"] not in pools:
            raise ReproductionRefused(
                f"it ran on pool {placement['pool']!r}, which no longer exists",
                next_step=f"name another one with --pool: {', '.join(sorted(pools)) or '(there is none)'}",
                asset=str(request.artifact),
            )
        like = _newest_run(record, instance)
        if like is None or like.job_code_origin is None or like.remote_job_origin is None:
            raise ReproductionRefused(
                "Dagster's database has no run of its code location, which a new run needs as a template",
                next_step="launch any run of that code location from the UI, then run this command again",
                asset=str(request.artifact),
            )
        code = JobPythonOrigin(JOB_NAME, like.job_code_origin.repository_origin)
        location = RemoteJobOrigin(like.remote_job_origin.repository_origin, JOB_NAME)
        return cls(request, placement, code, location, like.tags.get(REPOSITORY_LABEL_TAG))

    def create(self, instance: dg.DagsterInstance) -> dg.DagsterRun:
        """Create the run in the instance and return it, without submitting it."""
        from ml_assets.artifacts.io_manager import STORAGE_KEY

        # Only a copy of the job for Dagster's pages: the run worker loads the one in the code location.
        likeness = dg.Definitions(
            jobs=[reproduction_job()], resources={STORAGE_KEY: dg.ResourceDefinition.none_resource()}
        ).resolve_job_def(JOB_NAME)
        tags = {OVERRIDES_TAG: json.dumps({OP_NAME: dict(self.placement)}), MAX_RETRIES_TAG: "0"}
        return instance.create_run_for_job(
            likeness,
            run_config={"ops": {OP_NAME: {"config": {"request": self.request.model_dump_json()}}}},
            tags=tags | ({REPOSITORY_LABEL_TAG: self._label} if self._label else {}),
            remote_job_origin=self._location,
            job_code_origin=self._code,
        )


def _pool_and_resources(record: ProvenanceRecord, instance: dg.DagsterInstance, pool: str | None) -> dict[str, Any]:
    """Return the pool and resources. The number of cores limits threads, and so affects the bits of the result."""
    if pool is not None:
        return {"pool": pool}
    placements = [placement for placement in _placements(record, instance) if placement.pool == record.environment.pool]
    if not placements:
        return {"pool": record.environment.pool}
    last = placements[-1]
    return {"pool": last.pool, "cpus": last.cpus, "memory": last.memory, "accelerators": last.accelerators}


def _placements(record: ProvenanceRecord, instance: dg.DagsterInstance) -> Iterator[Placement]:
    """Return the placements of the step's launches; none if its run is gone."""
    starting = dg.DagsterEventType.STEP_WORKER_STARTING
    for each in instance.get_records_for_run(record.dagster_run, of_type=starting).records:
        event = each.event_log_entry.dagster_event
        placement = placement_of(event) if event else None
        if placement is not None and placement.step == record.dagster_step:
            yield placement


def _newest_run(record: ProvenanceRecord, instance: dg.DagsterInstance) -> dg.DagsterRun | None:
    """Return the newest run of the past run's code location, which names the code that run workers load today."""
    past = instance.get_run_by_id(record.dagster_run)
    label = past.tags.get(REPOSITORY_LABEL_TAG) if past else None
    tags = {REPOSITORY_LABEL_TAG: label} if label else {}
    runs = [*instance.get_runs(dg.RunsFilter(tags=tags), limit=_RUNS), *([past] if past else [])]
    return next((run for run in runs if run.remote_job_origin and run.job_code_origin), None)


def _wait(instance: dg.DagsterInstance, run_id: str, say: Callable[[str], None]) -> dg.DagsterRun:
    tail = EventTail(instance, run_id)
    while True:
        run = instance.get_run_by_id(run_id)
        for record in tail.new():
            _tell(record.event_log_entry, say)
        if run is None or run.is_finished:
            return run or dg.DagsterRun(JOB_NAME, run_id, status=dg.DagsterRunStatus.CANCELED)
        time.sleep(_LOOK_SECONDS)


def _tell(entry: dg.EventLogEntry, say: Callable[[str], None]) -> None:
    event = entry.dagster_event
    if event is None or event.event_type in _TOLD:
        say(entry.user_message or (event.message if event else None) or entry.message)


def _verdict(instance: dg.DagsterInstance, run: dg.DagsterRun, request: ReproductionRequest) -> Verdict:
    records = instance.get_records_for_run(
        run.run_id, of_type={dg.DagsterEventType.ASSET_OBSERVATION, dg.DagsterEventType.STEP_FAILURE}
    ).records
    why = f"its run {run.run_id} ended as {run.status.value}"
    for event in (record.event_log_entry.get_dagster_event() for record in records):
        if event.is_step_failure:
            failure = event.step_failure_data
            entry = (failure.user_failure_data.metadata if failure.user_failure_data else {}).get(REFUSAL_METADATA)
            if entry is not None:
                said: Any = entry.value
                raise ReproductionRefused(said["what"], next_step=said["next_step"], asset=said["asset"])
            why += f": {failure.error.message.strip()}" if failure.error else ""
            continue
        observation = event.asset_observation_data.asset_observation
        if REPRODUCTION_METADATA in observation.metadata:
            return Verdict.model_validate(observation.metadata[REPRODUCTION_METADATA].value)
    raise ReproductionRefused(
        why, next_step="see the run in the Dagster UI, and run again", asset=str(request.artifact)
    )

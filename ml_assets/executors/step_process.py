"""The process of a step inside its container: it checks its environment and then runs the step.

Each event carries the number of its launch, so that the executor recognizes events of a launch that it gave up.
"""

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import dagster as dg

from ml_assets.containers import IMAGES_GROUP
from ml_assets.dagster_internals import (
    IO_TYPE_EXTENSION,
    CloudStorageComputeLogManager,
    ComputeIOType,
    ErrorSource,
    ExecuteStepArgs,
    LocalComputeLogManager,
    SerializableErrorInfo,
    StepFailureData,
    capture_interrupts,
    execute_step,
    get_instance_for_cli,
    recon_job_from_origin,
)
from ml_assets.executors.container_request import unpacked
from ml_assets.executors.database_retry import call_with_retries, retry_database_operations
from ml_assets.executors.event_tail import launch_of_event
from ml_assets.executors.failures import INTERRUPTED_EXIT, REPLACED_EXIT
from ml_assets.executors.resume import placement_of
from ml_assets.placement import Placement, placed
from ml_assets.resources.errors import AcceleratorUnavailable, CodeMismatch, PlacementError
from ml_assets.resources.machine.hardware import hardware
from ml_assets.resources.provenance import LAUNCH_EVENT_TAG

__all__ = ["rescue_log", "run"]

_FINAL = frozenset(
    {
        dg.DagsterEventType.ASSET_MATERIALIZATION,
        dg.DagsterEventType.ASSET_CHECK_EVALUATION,
        dg.DagsterEventType.STEP_SUCCESS,
        dg.DagsterEventType.STEP_FAILURE,
        dg.DagsterEventType.STEP_UP_FOR_RETRY,
    }
)
"""Events that must not come from a launch that was given up."""
_LAST_LINES = 10
_GARBAGE = (50_000, 20, 100)
"""Thresholds of garbage collection by generation; Python's defaults are 700, 10, 10."""
_OPENING_SECONDS = 120
"""Time to wait for Dagster's database at start. It is short, so that an unreachable database is reported quickly."""


def run(arguments: Sequence[str]) -> None:
    """Run the step that the arguments describe.

    Exits with `REPLACED_EXIT` if another container is or was this launch of the step, and with `INTERRUPTED_EXIT` if it
    was asked to end.
    """
    execution = dg.deserialize_value(unpacked(arguments[0]), ExecuteStepArgs)
    placement = Placement.model_validate_json(arguments[1])
    with capture_interrupts(), ExitStack() as stack:
        instance = call_with_retries(
            lambda: stack.enter_context(get_instance_for_cli(instance_ref=execution.instance_ref)), _OPENING_SECONDS
        )
        dagster_run = call_with_retries(lambda: instance.get_run_by_id(execution.run_id), _OPENING_SECONDS)
        if dagster_run is None:
            sys.exit(f"run {execution.run_id} is no longer in Dagster's database")
        launch = _Launch(instance, dagster_run, placement)
        launch.stamp_events()
        # Must follow stamp_events, so that each retry checks again if the launch was given up during the outage.
        retry_database_operations(instance)
        if launch.has_started():
            print("another container of this launch has already started; leaving the step to the executor")
            sys.exit(REPLACED_EXIT)
        try:
            _check_code(dagster_run, placement)
            _check_accelerators(placement)
        except PlacementError as error:
            launch.fail(error)
            return
        _collect_garbage()
        try:
            with placed(placement):
                for _ in execute_step(execution, instance, dagster_run):
                    pass
        except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
            sys.exit(INTERRUPTED_EXIT)
        if launch.was_interrupted:
            sys.exit(INTERRUPTED_EXIT)


def _collect_garbage() -> None:
    """Collect garbage rarely from now on, because further imports leave no garbage and existing objects stay."""
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
    gc.enable()


def rescue_log(arguments: Sequence[str]) -> None:
    """Print the last lines of a step whose process was ended, and upload its log if logs are uploaded."""
    execution = dg.deserialize_value(unpacked(arguments[0]), ExecuteStepArgs)
    placement = Placement.model_validate_json(arguments[1])
    with get_instance_for_cli(instance_ref=execution.instance_ref) as instance:
        manager = instance.compute_log_manager
        dagster_run = instance.get_run_by_id(execution.run_id)
        local = manager.local_manager if isinstance(manager, CloudStorageComputeLogManager) else manager
        if dagster_run is None or not isinstance(local, LocalComputeLogManager):
            return
        for file_key in _Launch(instance, dagster_run, placement).log_files():
            log_key = manager.build_log_key_for_run(dagster_run.run_id, file_key)
            for io_type in (ComputeIOType.STDERR, ComputeIOType.STDOUT):
                _print_last_lines(Path(local.get_captured_local_path(log_key, IO_TYPE_EXTENSION[io_type])))
                if isinstance(manager, CloudStorageComputeLogManager):
                    manager.upload_to_cloud_storage(log_key, io_type)


def _print_last_lines(file: Path) -> None:
    # The process that copies the captured log to the container's log may have ended before it copied these lines.
    if file.exists():
        for line in file.read_text(errors="replace").splitlines()[-_LAST_LINES:]:
            print(line, flush=True)


class _Launch:
    """This launch of the step, according to the event log."""

    def __init__(self, instance: dg.DagsterInstance, run: dg.DagsterRun, placement: Placement) -> None:
        self._instance, self._run, self._placement = instance, run, placement
        self.was_interrupted = False

    def has_started(self) -> bool:
        """Return True if a container of this launch has already started. Engines may replace a deleted container."""
        return any(
            event.step_key == self._placement.step and launch_of_event(event) == self._placement.number
            for event in self._events(dg.DagsterEventType.STEP_WORKER_STARTED)
        )

    def was_given_up(self) -> bool:
        """Return True if the executor has launched the step again."""
        later = (placement_of(event) for event in self._events(dg.DagsterEventType.STEP_WORKER_STARTING))
        return any(
            other is not None and other.step == self._placement.step and other.number > self._placement.number
            for other in later
        )

    def log_files(self) -> list[str]:
        """Return the keys of the logs that this launch has captured."""
        return [
            event.logs_captured_data.file_key
            for event in self._events(dg.DagsterEventType.LOGS_CAPTURED)
            if launch_of_event(event) == self._placement.number
            and self._placement.step in (event.logs_captured_data.step_keys or ())
        ]

    def stamp_events(self) -> None:
        """Write this launch's number into each event; end the process if the launch was given up."""
        storage = self._instance.event_log_storage
        store = storage.store_event

        def stamped(entry: dg.EventLogEntry) -> None:
            event = entry.dagster_event
            if event is None:
                return store(entry)
            if _is_interrupt(event) and not self._is_canceled():
                self.was_interrupted = True
                return None  # The executor finds out who ended the container and decides on the reaction.
            if event.event_type in _FINAL and self.was_given_up():
                print(f"this launch of {self._placement.step} was given up; {event.event_type_value} is not recorded")
                sys.stdout.flush()
                os._exit(REPLACED_EXIT)
            tags = {**(event.logging_tags or {}), LAUNCH_EVENT_TAG: str(self._placement.number)}
            return store(entry._replace(dagster_event=event._replace(logging_tags=tags)))

        def stamped_batch(entries: Sequence[dg.EventLogEntry]) -> None:
            for entry in entries:
                stamped(entry)

        vars(storage).update(store_event=stamped, store_event_batch=stamped_batch)

    def _is_canceled(self) -> bool:
        run = self._instance.get_run_by_id(self._run.run_id)
        return run is None or run.status is not dg.DagsterRunStatus.STARTED

    def fail(self, error: PlacementError) -> None:
        """Record that the step failed before it started; a retry would not help."""
        info = SerializableErrorInfo(str(error), stack=[], cls_name=type(error).__name__)
        event = dg.DagsterEvent(
            dg.DagsterEventType.STEP_FAILURE.value,
            self._run.job_name,
            step_key=self._placement.step,
            message=str(error),
            event_specific_data=StepFailureData(info, None),  # type: ignore[no-untyped-call]
        )
        self._instance.report_dagster_event(event, self._run.run_id)

    def _events(self, of_type: dg.DagsterEventType) -> list[dg.DagsterEvent]:
        records = self._instance.get_records_for_run(self._run.run_id, of_type=of_type).records
        events = (record.event_log_entry.dagster_event for record in records)
        return [event for event in events if event is not None]


def _is_interrupt(event: dg.DagsterEvent) -> bool:
    """Return True if the event is a failure or retry that was caused by a request to end the process."""
    if event.is_step_failure:
        if event.step_failure_data.error_source is ErrorSource.INTERRUPT:
            return True
        error = event.step_failure_data.error
    elif event.is_step_up_for_retry:
        error = event.step_retry_data.error
    else:
        return False
    while error is not None:
        if error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
            return True
        error = error.cause
    return False


def _check_code(run: dg.DagsterRun, placement: Placement) -> None:
    if not placement.code_versions or run.job_code_origin is None:
        return
    graph = recon_job_from_origin(run.job_code_origin).get_definition().asset_layer.asset_graph
    for name, expected in placement.code_versions.items():
        key = dg.AssetKey.from_user_string(name)
        found = graph.get(key).code_version if graph.has(key) else None
        if found != expected:
            has = f"has code version {found}" if found else "does not contain the asset"
            raise CodeMismatch(
                f"the code location expects code version {expected}, but the image {placement.image} {has}",
                next_step=f"{_anew(key, placement)}, then run the step again; or reload the code location",
                asset=name,
            )


def _anew(key: dg.AssetKey, placement: Placement) -> str:
    """Return the advice to make the step's image again. The image may be the builder image itself."""
    if key.path[0] == IMAGES_GROUP and placement.image_asset:
        return f"run ml-assets images bootstrap {placement.image_asset.rpartition('/')[2]}"
    return f"materialize {placement.image_asset}"


def _check_accelerators(placement: Placement) -> None:
    if not placement.accelerators or not placement.check_accelerators:
        return
    found = hardware().accelerators
    if len(found) < placement.accelerators:
        raise AcceleratorUnavailable(
            f"pool {placement.pool} promises {placement.accelerators} accelerators, but the container has "
            + (", ".join(found) or "none"),
            next_step="check the node's driver and device plugin, or set check_accelerators = false to skip this check",
            asset=placement.step,
        )

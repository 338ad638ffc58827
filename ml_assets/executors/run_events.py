"""Events that the executor writes into a run's event log, shown in the Dagster UI."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from ml_assets.dagster_internals import EngineEventData, SerializableErrorInfo, StepFailureData, UserFailureData
from ml_assets.executors.engine import ContainerEngine
from ml_assets.executors.failures import Failure, Reaction
from ml_assets.placement import Placement
from ml_assets.resources.errors import MlAssetsError
from ml_assets.resources.provenance import LAUNCH_TIMES_METADATA, PLACEMENT_METADATA
from ml_assets.resources.usage import LaunchTimes

if TYPE_CHECKING:
    from ml_assets.dagster_internals import IStepContext, KnownExecutionState, PlanOrchestrationContext

__all__ = [
    "FailOrRetry",
    "again",
    "begun_by",
    "failed",
    "image_ran",
    "launching",
    "left_to_successor",
    "misplaced",
    "not_initialized",
    "resumed",
    "started",
    "superseded",
    "unreachable",
    "waiting",
]

FailOrRetry = Callable[["IStepContext", SerializableErrorInfo, "KnownExecutionState"], object]
"""Dagster's function that records a failed attempt, or a retry if the retry policy allows it."""

_WORKER = "run worker"


def started(
    context: "PlanOrchestrationContext", engine: ContainerEngine, unmatched: Mapping[str, str], worker: str
) -> None:
    """Record that the loop of a run worker starts, and that the overrides in ``unmatched`` have no effect."""
    verb = "Resuming" if context.resume_from_failure else "Launching"
    known = EngineEventData(metadata={_WORKER: dg.MetadataValue.text(worker)})
    dg.DagsterEvent.engine_event(context, f"{verb} steps as {engine.name} {engine.noun}s", known)
    if unmatched:
        message = f"Overrides that match no step of this run: {', '.join(map(''.join, unmatched.items()))}"
        dg.DagsterEvent.engine_event(context, message, EngineEventData())


def begun_by(event: dg.DagsterEvent) -> str | None:
    """Return the run worker whose start `started` recorded in an event; None for other events."""
    if event.event_type is not dg.DagsterEventType.ENGINE_EVENT or event.step_key is not None:
        return None
    found = event.engine_event_data.metadata.get(_WORKER)
    return str(found.value) if found is not None else None


def superseded(context: "PlanOrchestrationContext") -> None:
    """Record that another run worker has taken over from this one, which was presumed lost."""
    dg.DagsterEvent.engine_event(
        context, "Another run worker has taken over this run; this run worker stops", EngineEventData()
    )


def resumed(context: "PlanOrchestrationContext", names: Sequence[str]) -> None:
    """Record that a successor has taken over its predecessor's launches."""
    message = f"Took over {', '.join(names)}" if names else "No step was running"
    dg.DagsterEvent.engine_event(context, message, EngineEventData())


def left_to_successor(context: "PlanOrchestrationContext", names: Sequence[str]) -> None:
    """Record that the run worker must end while its steps continue."""
    message = f"The run worker was asked to end. Steps left running for its successor: {', '.join(names) or 'none'}"
    dg.DagsterEvent.engine_event(context, message, EngineEventData())


def unreachable(context: "PlanOrchestrationContext", error: MlAssetsError) -> None:
    """Record that the engine does not answer; the loop keeps retrying."""
    dg.DagsterEvent.engine_event(context, f"{error} Retrying; running steps continue", EngineEventData())


def launching(step: "IStepContext", engine: ContainerEngine, name: str, placement: Placement) -> None:
    """Record that a container is about to be ordered. A successor finds it by this event."""
    dg.DagsterEvent.step_worker_starting(
        step,
        message=f"Running on pool {placement.pool} ({_resources(placement)}) as {engine.noun} {name}",
        metadata={
            engine.noun: dg.MetadataValue.text(name),
            "pool": dg.MetadataValue.text(placement.pool),
            "image": dg.MetadataValue.text(placement.image),
            PLACEMENT_METADATA: dg.MetadataValue.json(placement.model_dump(mode="json")),
        },
    )


def waiting(step: "IStepContext", name: str, reason: str, limit: int | None) -> None:
    """Record why a container waits, as the engine reports it."""
    patience = f" (at most {limit} seconds)" if limit is not None else ""
    dg.DagsterEvent.engine_event(step, f"{name} is waiting{patience}: {reason}", EngineEventData())


def image_ran(step: "IStepContext", image_id: str, ran: bool | None, times: LaunchTimes) -> None:
    """Record the running image and the container's start-up times. Usage reads the times from this event."""
    verdicts = {
        True: "The runtime runs the requested image",
        False: "The runtime does not run the requested image",
        None: "Cannot check that the runtime runs the requested image: the registry did not provide its digests",
    }
    metadata: dict[str, dg.MetadataValue] = {
        "image id": dg.MetadataValue.text(image_id),
        LAUNCH_TIMES_METADATA: dg.MetadataValue.json(times.model_dump(mode="json")),
    }
    dg.DagsterEvent.engine_event(step, verdicts[ran], EngineEventData(metadata=metadata))


def again(step: "IStepContext", failure: Failure, before: Placement, after: Placement, limit: int) -> None:
    """Record that the same attempt is launched again.

    Args:
        step: the step.
        failure: the failure of the previous launch.
        before: placement of the previous launch.
        after: placement of the next launch.
        limit: number of interruptions after which the pool of the next launch is given up.
    """
    if after.pool != before.pool:
        what = f"Relaunching on fallback pool {after.pool} ({_resources(after)})"
    elif after.memory != before.memory:
        what = f"Relaunching with {after.memory} of memory instead of {before.memory}"
    else:
        what = f"Relaunching (interruption {after.interruptions} of {limit} on pool {after.pool})"
    dg.DagsterEvent.engine_event(step, f"{what}: {failure.described()}", EngineEventData(metadata=_evidence(failure)))


def failed(
    step: "IStepContext", failure: Failure, known_state: "KnownExecutionState", fail_or_retry: FailOrRetry
) -> None:
    """Record that the attempt has failed. The author's retry policy applies unless the cause excludes retries."""
    error = SerializableErrorInfo(failure.described(), stack=[], cls_name=failure.cause.name)
    if failure.cause.reaction not in (Reaction.FAIL, Reaction.FALL_BACK):
        policy = step.op_retry_policy
        attempts = known_state.get_retry_state().get_attempt_count(step.step.key)
        if policy is not None and not step.retry_mode.disabled and attempts < policy.max_retries:
            fail_or_retry(step, error, known_state)
            return
    _fail(step, error, failure.cause.value, failure.detail, _evidence(failure))


def not_initialized(
    step: "IStepContext", event: dg.DagsterEvent, known_state: "KnownExecutionState", fail_or_retry: FailOrRetry
) -> None:
    """Record that a resource could not be created, so the step never started."""
    error = event.engine_event_data.error or SerializableErrorInfo(event.message or "", stack=[], cls_name=None)
    fail_or_retry(step, error, known_state)


def misplaced(step: "IStepContext", error: MlAssetsError) -> None:
    """Record that a step cannot be placed."""
    _fail(step, SerializableErrorInfo(str(error), stack=[], cls_name=type(error).__name__), "placement", str(error), {})


def _fail(
    step: "IStepContext",
    error: SerializableErrorInfo,
    label: str,
    detail: str,
    metadata: dict[str, dg.MetadataValue],
) -> None:
    data = StepFailureData(error, UserFailureData(label, detail, metadata))  # type: ignore[no-untyped-call]
    dg.DagsterEvent.step_failure_event(step, data, f"{label}: {detail}")


def _evidence(failure: Failure) -> dict[str, dg.MetadataValue]:
    evidence: dict[str, dg.MetadataValue] = {
        "cause": dg.MetadataValue.text(failure.cause.value),
        "what to do": dg.MetadataValue.text(failure.cause.hint),
    }
    if failure.events:
        evidence["events"] = dg.MetadataValue.md("\n".join(f"- {line}" for line in failure.events))
    if failure.log:
        evidence["last lines of the log"] = dg.MetadataValue.md("```\n" + "\n".join(failure.log) + "\n```")
    return evidence


def _resources(placement: Placement) -> str:
    accelerators = f", {placement.accelerators} accelerators" if placement.accelerators else ""
    return f"{placement.cpus:g} CPUs, {placement.memory}{accelerators}"

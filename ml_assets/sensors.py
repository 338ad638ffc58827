"""Sensors for every deployment. They send alerts for failures, and clean up after steps that were killed."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from ml_assets.artifacts.io_manager import ArtifactStorage
from ml_assets.artifacts.record import launch_of
from ml_assets.dagster_internals import (
    InstigatorState,
    InstigatorTick,
    InstigatorType,
    SerializableErrorInfo,
    StepEventStatus,
    TickStatus,
)
from ml_assets.dead_runs import fail_dead_runs
from ml_assets.resources.alerts import Alerts
from ml_assets.resources.tracking.tags import RunTags

if TYPE_CHECKING:
    from ml_assets.executors.engine import ContainerEngine

__all__ = [
    "REMOVE_LEFTOVERS",
    "alert_on_failed_tick",
    "alert_on_failure",
    "close_abandoned_runs",
    "remove_leftover_containers",
    "step_has_ended",
]

REMOVE_LEFTOVERS = "ml_assets_remove_leftover_containers"
"""Name of a sensor that only targets with a container engine have."""

_INTERVAL_SECONDS = 30


def alert_on_failure(alerts: Alerts, ui_url: str | None) -> dg.SensorDefinition:
    """Return a sensor that sends an alert for each failed run: job, partition, failed steps and the reason.

    If an alert cannot be delivered, the sensor's tick fails and the alert is not sent again.

    Args:
        alerts: delivers the alerts.
        ui_url: address of the Dagster UI, for the link.
    """

    @dg.run_failure_sensor(
        name="ml_assets_alert_on_failure",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=_INTERVAL_SECONDS,
    )
    def send_alert(context: dg.RunFailureSensorContext) -> None:
        run = context.dagster_run
        failures = {
            event.step_key: _reason(event.step_failure_data.error)
            for event in context.get_step_failure_events()
            if event.step_key and event.step_failure_data.error
        }
        partition = run.tags.get("dagster/partition")
        where = f"{run.job_name}{f' for {partition}' if partition else ''}"
        cause = "; ".join(f"{step}: {message}" for step, message in failures.items()) or context.failure_event.message
        details = {
            "job": run.job_name,
            "partition": partition,
            "dagster_run": run.run_id,
            "launched_by": launch_of(run.tags).model_dump(mode="json"),
            "failures": failures,
            "url": f"{ui_url}/runs/{run.run_id}" if ui_url else None,
        }
        sent = alerts.send(f"Dagster run of {where} failed: {cause}", details)
        context.log.info(
            f"sent the alert for run {run.run_id} to: {', '.join(sent) or 'nobody (no alerts are configured)'}"
        )

    return send_alert


def alert_on_failed_tick(alerts: Alerts) -> dg.SensorDefinition:
    """Return a sensor that sends an alert for each failed tick of its code location's schedules.

    A failed tick launches no run whose failure would send an alert.

    Args:
        alerts: delivers the alerts.
    """

    @dg.sensor(
        name="ml_assets_alert_on_failed_tick",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=_INTERVAL_SECONDS,
    )
    def send_alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        # The cursor holds the latest reported failed tick of each schedule. Ticks before the first evaluation are
        # ignored.
        told: dict[str, int] | None = json.loads(context.cursor) if context.cursor else None
        seen = dict(told or {})
        new = []
        for state in _own_schedules(context):
            failed = context.instance.get_ticks(
                state.instigator_origin_id, state.selector_id, limit=20, statuses=[TickStatus.FAILURE]
            )
            new += [(state, tick) for tick in reversed(failed) if int(tick.tick_id) > seen.get(state.selector_id, -1)]
            seen[state.selector_id] = max([seen.get(state.selector_id, -1), *(int(tick.tick_id) for tick in failed)])
        context.update_cursor(json.dumps(seen))
        if told is None or not new:
            return dg.SkipReason("no tick of a schedule has failed")
        for state, tick in new:
            alerts.send(*_tick_alert(state, tick))
        return dg.SkipReason(f"sent alerts for {len(new)} failed ticks")

    return send_alerts


def _own_schedules(context: dg.SensorEvaluationContext) -> list[InstigatorState]:
    """Return the schedules of the sensor's code location. Each location on an instance has such a sensor of its own."""
    states = context.instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
    own = context.code_location_origin
    if own is None:
        return list(states)
    return [
        state
        for state in states
        if state.origin.repository_origin.code_location_origin.location_name == own.location_name
    ]


def _tick_alert(state: InstigatorState, tick: InstigatorTick) -> tuple[str, dict[str, object]]:
    time = datetime.fromtimestamp(tick.timestamp, UTC).isoformat()
    cause = _reason(tick.error) if tick.error else "no reason was recorded"
    text = f"Dagster schedule {state.instigator_name} failed at its tick of {time}: {cause}"
    return text, {"schedule": state.instigator_name, "tick": time}


def _reason(error: SerializableErrorInfo) -> str:
    """Return the first line of the error in the user's code, or of Dagster's error if there is none."""
    return (error.cause or error).message.strip().partition("\n")[0]


@dg.sensor(
    name="ml_assets_close_abandoned_mlflow_runs",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=_INTERVAL_SECONDS,
)
def close_abandoned_runs(
    context: dg.SensorEvaluationContext, ml_assets_storage: dg.ResourceParam[ArtifactStorage]
) -> dg.SkipReason:
    """Fail the runs whose process was killed, and end the MLflow runs of steps that ended without ending them."""
    fail_dead_runs(context.instance)
    closed = ml_assets_storage.tracking.close_abandoned(lambda tags: step_has_ended(context.instance, tags))
    return dg.SkipReason(f"closed {', '.join(closed)}" if closed else "no abandoned MLflow runs")


def remove_leftover_containers(engine: "Callable[[], ContainerEngine]") -> dg.SensorDefinition:
    """Return a sensor that ends the containers of runs that ended without stopping them."""

    @dg.sensor(
        name=REMOVE_LEFTOVERS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=_INTERVAL_SECONDS,
    )
    def sweeping(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        """End each container whose run has ended, for example because a run worker was killed without a successor."""
        from ml_assets.executors.sweep import sweep

        ended = [leftover.name for leftover in sweep(engine(), context.instance) if leftover.was_running]
        return dg.SkipReason(f"ended {', '.join(ended)}" if ended else "no leftover containers")

    return sweeping


def step_has_ended(instance: dg.DagsterInstance, tags: Mapping[str, str]) -> bool:
    """Return True if Dagster has recorded the end of an MLflow run's step, which the run's tags name."""
    run = instance.get_run_by_id(tags[RunTags.DAGSTER_RUN])
    if run is None:
        # The run belongs to another Dagster instance on a shared tracking server. Only that instance can tell.
        return False
    if run.is_finished:
        return True
    stats = instance.get_run_step_stats(run.run_id, [tags[RunTags.DAGSTER_STEP]])
    return any(step.status in (StepEventStatus.FAILURE, StepEventStatus.SUCCESS) for step in stats)

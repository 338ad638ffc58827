"""Sensors that every deployment wants running: failures are told, and MLflow runs of dead steps are closed."""

from collections.abc import Mapping

import dagster as dg
from dagster._core.execution.stats import StepEventStatus

from ml_assets.recording import launch_of
from ml_assets.storage import STORAGE_KEY
from resources.provenance import RunTags

__all__ = ["ALERTS_KEY", "alert_on_failure", "close_abandoned_runs", "step_has_ended"]

ALERTS_KEY = "alerts"
"""Resource key of `resources.alerts.Alerts`."""

_INTERVAL_SECONDS = 30


def alert_on_failure(ui_url: str | None) -> dg.SensorDefinition:
    """A sensor that sends an alert for each failed run, naming the job, the partition, the failed steps and why.

    Args:
        ui_url: address of the Dagster UI, for the link.
    """

    @dg.run_failure_sensor(
        name="alert_on_failure",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=_INTERVAL_SECONDS,
    )
    def send_alert(context: dg.RunFailureSensorContext, alerts: dg.ResourceParam[object]) -> None:
        run = context.dagster_run
        failures = {
            event.step_key: event.step_failure_data.error_display_string.strip().splitlines()[0]
            for event in context.get_step_failure_events()
            if event.step_key and event.step_failure_data.error_display_string.strip()
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
        sent = alerts.send(f"Dagster run of {where} failed: {cause}", details)  # type: ignore[attr-defined]
        context.log.info(
            f"alert for run {run.run_id} went to: {', '.join(sent) or 'nobody (no alerts are configured)'}"
        )

    return send_alert


@dg.sensor(
    name="close_abandoned_mlflow_runs",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=_INTERVAL_SECONDS,
    required_resource_keys={STORAGE_KEY},
)
def close_abandoned_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """End as killed each MLflow run whose step is gone: killed without warning, or lost with its machine."""
    tracking = context.resources.artifacts.tracking
    closed = tracking.close_abandoned(lambda tags: step_has_ended(context.instance, tags))
    return dg.SkipReason(f"closed {', '.join(closed)}" if closed else "no MLflow run is abandoned")


def step_has_ended(instance: dg.DagsterInstance, tags: Mapping[str, str]) -> bool:
    """Whether Dagster knows that the step behind an MLflow run, named by its tags, is over."""
    run = instance.get_run_by_id(tags[RunTags.DAGSTER_RUN])
    if run is None:
        # Another Dagster instance's run, on a tracking server that both use: not ours to judge.
        return False
    if run.is_finished:
        return True
    stats = instance.get_run_step_stats(run.run_id, [tags[RunTags.DAGSTER_STEP]])
    return any(step.status in (StepEventStatus.FAILURE, StepEventStatus.SUCCESS) for step in stats)

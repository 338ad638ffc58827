"""Jobs, schedule and sensors of the reference pipeline."""

import dagster as dg

from ml_assets.flight_delays import assets, checks
from ml_assets.flight_delays.source import FlightSource

__all__ = ["JOB_NAME", "ONE_AT_A_TIME", "flight_delays", "nightly_retraining"]

JOB_NAME = "flight_delays"

ONE_AT_A_TIME = {"ml_assets/one_at_a_time": JOB_NAME}
"""Run tag that the instance's concurrency limit is on: a month trains on what earlier months recorded."""

images_job = dg.define_asset_job(
    "images", selection=dg.AssetSelection.groups("images"), description="Make the images that the pipeline runs in."
)

pipeline_job = dg.define_asset_job(
    JOB_NAME,
    selection=dg.AssetSelection.groups(JOB_NAME),
    tags=ONE_AT_A_TIME,
    description="One month: read flights and weather, make features, train and judge the model, predict.",
)


@dg.schedule(job=pipeline_job, cron_schedule="15 3 * * *", execution_timezone="America/New_York")
def nightly_retraining(
    context: dg.ScheduleEvaluationContext, flight_source: FlightSource
) -> dg.RunRequest | dg.SkipReason:
    """Every night at 03:15 in New York: retrain on the newest month that has arrived.

    03:15 exists exactly once on every day, also when the clock changes (at 02:00). Runs wait for one another; a tick
    that was missed is caught up.
    """
    months = flight_source.available_months()
    if not months:
        return dg.SkipReason("no month has arrived yet")
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat(), partition_key=months[-1])


def flight_delays() -> dg.Definitions:
    """Everything of the reference pipeline that needs no settings."""
    return dg.Definitions(
        assets=dg.load_assets_from_modules([assets]),
        asset_checks=dg.load_asset_checks_from_modules([checks]),
        jobs=[images_job, pipeline_job],
        schedules=[nightly_retraining],
    )

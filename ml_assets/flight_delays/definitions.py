"""Jobs, schedule and sensors of the reference pipeline."""

from pathlib import Path

import dagster as dg

import ml_assets as ml
from ml_assets.flight_delays import assets, checks
from ml_assets.flight_delays.features import NEW_YORK
from ml_assets.flight_delays.settings import FlightDelaySettings
from ml_assets.flight_delays.source import FlightSource

__all__ = [
    "JOB_NAME",
    "NIGHTLY",
    "ONE_AT_A_TIME",
    "flight_delays",
    "flight_delays_on_target",
    "images_job",
    "nightly_retraining",
    "pipeline_job",
]

JOB_NAME = "flight_delays"

ONE_AT_A_TIME = {"ml_assets/one_at_a_time": JOB_NAME}
"""Run tag with a concurrency limit in the instance, because a month trains on the records of earlier months."""

NIGHTLY = FlightDelaySettings().nightly

_PARTITION_TAG = "dagster/partition"
_ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)

images_job = dg.define_asset_job(
    "images", selection=dg.AssetSelection.groups("images"), description="Build the images that the pipeline runs in."
)

pipeline_job = dg.define_asset_job(
    JOB_NAME,
    selection=dg.AssetSelection.groups(JOB_NAME),
    tags=ONE_AT_A_TIME,
    description="One month: read flights and weather, compute features, train and evaluate the model, predict.",
)


def nightly_retraining(cron: str = NIGHTLY) -> dg.ScheduleDefinition:
    """Return the schedule that retrains the model.

    Args:
        cron: cron expression, in New York's time zone.
    """
    decorate = dg.schedule(name="nightly_retraining", job=pipeline_job, cron_schedule=cron, execution_timezone=NEW_YORK)
    return decorate(_retrain)


def _retrain(context: dg.ScheduleEvaluationContext, flight_source: FlightSource) -> list[dg.RunRequest] | dg.SkipReason:
    """Retrain every night on the newest month that has arrived.

    Months of its training window that have arrived but were never materialized run first, for example when two months
    arrive at once. Runs wait for one another. Of several missed ticks only the last runs later.
    """
    arrived = [f"{month}-01" for month in flight_source.available_months()]
    if not arrived:
        return dg.SkipReason("no month has arrived yet")
    made = context.instance.get_materialized_partitions(assets.departures.key) | _under_way(context.instance)
    earlier = [partition for partition in arrived[-_window() : -1] if partition not in made]
    tick = context.scheduled_execution_time.isoformat()
    return [
        dg.RunRequest(run_key=f"{tick} {partition}", partition_key=partition) for partition in (*earlier, arrived[-1])
    ]


def _under_way(instance: dg.DagsterInstance) -> set[str]:
    """Return the partitions of unfinished runs of the pipeline."""
    statuses = [status for status in dg.DagsterRunStatus if status not in _ENDED]
    unfinished = dg.RunsFilter(job_name=JOB_NAME, statuses=statuses)
    return {run.tags[_PARTITION_TAG] for run in instance.get_runs(unfinished) if _PARTITION_TAG in run.tags}


def _window() -> int:
    """Return the number of months that the newest model reads."""
    mapping = assets.delay_model.get_partition_mapping(assets.departures.key)
    return 1 - mapping.start_offset if isinstance(mapping, dg.TimeWindowPartitionMapping) else 1


def flight_delays_on_target() -> dg.Definitions:
    """Return the reference pipeline on the target that the environment names.

    Raises:
        SettingsError: the target is unknown, or its settings are wrong.
    """
    target = ml.Target.from_environment(FlightDelaySettings)
    settings = target.section(FlightDelaySettings)
    landing = target.settings.path(settings.landing) if settings.landing else None
    return target.bind(flight_delays(settings.nightly, landing))


def flight_delays(nightly: str = NIGHTLY, landing: Path | None = None) -> dg.Definitions:
    """Return the reference pipeline's own definitions, without those that a target adds.

    Args:
        nightly: cron expression of the retraining.
        landing: directory in which months arrive; None reads the package's whole year.
    """
    return dg.Definitions(
        assets=dg.load_assets_from_modules([assets]),
        asset_checks=dg.load_asset_checks_from_modules([checks]),
        jobs=[images_job, pipeline_job],
        schedules=[nightly_retraining(nightly)],
        resources={"flight_source": FlightSource(landing=str(landing) if landing else None)},
    )

"""Materialize the reference pipeline on this machine and show what was recorded."""

import sys
import time
from collections.abc import Callable
from typing import Annotated
from uuid import uuid4

import dagster as dg
import typer
from rich.console import Console
from rich.table import Table

import ml_assets as ml
from ml_assets.flight_delays.definitions import JOB_NAME, flight_delays_on_target, images_job

__all__ = ["main"]

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def main(
    months: Annotated[int, typer.Option(min=1, max=12, help="Number of months, from January 2013.")] = 6,
) -> None:
    """Materialize the images and then the pipeline, month by month."""
    console, started = Console(), time.monotonic()
    definitions = flight_delays_on_target()
    with ml.Target.for_command() as target:
        instance = target.instance
        records = _run(console, definitions.resolve_job_def(images_job.name), instance, None)
        job = definitions.resolve_job_def(JOB_NAME)
        partitions = job.partitions_def.get_partition_keys() if job.partitions_def else []
        for month in partitions[:months]:
            records += _run(console, job, instance, month)
    latest = list({record.asset: record for record in records}.values())
    console.print()
    console.print(_table(latest))
    seconds = time.monotonic() - started
    more = "; the table shows the latest of each asset" if len(latest) < len(records) else ""
    console.print(f"\n{len(records)} materializations in {seconds:.0f} s{more}.", highlight=False)
    _next_steps(console, records)


def _run(
    console: Console, job: dg.JobDefinition, instance: dg.DagsterInstance, partition: str | None
) -> list[ml.ProvenanceRecord]:
    records: list[ml.ProvenanceRecord] = []
    run_id = str(uuid4())
    with console.status(f"{job.name} {partition or ''} ...") as status:
        instance.add_event_listener(run_id, _reporter(console, status.update, records))
        result = job.execute_in_process(
            run_config=_QUIET, instance=instance, partition_key=partition, run_id=run_id, raise_on_error=False
        )
    if not result.success:
        failed = [event for event in result.all_events if event.is_step_failure]
        causes = "; ".join(f"{event.step_key}: {event.step_failure_data.error_display_string}" for event in failed)
        raise ml.MlAssetsError(
            f"the run {run_id} failed: {causes}", next_step="correct the cause and run make demo again"
        )
    return records


def _reporter(
    console: Console, update: Callable[[str], None], records: list[ml.ProvenanceRecord]
) -> Callable[[dg.EventLogEntry], None]:
    def report(entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None:
            return
        if event.is_step_start:
            update(f"{event.step_key} ...")
        if event.is_step_materialization:
            materialization = event.step_materialization_data.materialization
            record = ml.record_of(materialization.metadata)
            records.append(record)
            seconds = (record.ended_at - record.started_at).total_seconds()
            console.print(f"  {_name(record):28} {seconds:5.1f} s", highlight=False)
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed:
                subject = f"{check.asset_key.to_user_string()}: {check.check_name}"
                console.print(
                    f"  [yellow]{check.severity.value.lower()}[/] {subject}: {check.description}", highlight=False
                )

    return report


def _table(records: list[ml.ProvenanceRecord]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("asset", "partition", "version", "image", "MLflow", "commit"):
        table.add_column(name, no_wrap=True)
    for record in records:
        table.add_row(
            record.asset,
            record.partition or "",
            record.data_version.partition(":")[2][:8],
            record.made_image or record.environment.image or "not containerized",
            record.mlflow.run_id[:8] if record.mlflow else "",
            f"{(record.source.commit or 'none')[:7]}{'+dirty' if record.source.dirty else ''}",
        )
    return table


def _name(record: ml.ProvenanceRecord) -> str:
    return f"{record.asset}@{record.partition}" if record.partition else record.asset


def _next_steps(console: Console, records: list[ml.ProvenanceRecord]) -> None:
    model = next((record for record in reversed(records) if record.mlflow), records[-1])
    name = _name(model)
    console.print("\nNext:")
    for command, purpose in (
        ("make ui", "open the Dagster, MLflow and trace pages"),
        (f".venv/bin/ml-assets trace {name}", "show the lineage of the model"),
        (f".venv/bin/ml-assets data get {name} model", "fetch its content by version"),
    ):
        console.print(f"  {command:68} {purpose}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except ml.MlAssetsError as error:
        sys.exit(f"error: {error}")

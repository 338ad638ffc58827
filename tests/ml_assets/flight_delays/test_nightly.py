"""Three nights of the reference pipeline under Dagster's own daemons, and its backfills."""

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.workspace.load_target import WorkspaceFileTarget

from ml_assets.dagster_internals import SCHEDULED_EXECUTION_TIME_TAG, InstigatorTick, TickStatus
from ml_assets.flight_delays.definitions import JOB_NAME, ONE_AT_A_TIME, nightly_retraining
from ml_assets.flight_delays.source import FlightSource, read_flights, read_weather
from ml_assets.resources.provenance import LaunchKind, ProvenanceRecord, record_of
from ml_assets.target import Target
from tests.dagster_daemon import PROJECT, Daemons, daemons, overlaps, own_settings
from tests.graphql import BACKFILL

SCHEDULE = nightly_retraining().name
NEW_YORK = ZoneInfo("America/New_York")
EVERY_NTH_FLIGHT = 60
ASSETS = ("flights", "weather", "departures", "delay_model", "predictions")


@pytest.fixture
def landing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The landing directory for new months; initially empty."""
    folder = tmp_path / "landing"
    folder.mkdir()
    own_settings(tmp_path, monkeypatch)
    monkeypatch.setenv("ML_ASSETS__FLIGHT_DELAYS__LANDING", str(folder))
    return folder


@pytest.fixture
def alerts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[dict[str, object]]]:
    """Messages that a webhook receives; a command writes the same messages to a file."""
    received: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    write = f"import sys; open({str(tmp_path / 'mail')!r}, 'a').write(sys.stdin.read() + '\\n')"
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("ML_ASSETS__ALERTS__WEBHOOK", f"http://127.0.0.1:{server.server_port}/hook")
        monkeypatch.setenv("ML_ASSETS__ALERTS__COMMAND", shlex.join([sys.executable, "-c", write]))
        yield received
        server.shutdown()
        thread.join()


@pytest.fixture
def nights(landing: Path, alerts: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemons]:
    """The daemons on workspace.yaml."""
    with daemons(WorkspaceFileTarget([str(PROJECT / "workspace.yaml")]), monkeypatch) as started:
        yield started


def deliver(landing: Path, *months: str) -> None:
    """Deliver months with few flights."""
    for month in months:
        flights = read_flights(month).iloc[::EVERY_NTH_FLIGHT]
        for kind, frame in (("flights", flights), ("weather", read_weather(month))):
            part = landing / f"{kind}-{month}.part"
            frame.to_csv(part, index=False)
            part.rename(landing / f"{kind}-{month}.csv")


def turn_on(started: Daemons, at: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn the schedule on, as the UI's switch does."""
    with monkeypatch.context() as patch:
        patch.setattr("dagster._core.scheduler.scheduler.get_current_timestamp", at.timestamp)
        started.instance.start_schedule(started.repository.get_schedule(SCHEDULE))


def ticks(started: Daemons) -> list[InstigatorTick]:
    """Return the ticks of the schedule, oldest first."""
    schedule = started.repository.get_schedule(SCHEDULE)
    found = started.instance.get_ticks(schedule.get_remote_origin_id(), schedule.selector_id)
    return sorted(found, key=lambda tick: tick.timestamp)


def nightly_runs(started: Daemons) -> list[dg.DagsterRun]:
    """Return the runs of the schedule, oldest first."""
    tags = {"dagster/schedule_name": SCHEDULE}
    return list(started.instance.get_runs(dg.RunsFilter(tags=tags), ascending=True))


def night(day: int) -> Callable[[int, int], datetime]:
    """Return a function of hour and minute that gives a time in New York on a day of June 2026."""
    return lambda hour, minute: datetime(2026, 6, day, hour, minute, tzinfo=NEW_YORK)


def test_three_nights_of_which_the_last_fails(
    nights: Daemons, landing: Path, alerts: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nights.sense()
    first, second, third = (night(day) for day in (2, 3, 4))
    turn_on(nights, first(0, 0), monkeypatch)

    deliver(landing, "2013-01")
    nights.schedule(first(3, 10), first(3, 20))
    deliver(landing, "2013-02")
    nights.schedule(second(3, 10), second(3, 20))
    # A scheduler that dies between launching a run and recording the launch repeats the tick.
    nights.instance.update_tick(ticks(nights)[-1].with_status(TickStatus.STARTED))
    nights.schedule(second(3, 30), second(3, 40))
    assert ticks(nights)[-1].status == TickStatus.SUCCESS
    # The third night's daemon is down at 03:15 and starts later.
    deliver(landing, "2013-03")
    (landing / "flights-2013-03.csv").write_text("not,what,was,promised\n1,2,3,4\n")
    nights.schedule(third(5, 0), third(5, 10))
    nights.run_queue()
    nights.sense()

    runs = nightly_runs(nights)
    assert [(run.tags["dagster/partition"], tick_of(run), run.status) for run in runs] == [
        ("2013-01-01", first(3, 15), dg.DagsterRunStatus.SUCCESS),
        ("2013-02-01", second(3, 15), dg.DagsterRunStatus.SUCCESS),
        ("2013-03-01", third(3, 15), dg.DagsterRunStatus.FAILURE),
    ]
    assert not overlaps(nights.instance, runs)
    records = {(record.asset, record.partition): record for run in runs for record in records_of(nights.instance, run)}
    for run in runs:
        for record in records_of(nights.instance, run):
            assert (record.launch.kind, record.launch.name) == (LaunchKind.SCHEDULE, SCHEDULE)
            assert datetime.fromisoformat(record.launch.tick or "") == tick_of(run)
    read = [version for version in records["delay_model", "2013-02-01"].inputs if version.asset == "departures"]
    assert {version.partition: version.data_version for version in read} == {
        month: records["departures", month].data_version for month in ("2013-01-01", "2013-02-01")
    }

    (alert,) = alerts
    assert "flight_delays for 2013-03-01 failed: flights: " in str(alert["text"])
    assert "deliver the file again" in str(alert["text"])
    assert alert["dagster_run"] == runs[-1].run_id
    assert alert["launched_by"]["name"] == SCHEDULE  # type: ignore[index]
    assert json.loads((tmp_path / "mail").read_text()) == alert
    assert not nights.errors


def test_a_tick_that_fails_alerts(
    nights: Daemons, landing: Path, alerts: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a tick creates no run, so the run failure sensor cannot report it."""
    nights.sense()
    landing.rmdir()
    turn_on(nights, night(2)(0, 0), monkeypatch)
    nights.schedule(night(2)(3, 10), night(2)(3, 20))
    nights.sense()
    nights.sense()
    (alert,) = alerts
    assert "nightly_retraining failed at its tick of 2026-06-02T07:15:00+00:00" in str(alert["text"])
    assert "landing directory" in str(alert["text"])


@pytest.mark.parametrize(
    ("day", "instants"),
    [
        # In spring the clock goes from 02:00 to 03:00, in autumn from 02:00 back to 01:00.
        (datetime(2013, 3, 10), ["2013-03-09T08:15", "2013-03-10T07:15", "2013-03-11T07:15"]),
        (datetime(2013, 11, 3), ["2013-11-02T07:15", "2013-11-03T08:15", "2013-11-04T08:15"]),
    ],
)
def test_the_clock_change_neither_drops_nor_doubles_a_night(
    nights: Daemons, monkeypatch: pytest.MonkeyPatch, day: datetime, instants: list[str]
) -> None:
    start = day.replace(tzinfo=NEW_YORK) - timedelta(days=1)
    turn_on(nights, start, monkeypatch)
    nights.schedule(start, start + timedelta(days=3), step=timedelta(minutes=15))
    times = [datetime.fromtimestamp(tick.timestamp, UTC) for tick in ticks(nights)]
    assert times == [datetime.fromisoformat(instant).replace(tzinfo=UTC) for instant in instants]
    assert {tick.skip_reason for tick in ticks(nights)} == {"no month has arrived yet"}


def test_months_of_the_window_that_were_never_made_come_first(landing: Path, tmp_path: Path) -> None:
    months = [f"2013-{month:02}" for month in (1, 2, 3, 4, 6)]
    for month in months:
        for kind in ("flights", "weather"):
            (landing / f"{kind}-{month}.csv").touch()
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        made = dg.AssetMaterialization("departures", partition="2013-03-01")
        instance.report_runless_asset_event(made)
        context = dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=night(2)(3, 15),
            resources={"flight_source": FlightSource(landing=str(landing))},
        )
        requests = nightly_retraining()(context)
    assert [request.partition_key for request in requests] == ["2013-02-01", "2013-04-01", "2013-06-01"]
    assert len({request.run_key for request in requests}) == 3


def launch_backfill(started: Daemons, parameters: dict[str, object]) -> str:
    """Launch a backfill with the UI's request."""
    answer = started.ask(BACKFILL, {"params": parameters})
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    return str(answer["backfillId"])


def test_a_backfill_of_all_months(nights: Daemons, landing: Path) -> None:
    deliver(landing, "2013-01", "2013-02")
    partitions = ["2013-01-01", "2013-02-01"]
    chosen = [
        {"assetKey": {"path": [name]}, "partitions": {"ranges": [{"start": partitions[0], "end": partitions[-1]}]}}
        for name in ASSETS
    ]
    backfill = launch_backfill(nights, {"partitionsByAssets": chosen})
    nights.run_queue()
    found = nights.instance.get_backfill(backfill)
    assert found is not None
    assert found.status == BulkActionStatus.COMPLETED_SUCCESS
    for name in ASSETS:
        assert nights.instance.get_materialized_partitions(dg.AssetKey(name)) == set(partitions)
    for run in nights.instance.get_runs():
        for record in records_of(nights.instance, run):
            assert (record.launch.kind, record.launch.name) == (LaunchKind.BACKFILL, backfill)


def test_a_backfill_of_the_job_queues_month_by_month(nights: Daemons, landing: Path) -> None:
    partitions = ["2013-01-01", "2013-02-01", "2013-03-01"]
    repository = nights.repository
    selector = {
        "repositorySelector": {
            "repositoryLocationName": repository.handle.location_name,
            "repositoryName": repository.name,
        },
        "partitionSetName": f"{JOB_NAME}_partition_set",
    }
    launch_backfill(nights, {"selector": selector, "partitionNames": partitions})
    nights.backfill()
    runs = nights.instance.get_runs(ascending=True)
    assert [(run.tags["dagster/partition"], run.status) for run in runs] == [
        (partition, dg.DagsterRunStatus.QUEUED) for partition in partitions
    ]
    assert all(run.tags.items() >= ONE_AT_A_TIME.items() for run in runs)


def test_the_backfill_command_queues_month_by_month(landing: Path) -> None:
    command = [sys.executable, "-m", "dagster", "job", "backfill", "-w", "workspace.yaml", "-j", JOB_NAME]
    with Target.for_command() as target:
        home = {**os.environ, "DAGSTER_HOME": target.instance.root_directory}
        subprocess.run([*command, "--partitions", "2013-02-01,2013-01-01", "--noprompt"], env=home, check=True)
        runs = target.instance.get_runs(ascending=True)
    assert [run.tags["dagster/partition"] for run in runs] == ["2013-01-01", "2013-02-01"]
    assert all(run.tags.items() >= ONE_AT_A_TIME.items() for run in runs)


def tick_of(run: dg.DagsterRun) -> datetime:
    return datetime.fromisoformat(run.tags[SCHEDULED_EXECUTION_TIME_TAG])


def records_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[ProvenanceRecord]:
    """Return the records of a run."""
    events = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    found = [event.asset_materialization for event in events]
    return [record_of(event.metadata) for event in found if event]

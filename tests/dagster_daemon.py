"""Dagster's own daemons under a test's control: a real code server, real runs in processes, an adjustable clock."""

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from logging import getLogger
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external import RemoteRepository
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.daemon import SchedulerDaemon, SensorDaemon
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._grpc.server import GrpcServerProcess
from dagster_graphql.test.utils import execute_dagster_graphql

from ml_assets.dagster_internals import SerializableErrorInfo
from ml_assets.target import Target

PROJECT = Path(__file__).parents[1]
DEADLINE_SECONDS = 1200
_POLL_SECONDS = 0.7


class Clock(threading.Event):
    """The event on which a daemon waits: instead of waiting, it advances the time by at least `step`."""

    def __init__(self, now: datetime, step: timedelta) -> None:
        super().__init__()
        self.now, self.step = now, step

    def wait(self, timeout: float | None = None) -> bool:
        self.now += max(timedelta(seconds=timeout or 0), self.step)
        return False


@dataclass
class Daemons:
    """The daemons of one instance."""

    context: WorkspaceProcessContext
    monkeypatch: pytest.MonkeyPatch
    errors: list[str] = field(default_factory=list)
    """Errors that the daemons would have logged."""
    sensor_clock: Clock = field(default_factory=lambda: Clock(datetime.now(UTC), timedelta(minutes=1)))

    @property
    def instance(self) -> dg.DagsterInstance:
        return self.context.instance

    @property
    def repository(self) -> RemoteRepository:
        (entry,) = self.context.create_request_context().get_code_location_entries().values()
        assert entry.code_location, entry.load_error
        (repository,) = entry.code_location.get_repositories().values()
        return repository

    def ask(self, query: str, variables: Mapping[str, object]) -> Any:
        """Return the answer of the UI's server to a GraphQL query of one field."""
        with warnings.catch_warnings():
            # Dagster's server calls deprecated parts of Dagster.
            warnings.simplefilter("ignore", DeprecationWarning)
            result = execute_dagster_graphql(self.context.create_request_context(), query, variables)
        (answer,) = result.data.values()
        return answer

    def schedule(self, since: datetime, until: datetime, *, step: timedelta = timedelta(minutes=1)) -> None:
        """Run a scheduler daemon that starts at one moment and is killed at another."""
        clock = Clock(since.astimezone(UTC), step)
        with self.monkeypatch.context() as patch:
            patch.setattr("dagster._scheduler.scheduler.get_current_datetime", lambda: clock.now)
            patch.setattr("dagster._scheduler.scheduler.get_current_timestamp", lambda: clock.now.timestamp())
            loop = SchedulerDaemon().core_loop(self.context, clock)
            while clock.now < until:
                self._note(next(loop))
            loop.close()

    def sense(self) -> None:
        """Let a sensor daemon evaluate every running sensor twice: the first evaluation may only set the cursor."""
        clock = self.sensor_clock
        with self.monkeypatch.context() as patch, SensorDaemon({}) as daemon:
            patch.setattr("dagster._daemon.sensor.get_current_datetime", lambda: clock.now)
            patch.setattr("dagster._daemon.sensor.get_current_timestamp", lambda: clock.now.timestamp())
            loop, end = daemon.core_loop(self.context, clock), clock.now + timedelta(minutes=2)
            while clock.now < end:
                self._note(next(loop))
            loop.close()

    def backfill(self) -> None:
        """Run one iteration of the backfill daemon."""
        for result in execute_backfill_iteration(self.context, getLogger("dagster.daemon.BackfillDaemon")):
            self._note(result)

    def run_queue(self, until: Callable[[], bool] | None = None) -> None:
        """Run the run coordinator and the backfill daemon until a condition holds.

        The default condition: all runs and backfills are finished.
        """
        finished, deadline = until or self._nothing_is_left, time.monotonic() + DEADLINE_SECONDS
        with QueuedRunCoordinatorDaemon(interval_seconds=1) as coordinator:
            while not finished():
                assert time.monotonic() < deadline, [(run.job_name, run.status) for run in self.instance.get_runs()]
                for result in coordinator.run_iteration(self.context):
                    self._note(result)
                self.backfill()
                time.sleep(_POLL_SECONDS)

    def _nothing_is_left(self) -> bool:
        backfills = [found.status.value for found in self.instance.get_backfills()]
        open_backfills = [status for status in backfills if status in ("REQUESTED", "CANCELING", "FAILING")]
        return not open_backfills and all(run.is_finished for run in self.instance.get_runs())

    def _note(self, result: object) -> None:
        if isinstance(result, SerializableErrorInfo):
            self.errors.append(result.to_string())


@contextmanager
def daemons(target: WorkspaceLoadTarget, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemons]:
    """Run the daemons of the configured instance, on a code location in its own server process."""
    ours = Target.for_command()
    home = ours.settings.path(ours.settings.home)
    home.mkdir(parents=True)
    template = PROJECT / "deployments" / "local" / "dagster.yaml"
    waiting = (
        f"code_servers:\n  wait_for_local_processes_on_shutdown: true\n  local_startup_timeout: {DEADLINE_SECONDS}\n"
    )
    # Dagster gives up after half a minute on a server that is shutting down, which is too short on a busy machine.
    monkeypatch.setattr(GrpcServerProcess.wait, "__defaults__", (DEADLINE_SECONDS,))
    (home / "dagster.yaml").write_text(template.read_text() + waiting)
    with ExitStack() as stack:
        instance = stack.enter_context(ours).instance
        yield Daemons(stack.enter_context(create_test_daemon_workspace_context(target, instance)), monkeypatch)


def own_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the local target's settings at a folder, for this process and its children."""
    monkeypatch.chdir(PROJECT)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    for key, value in {
        "HOME": folder / "dagster",
        "DVC__REMOTE": folder / "remote",
        "DVC__CACHE": folder / "cache",
        "MLFLOW__TRACKING_URI": f"sqlite:///{folder}/mlflow/mlflow.db",
        "MLFLOW__ARTIFACT_LOCATION": folder / "mlflow" / "artifacts",
    }.items():
        monkeypatch.setenv(f"ML_ASSETS__{key}", str(value))


def overlaps(instance: dg.DagsterInstance, runs: Sequence[dg.DagsterRun]) -> list[tuple[str, str]]:
    """Return the pairs of runs that overlapped in time."""
    spans = sorted(
        (record.start_time or 0.0, record.end_time or 0.0, record.dagster_run.run_id)
        for record in instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id for run in runs]))
    )
    return [(first[2], second[2]) for first, second in pairwise(spans) if second[0] < first[1]]

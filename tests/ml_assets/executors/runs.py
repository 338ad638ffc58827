"""Runs of `process_jobs` on a real Dagster instance, and their events."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.execution.api import execute_run_iterator

from ml_assets.executors.resume import placement_of
from ml_assets.placement import Placement
from tests.ml_assets.executors import process_jobs
from tests.ml_assets.executors.process_engine import PROJECT, ProcessEngine, processes

_DEADLINE_SECONDS = 480
_CONFIGURATION = """
run_monitoring: {enabled: true, max_resume_run_attempts: 3}
run_launcher: {module: tests.ml_assets.executors.run_worker, class: ResumingRunLauncher}
telemetry: {enabled: false}
compute_logs: {module: dagster._core.storage.noop_compute_log_manager, class: NoOpComputeLogManager}
"""


@dataclass(frozen=True)
class Scene:
    """A Dagster instance and an engine that runs its steps."""

    instance: dg.DagsterInstance
    engine: ProcessEngine
    home: Path

    def create(
        self,
        name: str,
        *,
        config: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
        ops: dict[str, Any] | None = None,
    ) -> "Run":
        """Create a run of a job of `process_jobs` without starting it."""
        job = dg.reconstructable(getattr(process_jobs, name))
        run = self.instance.create_run_for_job(
            job.get_definition(),
            run_config={"execution": {"config": config or {}}, "ops": ops or {}},
            tags=tags,
            job_code_origin=job.get_python_origin(),
        )
        return Run(self.instance, run.run_id)

    def execute(self, name: str, **options: Any) -> "Run":
        """Execute a run, created with the options of `create`, in this process and return it."""
        run = self.create(name, **options)
        job = dg.reconstructable(getattr(process_jobs, name))
        for _ in execute_run_iterator(job, run.stored, self.instance):
            pass
        return run

    @contextmanager
    def worker(self, run: "Run", mode: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start a run worker in another process, and kill it when the block ends."""
        command = (sys.executable, "-m", "tests.ml_assets.executors.run_worker", str(self.home), run.id, mode)
        with (self.home / "worker.log").open("ab") as log, subprocess.Popen(command, cwd=PROJECT, stderr=log) as worker:
            try:
                yield worker
            finally:
                worker.kill()


@contextmanager
def scene(home: Path, configuration: str = "") -> Iterator[Scene]:
    """Open a scene in a folder; ``configuration`` is added to ``dagster.yaml``."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text(_CONFIGURATION + configuration)
    with dg.DagsterInstance.from_config(str(home)) as instance, processes(home / process_jobs.ENGINE) as engine:
        yield Scene(instance, engine, home)


@dataclass(frozen=True)
class Run:
    """One run in Dagster's database."""

    instance: dg.DagsterInstance
    id: str

    @property
    def stored(self) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(self.id)
        assert run is not None
        return run

    def records(self, *types: dg.DagsterEventType) -> list[dg.EventLogRecord]:
        """Return all records of the run, or those of some types, oldest first."""
        records: list[dg.EventLogRecord] = []
        cursor, has_more = None, True
        while has_more:
            page = self.instance.get_records_for_run(self.id, cursor, set(types) or None, limit=1000)
            records += page.records
            cursor, has_more = page.cursor, page.has_more
        return records

    def events(self, step: str | None, *types: dg.DagsterEventType) -> list[dg.DagsterEvent]:
        """Return the events of a step (or of no step), by default of all types."""
        events = [record.event_log_entry.dagster_event for record in self.records(*types)]
        return [event for event in events if event is not None and event.step_key == step]

    def placements(self, step: str) -> list[Placement]:
        """Return the placement of each launch of a step."""
        found = [placement_of(event) for event in self.events(step, dg.DagsterEventType.STEP_WORKER_STARTING)]
        return [placement for placement in found if placement is not None]

    def failure(self, step: str) -> str:
        """Return the message of a step's only failure."""
        (event,) = self.events(step, dg.DagsterEventType.STEP_FAILURE)
        assert event.step_failure_data.error is not None
        return event.step_failure_data.error.message

    def said(self, step: str | None) -> list[str]:
        """Return the executor's messages about a step."""
        return [event.message or "" for event in self.events(step, dg.DagsterEventType.ENGINE_EVENT)]

    def succeeded(self, step: str) -> bool:
        return bool(self.events(step, dg.DagsterEventType.STEP_SUCCESS))


def until(holds: Callable[[], object], what: str, seconds: float = _DEADLINE_SECONDS) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.05)

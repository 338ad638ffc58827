"""A run worker in its own process, which tests kill: ``python -m … HOME RUN {execute,resume}``."""

import sys
from pathlib import Path

import dagster as dg
from dagster._core.execution.api import execute_run_iterator

from ml_assets.dagster_internals import capture_interrupts, recon_job_from_origin
from tests.ml_assets.executors import process_jobs
from tests.ml_assets.executors.process_engine import ProcessEngine, used


class ResumingRunLauncher(dg.DefaultRunLauncher):
    """A launcher that claims to resume runs, as those of Kubernetes and Docker do; the tests start the workers."""

    @property
    def supports_resume_run(self) -> bool:
        return True


def main(home: str, run_id: str, mode: str) -> None:
    engine = ProcessEngine(Path(home) / process_jobs.ENGINE)
    with capture_interrupts(), dg.DagsterInstance.from_config(home) as instance, used(engine):
        run = instance.get_run_by_id(run_id)
        assert run is not None
        assert run.job_code_origin is not None
        job = recon_job_from_origin(run.job_code_origin)
        for _ in execute_run_iterator(job, run, instance, resume_from_failure=mode == "resume"):
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])

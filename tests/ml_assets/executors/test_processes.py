"""Runs of the executor of plain processes, one of which is really killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg

from ml_assets.dead_runs import dead_runs, fail_dead_runs
from ml_assets.executors.processes import process_executor
from ml_assets.resources.machine.process_identity import ProcessIdentity
from ml_assets.resources.provenance import PROCESS_TAG
from tests.migrated import Migrated

# Runs in its own process: executes the job on the instance in a folder.
EXECUTE = """
import sys
import dagster as dg
from tests.ml_assets.executors.test_processes import waiting
with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    result = dg.execute_job(dg.reconstructable(waiting), instance=instance)
    print(result.success, flush=True)
"""


@dg.op(config_schema={"fifo": dg.Field(dg.StringSource, default_value={"env": "WAITING_FIFO"})})
def wait(context: dg.OpExecutionContext) -> None:
    """Say the step's process, then wait for the test to close its end of the pipe."""
    with Path(context.op_config["fifo"]).open("w") as said:
        said.write(f"{os.getpid()}\n")
    Path(f"{context.op_config['fifo']}.go").read_text()


@dg.job(executor_def=process_executor([]))
def waiting() -> None:
    """Run one step that waits."""
    wait()


def test_killed_run_is_failed_as_soon_as_its_step_has_ended(tmp_path: Path, migrated: Migrated) -> None:
    fifo = tmp_path / "fifo"
    for path in (fifo, tmp_path / "fifo.go"):
        os.mkfifo(path)
    environment = {**os.environ, "WAITING_FIFO": str(fifo), "PYTHONPATH": os.pathsep.join(sys.path)}
    home = migrated.dagster(tmp_path / "dagster")
    worker = subprocess.Popen([sys.executable, "-c", EXECUTE, str(home)], env=environment, stdout=subprocess.DEVNULL)
    with fifo.open() as said, dg.DagsterInstance.from_config(str(home)) as instance:
        step = int(said.readline())
        (run,) = instance.get_runs()
        identity = ProcessIdentity.parse(run.tags[PROCESS_TAG])
        assert (identity.pid, identity.is_gone()) == (worker.pid, False)
        assert dead_runs(instance) == []
        worker.kill()
        worker.wait()
        assert identity.is_gone()
        assert dead_runs(instance) == []
        os.kill(step, signal.SIGKILL)
        while not fail_dead_runs(instance):
            pass
        (run,) = instance.get_runs()
        assert run.status is dg.DagsterRunStatus.FAILURE

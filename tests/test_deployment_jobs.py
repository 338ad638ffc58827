"""The Jobs of deployments/kubernetes/jobs: the script that runs them, and the guard of a restore."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import yaml

from tests.postgres import Postgres, postgres
from tests.test_manifests import FOLDER

JOBS = FOLDER / "jobs"
# Newer clusters report more about a Job that is about to end; none is available here.
_KUBECTL = """#!/bin/sh
case "$*" in
    *create*) cat >"$FOLDER/job.yaml"; echo job.batch/images-1 ;;
    *ML_ASSETS_IMAGE*) echo registry.example/services@sha256:1 ;;
    *"type=='Complete'"*) printf '%s' "$COMPLETE" ;;
    *"type=='Failed'"*) printf '%s' "$FAILED" ;;
    *"status=='True'"*) echo "SuccessCriteriaMet Complete" ;;
    *spec.template*) echo images ;;
    *pods*) echo pod/images-1-a ;;
    *logs*) echo built ;;
esac
"""


def run_job(folder: Path, what: str, **said: str) -> subprocess.CompletedProcess[str]:
    program = folder / "kubectl"
    program.write_text(_KUBECTL)
    program.chmod(0o755)
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "FOLDER": str(folder),
        "COMPLETE": "",
        "FAILED": "",
        **said,
    }
    command = [str(JOBS / "run"), what]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=480, check=False)


def test_job_that_is_complete_has_succeeded_whatever_else_the_cluster_says_of_it(tmp_path: Path) -> None:
    done = run_job(tmp_path, "images", COMPLETE="True")
    assert (done.returncode, done.stdout, done.stderr) == (0, "job.batch/images-1\nbuilt\n", "")
    (job,) = yaml.safe_load_all((tmp_path / "job.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/services@sha256:1"


def test_job_that_has_failed_makes_the_command_fail(tmp_path: Path) -> None:
    done = run_job(tmp_path, "restore", FAILED="True")
    assert done.returncode == 1
    assert "built" in done.stdout
    assert "failed. Next: read the output above" in done.stderr


def test_unknown_job_is_refused_with_what_there_is(tmp_path: Path) -> None:
    done = run_job(tmp_path, "nothing")
    assert done.returncode == 2
    assert "images|save|restore" in done.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres() as found:
        yield found


def look(server: Postgres, dagster: str, mlflow: str) -> subprocess.CompletedProcess[str]:
    """Return the result of a restore's first container on two databases."""
    (job,) = yaml.safe_load_all((JOBS / "restore.yaml").read_text())
    container = job["spec"]["template"]["spec"]["initContainers"][0]
    assert container["name"] == "is-empty"
    environment = {
        "PATH": f"{server.binaries}:{os.environ['PATH']}",
        "DAGSTER_POSTGRES_URL": dagster,
        "MLFLOW_BACKEND_STORE_URI": mlflow,
    }
    return subprocess.run(
        container["command"], env=environment, capture_output=True, text=True, timeout=480, check=False
    )


def filled(server: Postgres, name: str, rows: int) -> str:
    url = server.new_database(name)
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE runs (id int)")
        cursor.execute("INSERT INTO runs SELECT generate_series(1, %s)", (rows,))
    connection.close()
    return url


def test_restore_begins_where_nothing_is(server: Postgres) -> None:
    assert look(server, server.new_database("nothing"), filled(server, "made", 0)).returncode == 0


@pytest.mark.parametrize("rows", [(2, 0), (0, 2)])
def test_restore_is_refused_where_something_is(server: Postgres, rows: tuple[int, int]) -> None:
    dagster, mlflow = (filled(server, f"kept_{name}_{count}", count) for name, count in zip("dm", rows, strict=True))
    done = look(server, dagster, mlflow)
    assert done.returncode == 1
    assert f"{'Dagster' if rows[0] else 'MLflow'} already has 2 runs. Next: restore into" in done.stdout


def test_restore_is_refused_where_nobody_can_say_what_there_is(server: Postgres) -> None:
    empty = server.new_database("there")
    assert look(server, empty, empty.replace("/there", "/not_there")).returncode != 0

"""The servers that a deployment uses, as child processes of the tests: PostgreSQL, object storage, MLflow."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.ports import free_port
from tests.postgres import Postgres, postgres

BUCKET = "ml-assets"
_START_SECONDS = 600
_NAMES = itertools.count(1)
_FAST = ("max_connections=400", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True)
class Servers:
    """Addresses of the servers, the same for containers, pods and tests."""

    postgres: Postgres
    s3: str
    """Address of the object storage, which accepts any credentials and has one bucket, `BUCKET`."""
    mlflow: str
    """Address of the tracking server, which stores artifacts in the bucket."""
    credentials: Mapping[str, str] = field(
        default_factory=lambda: {
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    )

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        return self.postgres.new_database(f"tests_{next(_NAMES)}")

    @property
    def s3_variables(self) -> dict[str, str]:
        """Environment variables of every client of the object storage."""
        return {**self.credentials, "AWS_ENDPOINT_URL": self.s3}


@contextmanager
def servers(host: str) -> Iterator[Servers]:
    """Run the servers on free ports of an address of this machine until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="ml-assets-servers-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        database = stack.enter_context(postgres(host, _FAST))
        s3 = stack.enter_context(_s3(host, folder))
        found = Servers(postgres=database, s3=s3, mlflow="")
        _make_bucket(found)
        mlflow = stack.enter_context(_mlflow(host, folder, found))
        yield Servers(postgres=database, s3=s3, mlflow=mlflow)


@contextmanager
def running(
    command: Sequence[str | Path],
    ready: Callable[[], bool],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program and its children; the block runs from readiness until the program is ended."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-6000:]}")
            time.sleep(0.1)
        yield process
    finally:
        _end(process)


def answers(url: str) -> bool:
    """Return True if a server answers a GET with success."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # ends leftover children: the process has its own group
    process.wait(20)


@contextmanager
def _s3(host: str, folder: Path) -> Iterator[str]:
    port = free_port(host)
    url = f"http://{host}:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)]
    with running(command, lambda: answers(f"{url}/moto-api/"), folder / "s3.log"):
        yield url


def _make_bucket(found: Servers) -> None:
    import boto3

    boto3.client(
        "s3",
        endpoint_url=found.s3,
        aws_access_key_id=found.credentials["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=found.credentials["AWS_SECRET_ACCESS_KEY"],
        region_name=found.credentials["AWS_DEFAULT_REGION"],
    ).create_bucket(Bucket=BUCKET)


@contextmanager
def _mlflow(host: str, folder: Path, found: Servers) -> Iterator[str]:
    port = free_port(host)
    url = f"http://{host}:{port}"
    command: list[str | Path] = [
        Path(sys.executable).with_name("mlflow"),
        "server",
        "--host",
        host,
        "--port",
        str(port),
    ]
    command += ["--backend-store-uri", found.new_database(), "--artifacts-destination", f"s3://{BUCKET}/mlflow"]
    command += ["--workers", "1", "--allowed-hosts", "*"]
    environment = {
        **found.s3_variables,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with running(command, lambda: answers(f"{url}/health"), folder / "mlflow.log", environment=environment):
        yield url

"""The servers that a deployment stands on, as child processes of the tests: PostgreSQL, object storage, MLflow."""

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import unavailable

BUCKET = "ml-assets"
_START_SECONDS = 120
_NAMES = itertools.count(1)


@dataclass(frozen=True)
class Servers:
    """Where they are; containers and pods reach them at the same addresses as the tests do."""

    postgres: str
    """``user:password@host:port``, to which a database's name is to be added."""
    s3: str
    """Address of the object storage, which takes any credentials and has one bucket, `BUCKET`."""
    mlflow: str
    """Address of the tracking server; artifacts go through it into the bucket."""
    credentials: Mapping[str, str] = field(
        default_factory=lambda: {
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    )

    def new_database(self) -> str:
        """URL of an empty database."""
        return _new_database(self.postgres)

    @property
    def s3_variables(self) -> dict[str, str]:
        """What every client of the object storage is told."""
        return {**self.credentials, "AWS_ENDPOINT_URL": self.s3}


@contextmanager
def servers(host: str) -> Iterator[Servers]:
    """The servers, on free ports of an address of this machine, until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="ml-assets-servers-"))
    folder.chmod(0o755)  # PostgreSQL runs under another account
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = stack.enter_context(_postgres(host, folder))
        s3 = stack.enter_context(_s3(host, folder))
        found = Servers(postgres=postgres, s3=s3, mlflow="")
        _make_bucket(found)
        mlflow = stack.enter_context(_mlflow(host, folder, found))
        yield Servers(postgres=postgres, s3=s3, mlflow=mlflow)


@contextmanager
def running(
    command: Sequence[str | Path],
    ready: Callable[[], bool],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program and its children, from the moment that it is ready until the block ends."""
    account = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            **account,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-6000:]}")
            time.sleep(0.1)
        yield process
    finally:
        _end(process, stop)


def free_port(host: str) -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


def accepts(host: str, port: int) -> bool:
    """Whether someone listens there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def answers(url: str) -> bool:
    """Whether a server answers a GET with success."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes], stop: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(stop)
    with suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # whatever it left behind; the group is its own
    process.wait(20)


@contextmanager
def _postgres(host: str, folder: Path) -> Iterator[str]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")) or [Path(shutil.which("postgres") or "")]
    binaries = found[-1].parent
    if not (binaries / "initdb").exists():
        unavailable("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    # It refuses to run as root.
    account = None if os.geteuid() else "postgres" if _has_account("postgres") else "nobody"
    home, port, password = folder / "postgres", free_port(host), "tests"
    home.mkdir()
    secret = home / "password"
    secret.write_text(password)
    if account:
        for path in (home, secret):
            shutil.chown(path, account)
    data = home / "data"
    initdb: list[str | Path] = [binaries / "initdb", "-D", data, "-U", "ml_assets", "--pwfile", secret]
    made = subprocess.run(
        [*initdb, "-A", "scram-sha-256", "--no-sync", "--encoding", "UTF8", "--locale", "C"],
        user=account,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all all scram-sha-256\n")
    options = [f"listen_addresses={host}", "unix_socket_directories=", "max_connections=400", "fsync=off"]
    options += ["synchronous_commit=off", "full_page_writes=off"]
    command = [binaries / "postgres", "-D", data, "-p", str(port)]
    command += itertools.chain(*(("-c", each) for each in options))
    address = f"ml_assets:{password}@{host}:{port}"
    # Told to stop by an interrupt, it does not wait for its clients.
    with running(command, lambda: _takes_queries(address), folder / "postgres.log", user=account, stop=signal.SIGINT):
        yield address


def _has_account(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


def _takes_queries(address: str) -> bool:
    import psycopg2

    try:
        psycopg2.connect(f"postgresql://{address}/postgres", connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True


def _new_database(address: str) -> str:
    import psycopg2

    name = f"tests_{next(_NAMES)}"
    connection = psycopg2.connect(f"postgresql://{address}/postgres")
    connection.autocommit = True
    try:
        connection.cursor().execute(f"CREATE DATABASE {name}")
    finally:
        connection.close()
    return f"postgresql://{address}/{name}"


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

"""A deployment as users run it: Dagster's webserver and daemon, MLflow's server, and a browser as the client."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import requests
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ml_assets.resources.provenance import ProvenanceRecord, record_of
from tests.conftest import require_program

PROJECT = Path(__file__).parents[2]
SCREENSHOTS = PROJECT / "build" / "screenshots"
DEADLINE_SECONDS = 480
_BIN = Path(sys.executable).parent
_POLL_SECONDS = 0.2
_PATIENCE_MILLISECONDS = 240_000
_BROWSER_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    # No name outside of this machine is resolved: pages must work without.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@dataclass(frozen=True)
class Deployment:
    """Two months of the reference pipeline, and the servers that show them."""

    dagster: str
    mlflow: str
    lineage: str
    instance: dg.DagsterInstance

    def materialization(self, asset: str, partition: str) -> dg.AssetMaterialization:
        """Return the latest materialization."""
        (found,) = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey.from_user_string(asset), asset_partitions=[partition]), limit=1
        ).records
        assert found.asset_materialization is not None
        return found.asset_materialization

    def record(self, asset: str, partition: str) -> ProvenanceRecord:
        """Return the provenance record of the latest materialization."""
        return record_of(self.materialization(asset, partition).metadata)

    def metrics(self, asset: str, partition: str) -> dict[str, float]:
        """Return the metrics of the MLflow run, from the tracking server."""
        run = self.record(asset, partition).mlflow
        assert run
        answer = requests.get(f"{self.mlflow}/api/2.0/mlflow/runs/get", params={"run_id": run.run_id}, timeout=480)
        answer.raise_for_status()
        return {metric["key"]: metric["value"] for metric in answer.json()["run"]["data"]["metrics"]}


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A browser for these tests only: Playwright's event loop would disturb other tests that start one."""
    program = require_program("chromium", "chromium")
    expect.set_options(timeout=_PATIENCE_MILLISECONDS)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(_BROWSER_OPTIONS))
        yield started
        started.close()


@pytest.fixture(scope="package")
def deployment(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment that depends on the browser, so that nothing is materialized without one."""
    folder = tmp_path_factory.mktemp("deployment")
    ports = dagster, mlflow, lineage = _free_ports(3)
    environment = _environment(folder, *(f"http://127.0.0.1:{port}" for port in ports))
    home = Path(environment["DAGSTER_HOME"])
    home.mkdir()
    template = (PROJECT / "deployments" / "local" / "dagster.yaml").read_text()
    # Disables Dagster's newsletter invitation, which covers the first page.
    (home / "dagster.yaml").write_text(template if "\nnux:" in template else f"{template}\nnux:\n  enabled: false\n")
    _run([sys.executable, "-m", "ml_assets.flight_delays.demo", "--months", "2"], environment)
    with ExitStack() as stack:
        waits = [
            stack.enter_context(running_server(command, environment, folder / f"{name}.log", ready))
            for name, command, ready in _servers(environment, dagster, mlflow, lineage)
        ]
        for wait in waits:
            wait()
        yield Deployment(
            environment["ML_ASSETS__UI_URL"],
            environment["ML_ASSETS__MLFLOW__UI_URL"],
            environment["ML_ASSETS__LINEAGE__UI_URL"],
            stack.enter_context(dg.DagsterInstance.from_config(str(home))),
        )


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """An empty page, whose final content is saved as a screenshot."""
    context = browser.new_context(viewport={"width": 1440, "height": 2000})
    context.set_default_timeout(_PATIENCE_MILLISECONDS)
    shown = context.new_page()
    yield shown
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_"))
    for number, each in enumerate(context.pages, start=1):
        each.screenshot(path=SCREENSHOTS / f"{name}-{number}.png")
    context.close()


def _environment(folder: Path, dagster: str, mlflow: str, lineage: str) -> dict[str, str]:
    own = {
        "ML_ASSETS__HOME": f"{folder}/dagster",
        "ML_ASSETS__UI_URL": dagster,
        "ML_ASSETS__DVC__REMOTE": f"{folder}/remote",
        "ML_ASSETS__DVC__CACHE": f"{folder}/cache",
        "ML_ASSETS__MLFLOW__TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "ML_ASSETS__MLFLOW__ARTIFACT_LOCATION": f"{folder}/mlflow",
        "ML_ASSETS__MLFLOW__UI_URL": mlflow,
        "ML_ASSETS__LINEAGE__UI_URL": lineage,
        "DAGSTER_HOME": f"{folder}/dagster",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return {name: value for name, value in os.environ.items() if not name.startswith("ML_ASSETS__")} | own


def _servers(
    environment: Mapping[str, str], dagster: int, mlflow: int, lineage: int
) -> Iterator[tuple[str, list[str], Callable[[], bool]]]:
    """Yield the name, the command and the readiness check of each server."""
    address, workspace = ("--host", "127.0.0.1", "--port"), ("--workspace", str(PROJECT / "workspace.yaml"))
    yield (
        "mlflow",
        [f"{_BIN}/mlflow", "server", *address, str(mlflow), "--workers", "1", *_store(environment)],
        lambda: answers(f"http://127.0.0.1:{mlflow}/health"),
    )
    yield (
        "webserver",
        [f"{_BIN}/dagster-webserver", *workspace, *address, str(dagster)],
        lambda: answers(f"http://127.0.0.1:{dagster}/server_info"),
    )
    yield (
        "lineage",
        [sys.executable, "-m", "ml_assets.cli", "lineage", "serve", "--port", str(lineage)],
        lambda: answers(f"http://127.0.0.1:{lineage}/health"),
    )
    # The daemon starts queued runs; no test has to wait for it.
    yield "daemon", [f"{_BIN}/dagster-daemon", "run", *workspace], lambda: True


def _store(environment: Mapping[str, str]) -> list[str]:
    store, artifacts = (environment[f"ML_ASSETS__MLFLOW__{key}"] for key in ("TRACKING_URI", "ARTIFACT_LOCATION"))
    return ["--backend-store-uri", store, "--default-artifact-root", artifacts]


@contextmanager
def running_server(
    command: list[str], environment: Mapping[str, str], log: Path, ready: Callable[[], bool]
) -> Iterator[Callable[[], None]]:
    """Run a server in its own process group until the block ends; yield a function that waits until it is ready."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )

    def wait() -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not ready():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(_POLL_SECONDS)

    try:
        yield wait
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def answers(address: str) -> bool:
    """Return True if a server accepts a request for a page, and does not refuse it."""
    try:
        return requests.get(address, timeout=5).ok
    except requests.ConnectionError:
        return False


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        bound = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in bound:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in bound]

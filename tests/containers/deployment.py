"""A whole deployment on this machine from its target's files: instance, code server, run launcher and daemon."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from ml_assets.dagster_internals import WorkerStatus
from tests.containers.ground import Ground
from tests.containers.servers import BUCKET, Servers, running
from tests.containers.train_image import image_variables
from tests.dagster_daemon import Daemons
from tests.graphql import BACKFILL, LAUNCH, TERMINATE
from tests.ports import accepts, free_port

PROJECT = Path(__file__).parents[2]
LOCATION = "tests"
_LOOPBACK = "127.0.0.1"
_DEADLINE_SECONDS = 900
"""Not a promise: a generous limit for failing a test, because a busy machine may pull an image for minutes."""
_POLL_SECONDS = 0.4


@dataclass
class Deployment:
    """A running target with one code location. While it is open, its variables are set in this process."""

    target: str
    image: str
    """Image of the code location, by digest, in which run workers start."""
    home: Path
    servers: Servers
    daemons: Daemons
    """Dagster's daemons, which tests run step by step in this process."""
    code_server_port: int
    _has_daemon: bool = field(default=False, init=False)

    @property
    def instance(self) -> dg.DagsterInstance:
        return self.daemons.instance

    def launch(
        self,
        *assets: str,
        job: str | None = None,
        partition: str | None = None,
        run_config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        checks: Sequence[tuple[str, str]] | None = None,
    ) -> str:
        """Launch a run as the UI would and return its id: the run is queued, and dequeued unless a limit forbids it.

        Args:
            assets: keys of the assets, as ``prefix/name``; by default all assets of the job.
            job: name of the job; by default assets are materialized ad hoc.
            partition: partition key.
            run_config: run config, as in the launchpad.
            tags: tags of the run.
            checks: asset and name of the checks to run; by default all checks of the assets.
        """
        repository = self.daemons.repository
        selector: dict[str, Any] = {
            "repositoryLocationName": LOCATION,
            "repositoryName": repository.name,
            "jobName": job or "__ASSET_JOB",
        }
        if assets or checks is not None:
            selector["assetSelection"] = [{"path": asset.split("/")} for asset in assets]
        if checks is not None:
            selector["assetCheckSelection"] = [
                {"assetKey": {"path": asset.split("/")}, "name": name} for asset, name in checks
            ]
        all_tags = {**({"dagster/partition": partition} if partition else {}), **(tags or {})}
        params = {
            "selector": selector,
            "mode": "default",
            "runConfigData": run_config or {},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in all_tags.items()]},
        }
        answer = self.daemons.ask(LAUNCH, {"params": params})
        assert answer["__typename"] == "LaunchRunSuccess", answer
        self.dequeue()
        return str(answer["run"]["runId"])

    def backfill(self, asset: str, partitions: Sequence[str]) -> str:
        """Launch a backfill of an asset as the UI does and return its id; requires a running daemon."""
        params = {"assetSelection": [{"path": asset.split("/")}], "partitionNames": list(partitions)}
        answer = self.daemons.ask(BACKFILL, {"params": params})
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return str(answer["backfillId"])

    def dequeue(self) -> None:
        """Launch queued runs as far as limits allow, unless a separate daemon does it."""
        if self._has_daemon:
            return
        with QueuedRunCoordinatorDaemon(interval_seconds=1) as coordinator:
            for result in coordinator.run_iteration(self.daemons.context):
                assert result is None, result

    def wait(self, run_id: str, *, status: str | None = "SUCCESS") -> dg.DagsterRun:
        """Wait until a run has ended with the expected status (None: any) and return it; else fail with its story."""
        self.wait_until(lambda: self._has_ended(run_id), run_id)
        run = self._run(run_id)
        assert status is None or run.status.value == status, f"{run.status.value}\n{self.story(run_id)}"
        return run

    def wait_until(self, holds: Callable[[], object], run_id: str, *, seconds: float = _DEADLINE_SECONDS) -> None:
        """Wait until a condition holds; fail with the run's story if it does not."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"not after {seconds:g} s:\n{self.story(run_id)}"
            self.dequeue()
            time.sleep(_POLL_SECONDS)

    def run(self, *assets: str, status: str | None = "SUCCESS", **options: Any) -> dg.DagsterRun:
        """Call `launch` and `wait`."""
        return self.wait(self.launch(*assets, **options), status=status)

    def terminate(self, run_id: str) -> None:
        """Cancel a run as the UI does."""
        answer = self.daemons.ask(TERMINATE, {"run": run_id})
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def events(self, run_id: str, kind: dg.DagsterEventType | None = None) -> Sequence[dg.EventLogEntry]:
        """Return a run's events in the event log."""
        return self.instance.all_logs(run_id, of_type=kind)

    def story(self, run_id: str) -> str:
        """Return a readable report of a run: its events and their errors."""
        lines = [f"run {run_id}: {self._run(run_id).status.value}"]
        for entry in self.events(run_id):
            event = entry.dagster_event
            lines.append(f"  {event.event_type_value if event else 'LOG'} {entry.step_key or ''} {entry.message}")
            error = getattr(event.event_specific_data, "error", None) if event else None
            if error:
                lines.append(error.to_string())
        return "\n".join(lines)

    def log_keys(self, run_id: str) -> dict[str, list[str]]:
        """Return the key of the captured log by step."""
        found = {}
        for entry in self.events(run_id, dg.DagsterEventType.LOGS_CAPTURED):
            assert entry.dagster_event
            captured = entry.dagster_event.logs_captured_data
            for step in captured.step_keys or []:
                found[step] = self.instance.compute_log_manager.build_log_key_for_run(run_id, captured.file_key)
        return {step: list(key) for step, key in found.items()}

    def logs(self, run_id: str, step: str) -> tuple[str, str]:
        """Return what a step has printed to stdout and stderr so far, as the UI shows it."""
        data = self.instance.compute_log_manager.get_log_data(self.log_keys(run_id)[step])
        return (data.stdout or b"").decode(), (data.stderr or b"").decode()

    def objects(self, prefix: str = "") -> list[str]:
        """Return the keys of the objects in the bucket."""
        import boto3

        pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def release(self, run_id: str) -> None:
        """End the counting steps of a run now; see ``tests.containers.steps``."""
        import boto3

        from tests.containers.steps import released_key

        boto3.client("s3").put_object(Bucket=BUCKET, Key=released_key(run_id), ACL="public-read")

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """Run Dagster's own daemon as a process: queue, run monitoring, backfills, schedules and sensors."""
        workspace = self.home / "workspace.yaml"
        server = {"host": _LOOPBACK, "port": self.code_server_port, "location_name": LOCATION}
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
        program = Path(sys.executable).with_name("dagster-daemon")
        started = time.time()

        def beats() -> bool:
            found = self.instance.get_daemon_heartbeats().values()
            return any(beat.daemon_type == "MONITORING" and beat.timestamp > started for beat in found)

        with running([program, "run", "--workspace", workspace], beats, self.home / "daemon.log"):
            self._has_daemon = True
            try:
                yield
            finally:
                self._has_daemon = False

    def _has_ended(self, run_id: str) -> bool:
        run = self._run(run_id)
        if run.status is dg.DagsterRunStatus.STARTING and not self._has_daemon:
            # A worker that cannot open the instance reports nothing to it.
            health = self.instance.run_launcher.check_run_worker_health(run)
            lost = health.status in (WorkerStatus.FAILED, WorkerStatus.NOT_FOUND)
            still = self._run(run_id).status is dg.DagsterRunStatus.STARTING
            assert not (lost and still), f"the run worker did not start: {health.msg}\n{self.story(run_id)}"
        return run.is_finished

    def _run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run, run_id
        return run


@contextmanager
def deployed(
    kind: type["Deployment"],
    target: str,
    *,
    module: str,
    image: str,
    folder: Path,
    servers: Servers,
    variables: Mapping[str, str],
    launcher: Mapping[str, Any] | None = None,
    **facts: Any,
) -> Iterator[Any]:
    """Run a deployment of a target until the block ends.

    Args:
        kind: class of the deployment.
        target: folder in ``deployments`` whose ``dagster.yaml`` configures the instance.
        module: module of the code location, which the image also contains.
        image: image of run workers.
        folder: empty directory.
        servers: servers that the deployment uses.
        variables: environment of this process, the code server and the daemon.
        launcher: run launcher config that overrides ``dagster.yaml``, for a process outside of the target.
        facts: further fields of the deployment.
    """
    home = folder / "dagster"
    home.mkdir(parents=True)
    tree = yaml.safe_load((PROJECT / "deployments" / target / "dagster.yaml").read_text())
    tree["run_launcher"]["config"] |= launcher or {}
    (home / "dagster.yaml").write_text(yaml.safe_dump(tree))
    own = {"DAGSTER_HOME": str(home), "ML_ASSETS__DVC__CACHE": str(folder / "cache")}
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("ML_ASSETS__", "AWS_"))]:
            patch.delenv(name)
        for name, value in {**variables, **own}.items():
            patch.setenv(name, value)
        port = stack.enter_context(_code_server(module, image, folder))
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        origin = GrpcServerTarget(host=_LOOPBACK, port=port, socket=None, location_name=LOCATION)
        context = stack.enter_context(create_test_daemon_workspace_context(origin, instance))
        yield kind(
            target=target,
            image=image,
            home=home,
            servers=servers,
            daemons=Daemons(context, patch),
            code_server_port=port,
            **facts,
        )


def shared_variables(target: str, ground: Ground, servers: Servers) -> dict[str, str]:
    """Return the variables of every process of a deployment; pools are reduced to a small machine."""
    return {
        **servers.s3_variables,
        "ML_ASSETS_TARGET": target,
        "DAGSTER_POSTGRES_URL": servers.new_database(),
        "DAGSTER_LOGS_BUCKET": BUCKET,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "ML_ASSETS__DVC__REMOTE": f"s3://{BUCKET}/content",
        "ML_ASSETS__MLFLOW__TRACKING_URI": servers.mlflow,
        **image_variables(ground),
        **{
            f"ML_ASSETS__POOLS__{pool}__{key}": value
            for pool in ("CPU", "GPU", "GPU-SPOT")
            for key, value in {"CPUS": "0.1", "MEMORY": "1Gi", "CHECK_ACCELERATORS": "false"}.items()
        },
        **{f"ML_ASSETS__POOLS__{pool}__SHARED_MEMORY": "64Mi" for pool in ("GPU", "GPU-SPOT")},
    }


@dataclass
class DockerDeployment(Deployment):
    """A deployment on the Docker engine."""

    def containers(self, label: str) -> list[dict[str, Any]]:
        """Return the engine's data about containers with a label (``name`` or ``name=value``), including ended ones."""
        from docker.errors import NotFound

        found = []
        for listed in self._engine.containers(all=True, filters={"label": label}):
            with suppress(NotFound):  # one that disappears meanwhile does not affect the others
                found.append(self._engine.inspect_container(listed["Id"]))
        return found

    def close(self) -> None:
        """Close the connection to the engine."""
        self._engine.close()

    @cached_property
    def _engine(self) -> Any:
        import docker

        return docker.APIClient(**docker.utils.kwargs_from_env())

    def step_containers(self, run_id: str) -> list[dict[str, Any]]:
        """Return the containers of a run's steps."""
        from ml_assets.executors.engine import RUN_LABEL

        return self.containers(f"{RUN_LABEL}={run_id}")

    def run_workers(self, run_id: str) -> list[dict[str, Any]]:
        """Return the containers of a run's workers."""
        return self.containers(f"dagster/run_id={run_id}")


@contextmanager
def docker_deployment(
    ground: Ground,
    servers: Servers,
    image: str,
    module: str,
    folder: Path,
    variables: Mapping[str, str] | None = None,
) -> Iterator[DockerDeployment]:
    """Run the docker target on this machine's engine until the block ends."""
    own = {
        "ML_ASSETS_RUN_WORKER_NETWORK": "bridge",
        "ML_ASSETS__CONTAINERS__NETWORK": "bridge",
        **shared_variables("docker", ground, servers),
        # The tests' engine has no GPU.
        **{f"ML_ASSETS__POOLS__{pool}__ACCELERATORS": "0" for pool in ("GPU", "GPU-SPOT")},
        **(variables or {}),
    }
    written = yaml.safe_load((PROJECT / "deployments" / "docker" / "dagster.yaml").read_text())
    listed = written["run_launcher"]["config"]["env_vars"]
    own["ML_ASSETS__CONTAINERS__PASS_VARIABLES"] = json.dumps([*own, "ML_ASSETS__CONTAINERS__PASS_VARIABLES"])
    names = [*listed, *(name for name in own if name not in {entry.split("=")[0] for entry in listed})]
    with deployed(
        DockerDeployment,
        "docker",
        module=module,
        image=image,
        folder=folder,
        servers=servers,
        variables=own,
        launcher={"env_vars": names},
    ) as deployment:
        try:
            yield deployment
        finally:
            _remove_containers(deployment)
            deployment.close()


def _remove_containers(deployment: DockerDeployment) -> None:
    for run in deployment.instance.get_runs():
        for container in (*deployment.run_workers(run.run_id), *deployment.step_containers(run.run_id)):
            subprocess.run(["docker", "rm", "--force", container["Id"]], capture_output=True, check=False)


@contextmanager
def _code_server(module: str, image: str, folder: Path) -> Iterator[int]:
    port = free_port(_LOOPBACK)
    program = Path(sys.executable).with_name("dagster")
    command: list[str | Path] = [
        program,
        "api",
        "grpc",
        "--module-name",
        module,
        "--host",
        _LOOPBACK,
        "--port",
        str(port),
    ]
    # A working directory would be one of this machine, which does not exist in images.
    command += ["--container-image", image, "--location-name", LOCATION, "--empty-working-directory"]
    environment = {"PYTHONPATH": str(PROJECT)}
    log = folder / "code-server.log"
    with running(command, lambda: accepts(_LOOPBACK, port), log, environment=environment):
        yield port

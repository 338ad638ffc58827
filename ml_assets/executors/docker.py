"""Engine that runs steps as containers of one Docker engine."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ml_assets.executors.engine import (
    MANAGED_BY,
    MANAGER,
    RUN_LABEL,
    ContainerEngine,
    ContainerRequest,
    ContainerState,
    ContainerStatus,
)
from ml_assets.executors.failures import Failure, FailureCause
from ml_assets.resources.errors import EngineUnreachable
from ml_assets.resources.pools import parse_memory
from ml_assets.resources.sections import ContainerSettings

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["DockerEngine", "connect", "reaching"]

_STOP_SECONDS = 10
"""Grace period for a container to end before it is killed."""
_PULLS = 4
_EVENTS_SECONDS = 3600
_NO_GPU = "could not select device driver"
_GPU_HINT = "The engine finds no GPU: install NVIDIA Container Toolkit on its host, or set accelerators = 0 in the pool"


class DockerEngine(ContainerEngine):
    """The Docker engine that Docker's own environment variables select (``DOCKER_HOST``…).

    Args:
        settings: settings of every step's container, such as network and mounts.
        variables: environment variables of every step; never shown in events.
        client: creates the client; by default from Docker's environment variables.
    """

    name, noun = "Docker", "container"

    def __init__(
        self,
        settings: ContainerSettings,
        variables: Mapping[str, str],
        client: "Callable[[], DockerClient] | None" = None,
    ) -> None:
        self._settings, self._variables = settings, variables
        with reaching():
            self._client = client() if client else connect()
        # A pull takes minutes and must not block the loop, which also manages the other steps.
        self._starting: dict[str, Future[Failure | None]] = {}
        self._stopping: dict[str, Future[None]] = {}
        self._pool = ThreadPoolExecutor(_PULLS, thread_name_prefix="docker")
        self._runs: dict[str, str] = {}
        self._pulled: dict[str, float] = {}

    def start(self, request: ContainerRequest) -> None:
        """Pull the image, if necessary, and start the container in the background."""
        if request.name not in self._starting:
            self._runs[request.name] = request.labels[RUN_LABEL]
            self._starting[request.name] = self._pool.submit(self._start, request)

    def observe(self, run_id: str) -> dict[str, ContainerStatus]:
        """Return every container of a run, by name."""
        found = {name: status for name, status in self._begun(run_id) if status is not None}
        with reaching():
            listed = self._client.api.containers(all=True, filters={"label": f"{RUN_LABEL}={run_id}"})
            for each in listed:
                name = each["Names"][0].lstrip("/")
                attributes = self._inspect(name)
                if attributes is not None and (name not in found or attributes["State"]["Status"] != "created"):
                    found[name] = _status(attributes)
        return found

    def evidence(self, name: str, lines: int) -> tuple[Sequence[str], Sequence[str]]:
        """Return the last lines that a container printed, and Docker's events about it."""
        from docker.errors import APIError

        try:
            with reaching():
                printed = self._client.api.logs(name, tail=lines).decode(errors="replace").splitlines()
                return printed, self._events(name)
        except APIError:  # the container is gone
            return (), self._events(name)

    def pull_seconds(self, name: str) -> float | None:
        """Return the pull time measured by this process; None for a container that a predecessor started."""
        return self._pulled.get(name)

    def why_gone(self, name: str) -> Failure | None:
        """Return why a container no longer exists; None if it exists."""
        with reaching():
            begun = self._starting.get(name)
            if (begun is not None and not begun.done()) or self._inspect(name) is not None:
                return None
            return Failure(FailureCause.DELETED, "the container was removed", events=tuple(self._events(name)))

    def stop(self, name: str) -> bool:
        """Stop a container, with a grace period of ten seconds, and remove it; return True if it is gone."""
        begun = self._starting.get(name)
        if begun is not None and not begun.cancel() and not begun.done():
            return False  # The image is being pulled: the next call removes the container.
        self._starting.pop(name, None)
        stopping = self._stopping.get(name)
        if stopping is None:
            self._stopping[name] = self._pool.submit(self._remove, name, _STOP_SECONDS)
            return False
        if not stopping.done():
            return False
        del self._stopping[name]
        stopping.result()
        return True

    def remove(self, name: str, *, succeeded: bool) -> None:
        """Remove a container that has ended; its log is in the Dagster UI."""
        self._starting.pop(name, None)
        self._remove(name, 0)

    def all_runs(self) -> dict[str, list[str]]:
        """Return the names of all step containers, by run."""
        runs: dict[str, list[str]] = {}
        with reaching():
            for each in self._client.api.containers(all=True, filters={"label": f"{MANAGED_BY}={MANAGER}"}):
                runs.setdefault(each["Labels"].get(RUN_LABEL, ""), []).append(each["Names"][0].lstrip("/"))
        return runs

    def _begun(self, run_id: str) -> Iterator[tuple[str, ContainerStatus | None]]:
        for name, begun in self._starting.items():
            if self._runs[name] != run_id:
                continue
            if not begun.done():
                yield name, ContainerStatus(ContainerState.PENDING, waiting="the image is being pulled")
            elif begun.exception() is None and (failure := begun.result()) is not None:
                yield name, ContainerStatus(ContainerState.PENDING, failure=failure)

    def _start(self, request: ContainerRequest) -> Failure | None:
        from docker.errors import APIError, ImageNotFound, NotFound

        self._pulled[request.name] = 0.0
        try:
            self._client.images.get(request.image)
        except ImageNotFound:
            began = time.monotonic()
            try:
                repository, _, digest = request.image.partition("@")
                self._client.images.pull(repository, tag=digest)
            except (APIError, NotFound) as error:
                return Failure(FailureCause.IMAGE_PULL, _said(error))
            self._pulled[request.name] = time.monotonic() - began
        try:
            container = self._client.api.create_container_from_config(self._configuration(request), request.name)
            self._client.api.start(container["Id"])
        except APIError as error:
            if error.status_code == 409:  # a predecessor has created it
                return None
            said = _said(error)
            return Failure(FailureCause.CONFIGURATION, f"{said}. {_GPU_HINT}" if _NO_GPU in said else said)
        return None

    def _configuration(self, request: ContainerRequest) -> dict[str, Any]:
        from docker.types import DeviceRequest

        placement, pool = request.placement, request.pool
        memory = parse_memory(placement.memory)
        devices = (
            [DeviceRequest(count=placement.accelerators, capabilities=[["gpu"]])] if placement.accelerators else None
        )
        host = self._client.api.create_host_config(
            binds=list(self._settings.mounts),
            network_mode=self._settings.network,
            mem_limit=memory,
            memswap_limit=memory,  # No swap: a step that needs more memory fails with a clear cause.
            cpu_shares=max(2, int(placement.cpus * 1024)),
            nano_cpus=int(pool.cpu_limit * 1e9) if pool.cpu_limit else None,
            shm_size=parse_memory(pool.shared_memory) if pool.shared_memory else None,
            device_requests=devices,
            security_opt=["no-new-privileges"],
            cap_drop=["ALL"],
        )
        return dict(
            self._client.api.create_container_config(
                image=request.image,
                command=list(request.command),
                environment={**self._variables, **request.variables},
                labels={**request.labels, **request.annotations},  # a Docker label can be as long as an annotation
                host_config=host,
            )
        )

    def _inspect(self, name: str) -> dict[str, Any] | None:
        from docker.errors import NotFound

        try:
            return dict(self._client.api.inspect_container(name))
        except NotFound:
            return None

    def _remove(self, name: str, patience: int) -> None:
        from docker.errors import APIError, NotFound

        with reaching():
            try:
                if patience:
                    self._client.api.stop(name, timeout=patience)
                self._client.api.remove_container(name, force=True, v=True)
            except NotFound:
                pass
            except APIError as error:
                if error.status_code != 409:  # another process is removing it
                    raise

    def _events(self, name: str) -> list[str]:
        now = int(time.time())
        with reaching():
            events = self._client.api.events(since=now - _EVENTS_SECONDS, until=now, filters={"container": name})
            lines = [json.loads(line) for chunk in events for line in chunk.decode().splitlines() if line]
        return [
            f"{datetime.fromtimestamp(each['time']):%H:%M:%S} {each['Action']}"
            + (f" (exit status {code})" if (code := each["Actor"]["Attributes"].get("exitCode")) else "")
            for each in lines
        ]


def connect() -> "DockerClient":
    """Return a client of the engine that Docker's own environment variables select."""
    import docker

    return docker.from_env()


@contextmanager
def reaching() -> Iterator[None]:
    """Convert the client's connection errors to the library's own."""
    import requests
    from docker.errors import APIError, DockerException

    try:
        yield
    except APIError as error:
        if error.is_client_error():
            raise
        raise _unreachable(error) from error
    except (DockerException, requests.RequestException) as error:
        raise _unreachable(error) from error


def _unreachable(error: Exception) -> EngineUnreachable:
    return EngineUnreachable(
        f"the Docker engine does not answer: {error}",
        next_step="start the engine, or set DOCKER_HOST and mount the engine's socket into the run worker",
    )


def _said(error: Any) -> str:
    return " ".join(str(error.explanation or error).split())


def _status(attributes: Mapping[str, Any]) -> ContainerStatus:
    state = attributes["State"]
    seen = {"identity": attributes["Id"], "image_id": attributes["Image"], "started_at": _seconds(state["StartedAt"])}
    if state["Status"] in ("created", "restarting"):
        return ContainerStatus(ContainerState.PENDING, **seen)
    if state["Status"] in ("running", "paused"):
        return ContainerStatus(ContainerState.RUNNING, **seen)
    code = int(state["ExitCode"])
    if code == 0:
        return ContainerStatus(ContainerState.SUCCEEDED, **seen)
    limit = attributes["HostConfig"]["Memory"]
    if state["OOMKilled"]:
        failure = Failure(FailureCause.OUT_OF_MEMORY, f"the container reached its limit of {limit // 2**20} MiB", code)
    else:
        failure = Failure.of_exit(code, detail=state["Error"])
    return ContainerStatus(ContainerState.FAILED, failure=failure, **seen)


def _seconds(text: str) -> float | None:
    if not text or text.startswith("0001"):
        return None
    return datetime.fromisoformat(text[:19] + "+00:00").timestamp()

"""A container engine without containers, so that the whole loop can be tested in seconds on any machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ml_assets.executors import definition, image_check, loop
from ml_assets.executors.engine import RUN_LABEL, ContainerEngine, ContainerRequest, ContainerState, ContainerStatus
from ml_assets.executors.failures import Failure, FailureCause
from ml_assets.resources.errors import EngineRefused, EngineUnreachable

__all__ = ["SEEN", "UNREACHABLE", "ProcessEngine", "delete_container", "end_container", "processes", "used"]

PROJECT = Path(__file__).parents[3]
UNREACHABLE = "unreachable"
"""Name of a file in the engine's folder: while it exists, the engine does not answer."""
SEEN = "seen"
"""Name of a file in a container's folder: the engine has reported that the container runs."""
OTHER_IMAGE = "registry.example/other@sha256:" + "0" * 64
_OUT_OF_MEMORY = 128 + signal.SIGKILL
_PATIENCE_SECONDS = 10


class ProcessEngine(ContainerEngine):
    """A fake: a container is a plain process of `process_server`, which runs exactly the requested command.

    Real engines (tests/containers, tests/cluster) take seconds per container, need a machine that has them, and cannot
    be made to fail at a chosen moment. This engine can, and everything else is real: the loop, the processes and their
    events in Dagster's database.

    Its state is in a folder, so that a run worker's successor finds it there, as with a real engine:

    - It has one node, without labels: no node matches a pool with a node selector.
    - A process that SIGKILL ended was out of memory, unless `end_container` named another cause before.
    - Images of a repository ``moved`` run as another image; images of a repository ``forbidden`` are refused.
    """

    name, noun = "Processes", "process"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, request: ContainerRequest) -> None:
        self._reach()
        if "/forbidden@" in request.image:
            raise EngineRefused("it will not have this image", next_step="name another one")
        place, new = self.folder / request.name, self.folder / f".{uuid.uuid4()}"
        if place.exists():
            return
        new.mkdir()
        facts = {
            "run": request.labels[RUN_LABEL],
            "image": request.image,
            "command": list(request.command),
            "variables": dict(request.variables),
            "fits": not request.pool.node_selector,
        }
        (new / "request.json").write_text(json.dumps(facts))
        new.rename(place)

    def observe(self, run_id: str) -> Mapping[str, ContainerStatus]:
        self._reach()
        return {place.name: self._see(place) for place in self._places() if _request(place)["run"] == run_id}

    def evidence(self, name: str, lines: int) -> tuple[Sequence[str], Sequence[str]]:
        self._reach()
        log = self.folder / name / "log"
        return (log.read_text().splitlines()[-lines:] if log.exists() else ()), ()

    def pull_seconds(self, name: str) -> float | None:
        return 0.0

    def why_gone(self, name: str) -> Failure | None:
        self._reach()
        return None if (self.folder / name).exists() else Failure(FailureCause.DELETED, "its process was removed")

    def stop(self, name: str) -> bool:
        self._reach()
        place = self.folder / name
        if place.exists() and _request(place)["fits"] and not (place / "status").exists():
            asked = place / "asked"
            is_overdue = asked.exists() and time.time() - asked.stat().st_mtime > _PATIENCE_SECONDS
            if is_overdue or not asked.exists():
                _signal(place, signal.SIGKILL if is_overdue else signal.SIGTERM)
                asked.touch()
            return False
        _remove(place)
        return True

    def remove(self, name: str, *, succeeded: bool) -> None:
        self._reach()
        _remove(self.folder / name)

    def all_runs(self) -> Mapping[str, Sequence[str]]:
        self._reach()
        runs: dict[str, list[str]] = {}
        for place in self._places():
            runs.setdefault(_request(place)["run"], []).append(place.name)
        return runs

    def _reach(self) -> None:
        if (self.folder / UNREACHABLE).exists():
            raise EngineUnreachable("the engine does not answer", next_step="wait")

    def _places(self) -> Iterator[Path]:
        return (place for place in sorted(self.folder.glob("[!.]*")) if (place / "request.json").exists())

    def _see(self, place: Path) -> ContainerStatus:
        request, pid, cause = _request(place), place / "pid", place / "cause"
        image = OTHER_IMAGE if "/moved@" in request["image"] else request["image"]
        if cause.exists():
            return ContainerStatus(
                ContainerState.FAILED, image_id=image, failure=Failure(FailureCause(cause.read_text()), "as was said")
            )
        if (place / "status").exists():
            code = int((place / "status").read_text())
            if code == 0:
                return ContainerStatus(ContainerState.SUCCEEDED, image_id=image)
            killed = Failure(FailureCause.OUT_OF_MEMORY, "it was killed", code)
            failure = killed if code == _OUT_OF_MEMORY else Failure.of_exit(code)
            return ContainerStatus(ContainerState.FAILED, image_id=image, failure=failure)
        if pid.exists() and pid.stat().st_size:
            with suppress(FileNotFoundError):  # it was removed
                (place / SEEN).touch()
            return ContainerStatus(ContainerState.RUNNING, started_at=pid.stat().st_mtime, image_id=image)
        if request["fits"]:
            return ContainerStatus(ContainerState.PENDING)
        return ContainerStatus(ContainerState.PENDING, waiting="no node has its labels", unschedulable=True)


def end_container(folder: Path, name: str, cause: FailureCause) -> None:
    """Act as the engine: end a container for a cause."""
    (folder / name / "cause").write_text(cause.value)
    _signal(folder / name, signal.SIGKILL)


def delete_container(folder: Path, name: str) -> None:
    """Act as an outsider: remove a running container."""
    pid = int((folder / name / "pid").read_text())
    _remove(folder / name)
    os.killpg(pid, signal.SIGKILL)


@contextmanager
def processes(folder: Path) -> Iterator[ProcessEngine]:
    """Run an engine that starts processes, and make the executors of this process's jobs use it."""
    engine = ProcessEngine(folder)
    command = (sys.executable, "-m", "tests.ml_assets.executors.process_server", str(folder))
    with subprocess.Popen(command, cwd=PROJECT, start_new_session=True) as server, used(engine):
        try:
            yield engine
        finally:
            os.killpg(server.pid, signal.SIGKILL)


@contextmanager
def used(engine: ContainerEngine) -> Iterator[None]:
    """Make the executors of this process's jobs use an engine and poll it more often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(definition, "container_engine", lambda settings, variables: engine)
        patch.setattr(image_check, "image_check", lambda registry: lambda image_id, placed: image_id == placed.image)
        patch.setattr(loop, "_EVENTS_SECONDS", 0.05)
        patch.setattr(loop, "_LOOK_SECONDS", 0.2)
        yield


def _remove(place: Path) -> None:
    """Remove a container's folder atomically: during a gradual removal, the server would take it for a new one."""
    removed = place.with_name(f".{uuid.uuid4()}")
    with suppress(FileNotFoundError):
        place.rename(removed)
        shutil.rmtree(removed)


def _request(place: Path) -> dict[str, Any]:
    return dict(json.loads((place / "request.json").read_text()))


def _signal(place: Path, number: int) -> None:
    with suppress(ProcessLookupError, FileNotFoundError, ValueError):  # it has ended or not started
        pid = int((place / "pid").read_text())
        # SIGKILL ends all processes of a container; other signals go to the first one only.
        os.killpg(pid, number) if number == signal.SIGKILL else os.kill(pid, number)

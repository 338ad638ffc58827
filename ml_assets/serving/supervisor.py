"""The supervisor process: it owns the socket, starts a generation for each version of the model, and swaps them.

It never loads a model. Before the first model is loaded, it answers health requests itself: live, not ready, and the
reason.
"""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ml_assets.resources.errors import ServingError, SettingsError
from ml_assets.resources.identity import Digest, ModelUri
from ml_assets.serving.ipc import Order, Readiness, read_status, write_status
from ml_assets.serving.reference import ModelIdentity, ModelReference
from ml_assets.serving.settings import ServeSettings, set_variables_of_libraries
from ml_assets.serving.tracking import resolve

__all__ = ["supervise"]

_BACKLOG = 2048
_PATIENCE = 0.5
"""Seconds that clients wait for the first model before they get an error."""
_LONGEST_WAIT = 60.0
_MEMORY = Path("/dev/shm")  # noqa: S108  the only writable path in a container with a read-only root

_log = logging.getLogger(__name__)


def supervise(settings: ServeSettings) -> None:
    """Serve until a signal stops the process.

    Raises:
        SettingsError: the reference is malformed or needs a tracking server, or the address cannot be bound.
    """
    reference = ModelReference.parse(settings.model)
    if reference.is_registered and not settings.tracking_uri:
        resolve(reference, settings)
    with _listening(settings) as listener, _run_directory() as directory:
        set_variables_of_libraries(str(directory))
        asyncio.run(_Supervisor(settings, reference, listener, directory).run())


@contextlib.contextmanager
def _listening(settings: ServeSettings) -> Any:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"cannot bind {settings.host}:{settings.port}: {error.strerror}",
            next_step="set ML_ASSETS_SERVE_PORT to a free port",
        ) from error
    with listener:
        yield listener


@contextlib.contextmanager
def _run_directory() -> Any:
    for place in (_MEMORY, None):
        try:
            directory = Path(tempfile.mkdtemp(prefix="ml-assets-serve-", dir=place))
            break
        except OSError:
            continue
    else:
        raise SettingsError("cannot create a temporary directory", next_step="mount a tmpfs at /tmp or /dev/shm")
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@dataclass(eq=False)
class _Generation:
    number: int
    reference: str
    process: asyncio.subprocess.Process
    identity: ModelIdentity | None = None
    seconds: float = 0.0
    """Duration of loading."""
    workers: set[int] = field(default_factory=set)
    error: str | None = None


class _Supervisor:
    def __init__(
        self, settings: ServeSettings, reference: ModelReference, listener: socket.socket, directory: Path
    ) -> None:
        self._settings, self._reference, self._listener, self._directory = settings, reference, listener, directory
        self._lifeline, self._lifeline_end = os.pipe()
        self._count = 0
        self._alive: set[_Generation] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._current: _Generation | None = None
        self._candidate: _Generation | None = None
        self._served: _Generation | None = None
        """The generation that served last, alive or not."""
        self._waiting_room: Any = None
        self._metrics: Any = None
        self._detail: str | None = None
        self._wait = 1.0
        self._refused: dict[str, tuple[float, float]] = {}
        """Versions that failed to load: the time of the next try, and the last delay."""
        self._stop = asyncio.Event()
        self._stop_delay = 0.0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stopped, self._settings.stop_delay_seconds)
        loop.add_signal_handler(signal.SIGINT, self._stopped, 0.0)
        self._say("the model is being fetched")
        await self._start(str(self._reference))
        self._spawn(self._receive_early_clients())
        if self._reference.alias is not None:
            self._spawn(self._follow_alias())
        await self._stop.wait()
        await self._end()

    def _stopped(self, delay: float) -> None:
        self._stop_delay = delay
        self._stop.set()

    async def _end(self) -> None:
        """Wait for load balancers to remove the server, then let the workers finish their requests."""
        _log.info("stopping")
        write_status(self._directory, Readiness(False, "the server is stopping", stopping=True))
        await asyncio.sleep(self._stop_delay)
        # Closing the last copy of a shared socket drops connections that are not accepted yet. Therefore a worker must
        # hold the last copy: it accepts these connections first.
        self._listener.close()
        for generation in self._alive:
            _signal(generation, signal.SIGTERM)
        if self._waiting_room is not None:
            await self._waiting_room.drain(1.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_seconds + 2):
                while self._alive:
                    await asyncio.sleep(0.01)
        for generation in self._alive:
            _signal(generation, signal.SIGKILL)
        for task in self._tasks:
            task.cancel()

    async def _start(self, reference: str) -> _Generation:
        self._count += 1
        read_end, report = os.pipe()
        order = Order(reference, self._count, str(self._directory), self._listener.fileno(), report, self._lifeline)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ml_assets.serving.model_process",
            order.text,
            pass_fds=(self._listener.fileno(), report, self._lifeline),
        )
        os.close(report)
        generation = _Generation(self._count, reference, process)
        self._alive.add(generation)
        displaced, self._candidate = self._candidate, generation
        if displaced is not None:
            _signal(displaced, signal.SIGTERM)
        self._spawn(self._follow(generation, read_end))
        return generation

    async def _follow(self, generation: _Generation, read_end: int) -> None:
        """Process the reports of a generation until it ends."""
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        with os.fdopen(read_end, "rb") as pipe:
            transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
            while line := await reader.readline():
                self._heard(generation, json.loads(line))
            transport.close()
        code = await generation.process.wait()
        self._alive.discard(generation)
        if self._stop.is_set():
            return
        if generation is self._candidate:
            self._candidate = None
            await self._failed(generation, generation.error or f"its process exited with status {code}")
        elif generation is self._current:
            self._current = None
            loading = self._candidate.reference if self._candidate is not None else self._wanted()
            _log.error("the process of %s exited with status %d; loading %s", generation.reference, code, loading)
            self._say(f"loading {loading}, because the processes of {generation.reference} ended")
            if self._candidate is None:
                await self._start(loading)
            self._spawn(self._receive_early_clients())

    def _heard(self, generation: _Generation, report: dict[str, Any]) -> None:
        if report["event"] == "failed":
            generation.error = report["error"]
        elif report["event"] == "loaded":
            generation.identity = ModelIdentity(report["name"], report["version"], Digest.parse(report["digest"]))
            generation.seconds = report["seconds"]
            if generation is self._candidate:
                # From here on clients wait for the workers instead of getting an error about a missing model.
                self._close_waiting_room()
        elif report["event"] == "serving":
            generation.workers.add(report["worker"])
            if len(generation.workers) == self._settings.workers and generation is self._candidate:
                self._take_over(generation)

    def _take_over(self, generation: _Generation) -> None:
        self._close_waiting_room()
        self._current = self._served = generation
        self._candidate = None
        self._wait, self._detail = 1.0, None
        self._say()
        identity = generation.identity
        _log.info("serving %s, loaded in %.2f s", identity, generation.seconds)
        if identity is not None:
            self._refused.pop(identity.version, None)
            self._count_loads().loaded(identity, generation.seconds)
        for other in self._alive - {generation}:
            _signal(other, signal.SIGTERM)

    def _close_waiting_room(self) -> None:
        if self._waiting_room is not None:
            room, self._waiting_room = self._waiting_room, None
            room.stop_accepting(others_follow=True)
            self._spawn(room.drain(5.0))

    async def _failed(self, generation: _Generation, why: str) -> None:
        _log.error("cannot load %s: %s", generation.reference, why)
        self._count_loads().failed_to_load()
        if self._current is not None:
            serving = self._current.identity
            self._say(
                f"cannot load {generation.reference}, still serving version {serving.version if serving else ''}: {why}"
            )
            return
        self._say(f"cannot load {generation.reference}: {why}")
        self._spawn(self._receive_early_clients())
        await asyncio.sleep(self._wait)
        self._wait = min(2 * self._wait, _LONGEST_WAIT)
        if self._current is None and self._candidate is None and not self._stop.is_set():
            await self._start(self._wanted())

    async def _receive_early_clients(self) -> None:
        """If loading takes long, answer early clients with the error that no model is loaded yet."""
        await asyncio.sleep(_PATIENCE)
        loaded = self._candidate is not None and self._candidate.identity is not None
        if self._current is not None or loaded or self._waiting_room is not None or self._stop.is_set():
            return
        from ml_assets.serving.application import Application
        from ml_assets.serving.worker import Worker

        application = Application(self._settings, None, self._count_loads(), lambda: read_status(self._directory))
        self._waiting_room = Worker(self._listener.dup(), application, self._settings)
        self._waiting_room.start()

    async def _follow_alias(self) -> None:
        """Look up the alias periodically, and load a new version beside the served one."""
        while True:
            await asyncio.sleep(self._settings.poll_seconds)
            if self._served is None or self._candidate is not None:
                continue
            try:
                found = await asyncio.to_thread(resolve, self._reference, self._settings)
            except ServingError as error:
                _log.warning("cannot look up the alias: %s", error)
                continue
            except Exception:  # an error of the tracking server must not end this loop
                _log.exception("cannot look up the alias")
                continue
            served = self._served.identity
            if found is None or served is None or (found.version, found.digest) == (served.version, served.digest):
                if self._detail is not None and self._current is not None:
                    self._say()
                continue
            again, waited = self._refused.get(found.version, (0.0, self._settings.poll_seconds))
            if time.monotonic() >= again and self._candidate is None:
                self._refused = {found.version: (time.monotonic() + 2 * waited, min(2 * waited, 600.0))}
                await self._start(str(ModelUri(found.name, found.version)))

    def _wanted(self) -> str:
        """Return the version that served last, even if the alias has moved; at first, the requested version."""
        served = self._served.identity if self._served is not None else None
        if self._reference.alias is None or served is None:
            return str(self._reference)
        return str(replace(self._reference, version=served.version, alias=None))

    def _say(self, detail: str | None = None) -> None:
        self._detail = detail
        write_status(self._directory, Readiness(self._current is not None, detail))

    def _count_loads(self) -> Any:
        if self._metrics is None:
            from ml_assets.serving.metrics import Metrics

            self._metrics = Metrics(self._directory, "supervisor")
        return self._metrics

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _signal(generation: _Generation, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        generation.process.send_signal(number)

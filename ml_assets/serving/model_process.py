"""One version of the model: a process that loads it once and forks workers to serve it.

The workers share the loaded model's memory. A new fork replaces a worker that exits, with the model already warm.
"""

import asyncio
import contextlib
import gc
import logging
import mmap
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from ml_assets.resources.errors import MlAssetsError
from ml_assets.serving.ipc import Order, read_status, report
from ml_assets.serving.logs import LogLines, set_up_logging
from ml_assets.serving.reference import ModelReference
from ml_assets.serving.servable import Servable
from ml_assets.serving.settings import ServeSettings, load_serve_settings

__all__ = ["main"]

_YOUNG_SECONDS = 2.0
_MOST_YOUNG_DEATHS = 5

_log = logging.getLogger(__name__)


def main() -> None:
    """Load the model and keep workers running until a signal stops the process."""
    order = Order.parse(sys.argv[1])
    settings, started = load_serve_settings(), time.monotonic()
    lines = set_up_logging(process=f"generation {order.number}")
    try:
        servable = _load(ModelReference.parse(order.reference), settings)
    except MlAssetsError as error:
        report(order, event="failed", error=str(error))
        sys.exit(3)
    report(
        order,
        event="loaded",
        name=servable.identity.name,
        version=servable.identity.version,
        digest=str(servable.identity.digest),
        seconds=time.monotonic() - started,
    )
    sys.exit(_Workers(order, settings, servable, lines).keep())


def _load(reference: ModelReference, settings: ServeSettings) -> Servable:
    from ml_assets.serving.servable import load_servable
    from ml_assets.serving.tracking import fetch_model

    identity, content = fetch_model(reference, settings)
    servable = load_servable(content, identity)
    _log.info("loaded %s %s, %s", identity.name, identity.version, identity.digest)
    return servable


class _Workers:
    """The forked workers of this process."""

    def __init__(self, order: Order, settings: ServeSettings, servable: Servable, lines: LogLines) -> None:
        self._order, self._settings, self._servable, self._lines = order, settings, servable, lines
        self._shares = memoryview(mmap.mmap(-1, 4 * settings.workers)).cast("I")
        self._alive, self._alive_end = os.pipe()
        self._wakeup, wakeup_end = os.pipe()
        for descriptor in (self._wakeup, wakeup_end):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wakeup_end)
        self._places: dict[int, tuple[int, float]] = {}
        self._young_deaths = 0
        self._stopping = self._failed = False

    def keep(self) -> int:
        """Fork, monitor and replace workers; return the exit status."""
        # Import all modules of the workers once before the fork, then freeze them: the garbage collector would
        # otherwise write to the shared pages.
        from ml_assets.serving import worker  # noqa: F401

        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C stops the supervisor
        signal.signal(signal.SIGCHLD, lambda *_: None)
        gc.collect()
        gc.freeze()
        for place in range(self._settings.workers):
            self._fork(place)
        while self._places:
            watched = [self._wakeup] if self._stopping else [self._wakeup, self._order.lifeline]
            readable, _, _ = select.select(watched, [], [])
            if self._wakeup in readable:
                os.read(self._wakeup, 4096)
            if self._order.lifeline in readable:
                self._stop()
            self._reap()
        return int(self._failed)

    def _stop(self, *_: Any) -> None:
        if not self._stopping:
            os.close(self._order.listener)
        self._stopping = True
        for process in self._places:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)

    def _reap(self) -> None:
        while self._places:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            place, born = self._places.pop(process)
            if self._stopping:
                continue
            code = os.waitstatus_to_exitcode(status)
            _log.error("worker %d exited with status %d and is replaced", place, code)
            self._young_deaths = self._young_deaths + 1 if time.monotonic() - born < _YOUNG_SECONDS else 0
            if self._young_deaths >= _MOST_YOUNG_DEATHS:
                _log.error("%d workers in succession exited shortly after their start; giving up", _MOST_YOUNG_DEATHS)
                self._stop()
                self._failed = True
                return
            self._fork(place)

    def _fork(self, place: int) -> None:
        # Block stop signals until the new worker is registered. The worker uses the default handler until it serves.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        process = 0 if self._stopping else os.fork()
        if process:
            self._places[process] = place, time.monotonic()
        if process or self._stopping:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            return
        status = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            signal.set_wakeup_fd(-1)
            os.close(self._alive_end)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._lines.constant["process"] = f"worker {self._order.number}.{place}"
            import uvloop

            serving = _serve(self._order, place, self._settings, self._servable, self._lines, self._shares, self._alive)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serving)
            status = 0
        except BaseException:
            _log.exception("a worker failed")
        finally:
            os._exit(status)


async def _serve(
    order: Order,
    place: int,
    settings: ServeSettings,
    servable: Servable,
    lines: LogLines,
    shares: memoryview,
    parent: int,
) -> None:
    from ml_assets.serving.application import Application
    from ml_assets.serving.metrics import Metrics
    from ml_assets.serving.worker import Worker

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(parent, stop.set)
    identity, directory = servable.identity, Path(order.directory)
    metrics = Metrics(directory, order.place(place), identity)
    tracer = _tracer(settings, servable)
    application = Application(settings, servable, metrics, lambda: read_status(directory), lines, tracer)
    application.warm_up()
    worker = Worker(socket.socket(fileno=order.listener), application, settings, (shares, place))
    worker.start()
    metrics.serving(str(identity.digest), live=True)
    report(order, event="serving", worker=place)
    await stop.wait()
    loop.remove_reader(parent)
    await worker.drain(settings.drain_seconds)
    metrics.serving(str(identity.digest), live=False)
    if tracer is not None:
        tracer.close()
    lines.flush()


def _tracer(settings: ServeSettings, servable: Servable) -> Any:
    if not settings.traces_endpoint:
        return None
    from ml_assets.serving.tracing import Tracer

    identity = servable.identity
    return Tracer(settings.traces_endpoint, {"model.name": identity.name, "model.version": identity.version})


if __name__ == "__main__":
    main()

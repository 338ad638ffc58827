"""Connections of one process, accepted from a shared socket and closed without losing a request.

uvicorn (with httptools) handles HTTP. This module adds the choice of the accepting process, limits on the size and time
of a request's head, and the shutdown of a process.
"""

import asyncio
import logging
import socket
from email.utils import formatdate

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ml_assets.serving.application import BEGAN, Application
from ml_assets.serving.settings import ServeSettings

__all__ = ["Worker"]

_KEEP_ALIVE = 75
"""Idle limit of a connection in seconds; longer than that of load balancers, so that they close first."""
_HEAD_BYTES = 64 << 10
_QUIET_SECONDS = 1.0
_MOST_CONNECTIONS = 4096

_log = logging.getLogger(__name__)


class Worker:
    """Serves one application.

    Args:
        listener: listening socket, which other processes may share; this process's copy is closed at the end.
        application: answers the requests.
        settings: time limits.
        shares: connection counts of all processes in shared memory, and the index of this process.
    """

    def __init__(
        self,
        listener: socket.socket,
        application: Application,
        settings: ServeSettings,
        shares: tuple[memoryview, int] | None = None,
    ) -> None:
        self._listener = listener
        self._application = application
        self._settings = settings
        self._shares, self._place = shares or (memoryview(bytearray(4)).cast("I"), 0)
        self._config = uvicorn.Config(
            application,
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE,
        )
        self._config.load()
        self._state = ServerState()
        self._loop = asyncio.get_running_loop()
        self._accepting = False
        self._ticker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start accepting connections."""
        self._listener.setblocking(False)
        self._shares[self._place] = 0
        self._accepting = True
        self._ticker = self._loop.create_task(self._tick())
        self._loop.add_reader(self._listener, self._accept)

    async def drain(self, seconds: float) -> None:
        """Stop accepting; return when all connections are answered and closed, or when the time is up.

        If a connection sends another request, the response asks the client to close. A connection that is idle for a
        second is closed.
        """
        self._application.closing = True
        self.stop_accepting()
        until = self._loop.time() + seconds
        while self._state.connections and self._loop.time() < until:
            for connection in list(self._state.connections):
                if isinstance(connection, _Connection) and connection.quiet_for() > _QUIET_SECONDS:
                    connection.shutdown()
            await asyncio.sleep(0.02)
        if self._state.connections:
            _log.warning("closing %d connections that were not done after %g s", len(self._state.connections), seconds)
            for connection in list(self._state.connections):
                connection.transport.abort()
        if self._ticker:
            self._ticker.cancel()
        self._application.tick()

    def stop_accepting(self, *, others_follow: bool = False) -> None:
        """Stop accepting. Accept pending connections first, unless other processes can accept them."""
        if self._accepting:
            while not others_follow and self._take():
                pass
            self._accepting = False
            self._loop.remove_reader(self._listener)
            self._listener.close()

    def _accept(self, *, anyway: bool = False) -> None:
        """Accept one connection. A process with more connections than another first waits a moment for the others."""
        if not self._accepting:
            return
        mine = len(self._state.connections)
        if mine >= _MOST_CONNECTIONS or (mine > min(self._shares) and not anyway):
            self._loop.remove_reader(self._listener)
            self._loop.call_later(0.001 if mine < _MOST_CONNECTIONS else 0.1, self._accept_later)
            return
        self._take()

    def _accept_later(self) -> None:
        if self._accepting:
            self._accept(anyway=True)
            self._loop.add_reader(self._listener, self._accept)

    def _take(self) -> bool:
        try:
            accepted, _ = self._listener.accept()
        except OSError:  # another process was quicker, the client disconnected, or no descriptors are left
            return False
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(self._config, self._state, self)
        self._state.connections.add(connection)
        task = self._loop.create_task(self._connect(connection, accepted))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)
        self.connections_changed()
        return True

    async def _connect(self, connection: "_Connection", accepted: socket.socket) -> None:
        await self._loop.connect_accepted_socket(lambda: connection, accepted)

    def connections_changed(self) -> None:
        """Publish the number of connections to the other processes."""
        self._shares[self._place] = len(self._state.connections)

    async def _tick(self) -> None:
        while True:
            self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
            self._application.tick()
            for connection in list(self._state.connections):
                if isinstance(connection, _Connection) and connection.quiet_for() > _KEEP_ALIVE:
                    connection.shutdown()
                elif isinstance(connection, _Connection) and connection.head_for() > self._settings.timeout_seconds:
                    connection.transport.close()
            await asyncio.sleep(1)


class _Connection(HttpToolsProtocol):
    """uvicorn's connection, with a limit on a request's head and the time of the last byte."""

    def __init__(self, config: uvicorn.Config, state: ServerState, worker: Worker) -> None:
        super().__init__(config, state, {})
        self._worker = worker
        self._heard = self.loop.time()
        self._head_since: float | None = None
        self._head_bytes = 0

    def quiet_for(self) -> float:
        """Return the seconds without a request in progress and without a byte."""
        answering = self.cycle is not None and not self.cycle.response_complete
        busy = self.transport is None or self._head_since is not None or answering
        return 0.0 if busy else self.loop.time() - self._heard

    def head_for(self) -> float:
        """Return the seconds since a request's head began to arrive."""
        return 0.0 if self._head_since is None else self.loop.time() - self._head_since

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        super().data_received(data)
        if self._head_since is not None:
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES:
                self.send_400_response("The request's head is too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_since = self.scope[BEGAN] = self._heard  # type: ignore[literal-required]  # a key of our own

    def on_headers_complete(self) -> None:
        self._head_since, self._head_bytes = None, 0
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._worker.connections_changed()

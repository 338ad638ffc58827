"""Stand-in for a ``buildkitd``, which not every machine can run: a relay to the BuildKit inside a Docker engine.

A Docker engine answers ``POST /grpc`` with ``Upgrade: h2c`` by speaking BuildKit's own protocol on that connection, as
buildx's driver ``docker`` uses it. The relay sends this request for each client and then forwards bytes. The driver
``remote`` therefore finds at a TCP port, from this machine and from pods, what it would find at a buildkitd's.

The daemon around BuildKit differs: the engine's configuration lists the registries without TLS, and without its
containerd image store the engine has no exporter for images, attestations or caches.
"""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_REQUEST = b"POST /grpc HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n"
_CHUNK = 65536


@contextmanager
def buildkit_relay(host: str, engine: Path) -> Iterator[str]:
    """Yield the address of BuildKit as ``tcp://host:port``; all connections are closed when the block ends.

    Args:
        host: address of this machine to listen on.
        engine: socket of the Docker engine.
    """
    with _Relay(host, engine) as relay:
        thread = threading.Thread(target=relay.serve_forever, args=(0.1,))
        thread.start()
        try:
            yield f"tcp://{host}:{relay.server_address[1]}"
        finally:
            relay.shutdown()
            thread.join()
            for client in relay.clients:
                _end(client)


class _Relay(socketserver.ThreadingTCPServer):
    def __init__(self, host: str, engine: Path) -> None:
        self.engine = engine
        self.clients: list[socket.socket] = []
        super().__init__((host, 0), _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.clients.append(request)
        super().process_request(request, client_address)


class _Connection(socketserver.BaseRequestHandler):
    server: _Relay

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(str(self.server.engine))
            _upgrade(engine)
            answers = threading.Thread(target=_pass, args=(engine, self.request))
            answers.start()
            _pass(self.request, engine)
            answers.join()


def _upgrade(engine: socket.socket) -> None:
    engine.sendall(_REQUEST)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):  # the following bytes belong to BuildKit's protocol
        if not (byte := engine.recv(1)):
            raise ConnectionError(f"the engine closed the connection: {answer!r}")
        answer += byte
    if b" 101 " not in answer.splitlines()[0]:
        raise ConnectionError(f"the engine does not speak BuildKit's protocol: {answer!r}")


def _pass(source: socket.socket, target: socket.socket) -> None:
    """Forward bytes until one side is closed, then close both."""
    with suppress(OSError):
        while chunk := source.recv(_CHUNK):
            target.sendall(chunk)
    _end(source)
    _end(target)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)

"""A proxy on the loopback interface in front of a real HTTP server, which fails a share of the requests."""

import http.client
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = ("500", "503", "drop", "lie", "cut", "hang")
"""Answer 500 or 503 without asking; close the connection; ask, then answer 500; cut the answer; never answer."""


class FlakyProxy:
    """A running proxy.

    Attributes:
        url: its address.
        share: the share of requests that fail.
        faults: the ways in which they fail, chosen at random.
        seen: number of requests by what happened to them.
    """

    def __init__(self, server: str, seed: int) -> None:
        self.share, self.faults, self.seen = 0.0, ("500",), Counter[str]()
        self.ended = threading.Event()
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._server = urlsplit(server).netloc
        self.url = ""

    def fault(self) -> str | None:
        """Return the fault of the next request."""
        with self._lock:
            found = self._random.choice(self.faults) if self._random.random() < self.share else None
            self.seen[found or "ok"] += 1
        return found

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return the server's answer to a request."""
        connection = http.client.HTTPConnection(self._server, timeout=60)
        try:
            connection.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


@contextmanager
def flaky_proxy(server: str, seed: int = 1) -> Iterator[FlakyProxy]:
    """Run a proxy in front of a server; it passes everything on until its `share` is set."""
    proxy = FlakyProxy(server, seed)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            with suppress(ConnectionError):
                super().handle_one_request()

        def handle_any(self) -> None:
            if self.headers.get("Expect"):
                self.send_response_only(100)
                self.end_headers()
            body = self._body()
            fault = proxy.fault()
            if fault == "hang":
                proxy.ended.wait()
            if fault in ("hang", "drop"):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            status, headers, content = (int(fault), [], b"") if fault in ("500", "503") else proxy.forward(self, body)
            if fault == "lie":
                status, headers, content = 500, [], b""
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            is_head = self.command == "HEAD"
            length = {name.lower(): value for name, value in headers}.get("content-length") if is_head else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if not is_head:
                self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)
            if fault == "cut":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            del self.headers["Transfer-Encoding"]
            self.headers["Content-Length"] = str(sum(map(len, parts)))
            return b"".join(parts)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.handle_any)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """Ignore connections that the client closed."""

    with Server(("127.0.0.1", 0), Handler) as listening:
        proxy.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.ended.set()
            listening.shutdown()
            thread.join()

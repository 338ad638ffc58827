"""The whole server in its own processes, as in a container."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ports import free_port

ROOT = Path(__file__).parents[3]
_PATIENCE = 480


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    def ask(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request on a new connection and return status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE)
        with contextlib.closing(connection):
            content = body if isinstance(body, bytes | None) else json.dumps(body)
            kind = {"Content-Type": "application/json", "Connection": "close"}
            connection.request("GET" if body is None else "POST", path, content, kind | (headers or {}))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Poll until a condition holds."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if holds():
                    return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"not within {_PATIENCE} s: {what}\n{self.log.read_text()}")

    def wait_until_ready(self) -> None:
        """Wait until the server accepts requests."""
        self.wait_until(lambda: self.ask("/v2/health/ready")[0] == 200, "ready")

    def version(self) -> str:
        """Return the version that answers."""
        return self.ask("/ping")[1]["ml-assets-model"].rpartition("/")[2]

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the parsed log lines."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def children(process: int) -> list[int]:
    """Return the ids of a process's children."""
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@contextlib.contextmanager
def serving(folder: Path, model: str, **variables: Any) -> Iterator[Server]:
    """Start a server for a model; variables are named without the prefix ``ML_ASSETS_SERVE_``."""
    port = free_port()
    chosen = {"model": model, "port": port, "workers": 2, "stop_delay_seconds": 0} | variables
    ours = {f"ML_ASSETS_SERVE_{name.upper()}": str(value) for name, value in chosen.items()}
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.jsonl"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "ml_assets.serving"],
            env={**os.environ, "PYTHONPATH": str(ROOT), **ours},
            stdout=stream,
            stderr=stream,
            text=True,
            cwd=folder,
        )
        try:
            yield Server(process, port, log)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                raise

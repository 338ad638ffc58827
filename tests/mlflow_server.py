"""A real MLflow server, and a relay in front of it that can stop answering."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from tests.ports import free_port

__all__ = ["Relay", "Server"]


class Server:
    """A real tracking server with proxied artifacts."""

    def __init__(self, folder: Path) -> None:
        self.uri = f"http://127.0.0.1:{free_port('127.0.0.1')}"
        options = {
            "--backend-store-uri": f"sqlite:///{folder}/server.db",
            "--artifacts-destination": f"{folder}/artifacts",
            "--host": "127.0.0.1",
            "--port": self.uri.rpartition(":")[2],
            "--workers": "1",
        }
        command = [sys.executable, "-m", "mlflow", "server", *(part for option in options.items() for part in option)]
        # MLflow's jobs, which these tests do not need, are eight more interpreters.
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (folder / "server.log").open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 480
        while not self._answers():
            alive = self.process.poll() is None and time.monotonic() < deadline
            assert alive, (folder / "server.log").read_text()
            time.sleep(0.2)

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False


class Relay:
    """Passes connections to a server while ``up``, closes them when ``down``, and says nothing when ``hung``."""

    def __init__(self, server: Server) -> None:
        self.state = "up"
        self._port = int(server.uri.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def switch(self, state: str) -> None:
        """Change the state, also for open connections."""
        self.state = state
        if state == "down":
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def back_after(self, seconds: float) -> None:
        """Switch to ``up`` later."""
        threading.Timer(seconds, self.switch, ("up",)).start()

    def stop(self) -> None:
        self.switch("down")
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.state == "down":
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._port))
            self._open += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self.state == "up":
                    target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

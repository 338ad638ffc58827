"""nginx with the shipped configuration, as a login in front of a deployment's web pages."""

import base64
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import require_program
from tests.ports import free_port
from tests.ui.conftest import DEADLINE_SECONDS, PROJECT, Deployment, running_server

USER, PASSWORD = "ada", "correct horse"
SITES = ("dagster", "mlflow", "lineage")
_TLS = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1")
_UPSTREAMS = {"dagster": "http://127.0.0.1:3000", "mlflow": "http://127.0.0.1:5000", "lineage": "http://127.0.0.1:3001"}


@dataclass(frozen=True)
class Sites:
    """The sites behind the login."""

    addresses: Mapping[str, str]
    certificate: Path

    def ask(self, site: str, path: str, *, password: str | None = PASSWORD, **options: Any) -> requests.Response:
        """Return the answer of a page; ``password`` is None for a client without a login."""
        auth = (USER, password) if password is not None else None
        address, method = self.addresses[site] + path, options.pop("method", "GET")
        return requests.request(
            method, address, auth=auth, verify=str(self.certificate), timeout=DEADLINE_SECONDS, **options
        )

    def subscribe(self, *, password: str | None) -> bytes:
        """Return the start of Dagster's answer to a request for the WebSocket of its UI."""
        site = self.addresses["dagster"]
        host, port = site.removeprefix("https://").split(":")
        login = base64.b64encode(f"{USER}:{password}".encode()).decode()
        lines = [
            f"GET /graphql HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: {site}",
            *([f"Authorization: Basic {login}"] if password is not None else []),
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: graphql-ws\r\n\r\n",
        ]
        context = ssl.create_default_context(cafile=str(self.certificate))
        with (
            socket.create_connection((host, int(port)), timeout=DEADLINE_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            connection.sendall("\r\n".join(lines).encode())
            return connection.recv(4096)


@pytest.fixture(scope="module")
def sites(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    nginx, folder = require_program("nginx", "nginx-light"), tmp_path_factory.mktemp("nginx")
    crypt = subprocess.run(["openssl", "passwd", "-6", PASSWORD], capture_output=True, text=True, check=True).stdout
    (folder / "ml-assets.users").write_text(f"{USER}:{crypt}")
    files = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "ml-assets.key", "-out", "ml-assets.crt")
    subprocess.run([*_TLS, *files], cwd=folder, capture_output=True, check=True)
    shipped = (PROJECT / "deployments" / "login" / "nginx.conf").read_text().replace("/etc/nginx/", f"{folder}/")
    ports = {name: free_port() for name in SITES}
    for name, port in ports.items():
        for said, instead in (
            (f"listen      443 ssl;\n    server_name {name}.example;", f"listen 127.0.0.1:{port} ssl;"),
            (f"{_UPSTREAMS[name]};", f"{getattr(deployment, name)};"),
        ):
            assert said in shipped
            shipped = shipped.replace(said, instead)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; worker_processes 1; user root;\nevents {{}}\n"
        f"http {{ access_log off;\n{shipped}\n}}\n"
    )
    command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    with running_server(command, {}, folder / "log", lambda: _is_open(ports["lineage"])) as wait:
        wait()
        addresses = {name: f"https://127.0.0.1:{port}" for name, port in ports.items()}
        yield Sites(addresses, folder / "ml-assets.crt")


def _is_open(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0

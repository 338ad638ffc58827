"""A second Docker engine on this machine, with the containerd image store that BuildKit's attestations need."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import require_program, unavailable

_SECONDS = 300
_BRIDGE_PREFIX = "ml-test"
_LINKS = Path("/sys/class/net")


@contextmanager
def containerd_engine(registry: str) -> Iterator[Path]:
    """Run the engine until the block ends; yield its socket.

    Args:
        registry: registry that the engine accesses without TLS.
    """
    program, ip = require_program("dockerd", "docker" + ".io"), require_program("ip", "iproute2")
    if os.geteuid():
        unavailable("a second Docker engine can only be started by root")
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    configuration = {"features": {"containerd-snapshotter": True}, "insecure-registries": [registry]}
    (folder / "daemon.json").write_text(json.dumps(configuration))
    socket = folder / "docker.sock"
    options = ["--config-file", folder / "daemon.json", "--host", f"unix://{socket}", "--data-root", folder / "data"]
    options += ["--exec-root", folder / "exec", "--pidfile", folder / "pid"]
    try:
        with _bridge(ip) as bridge, (folder / "log").open("wb") as log:
            options += ["--bridge", bridge, "--iptables=false", "--ip-masq=false"]
            with subprocess.Popen([program, *options], stdout=log, stderr=log) as engine:
                try:
                    _wait(engine, socket, folder / "log")
                    yield socket
                finally:
                    engine.terminate()
                    engine.wait(_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _bridge(ip: str) -> Iterator[str]:
    """Create a bridge named after this process; otherwise the engines would remove each other's."""
    for link in _LINKS.glob(f"{_BRIDGE_PREFIX}-*"):  # leftovers of killed tests
        if not Path("/proc", link.name.rpartition("-")[2]).exists():
            subprocess.run([ip, "link", "delete", link.name], capture_output=True, check=False)
    name = f"{_BRIDGE_PREFIX}-{os.getpid()}"
    subprocess.run([ip, "link", "add", name, "type", "bridge"], check=True)
    try:
        subprocess.run([ip, "address", "add", f"172.31.{os.getpid() % 250}.1/24", "dev", name], check=True)
        subprocess.run([ip, "link", "set", name, "up"], check=True)
        yield name
    finally:
        subprocess.run([ip, "link", "delete", name], check=False)


def _wait(engine: "subprocess.Popen[bytes]", socket: Path, log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    command = ["docker", "--host", f"unix://{socket}", "info"]
    while subprocess.run(command, capture_output=True, check=False).returncode:
        if engine.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the second engine did not start: {log.read_text()[-2000:]}")
        time.sleep(0.2)

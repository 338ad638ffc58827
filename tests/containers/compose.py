"""The docker target as ``deployments/docker/compose.yaml`` starts it, accessed through its UI's API."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from ml_assets.resources.provenance import ProvenanceRecord
from tests.containers.ground import Ground
from tests.containers.stand_ins import stand_in
from tests.containers.webserver import Webserver
from tests.ports import free_port

PROJECT = Path(__file__).parents[2]
COMMIT = "c0" * 20
_DOCKER_TARGET = PROJECT / "deployments" / "docker"
_RECORDS = """
import json, sys, dagster
from ml_assets.resources.provenance import RECORD_METADATA
with dagster.DagsterInstance.get() as instance:
    for event in instance.all_logs(sys.argv[1], of_type=dagster.DagsterEventType.ASSET_MATERIALIZATION):
        print(json.dumps(event.asset_materialization.metadata[RECORD_METADATA].value))
"""

_CONNECT = """
import contextlib, socket, sys
for address in sys.argv[1:]:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError):
        socket.create_connection((host, int(port)), timeout=3).close()
        print(address)
"""


@dataclass(frozen=True)
class Compose:
    """A Docker Compose project: this target, on free ports, with stand-ins for third-party images."""

    name: str
    variables: Mapping[str, str]
    folder: Path
    """Folder with the passwords and a copy of the code that tests mount and edit."""

    @cached_property
    def ui(self) -> Webserver:
        """The webserver that browsers access."""
        return Webserver(f"http://127.0.0.1:{self.variables['DAGSTER_PORT']}")

    def __call__(self, *arguments: str, develop: bool = False) -> str:
        """Return the output of ``docker compose``.

        Raises:
            AssertionError: the command fails.
        """
        command = self._command()
        command += ["--file", str(_DOCKER_TARGET / "compose.develop.yaml")] if develop else []
        done = subprocess.run(
            [*command, *arguments],
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        if done.returncode:
            logs = subprocess.run(
                [*command, "logs", "--tail=40"],
                env={**os.environ, **self.variables},
                capture_output=True,
                text=True,
                check=False,
            )
            raise AssertionError(f"docker compose {' '.join(arguments)}: {done.stderr[-3000:]}\n{logs.stdout[-9000:]}")
        return done.stdout

    def make(self, target: str, *variables: str) -> str:
        """Return the output of a target of ``make`` for this project.

        Raises:
            AssertionError: the target fails.
        """
        told = f"TOLD=COMMIT={COMMIT} DIRTY=false DIFF_DIGEST= REPOSITORY="
        command = ["make", target, f"DOCKER_TARGET={self.folder}", f"COMPOSE={' '.join(self._command())}", told]
        environment = {**os.environ, **self.variables}
        done = subprocess.run(
            [*command, *variables], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        return done.stdout

    def records(self, run: str) -> dict[str, ProvenanceRecord]:
        """Return the records of a run by asset."""
        printed = self("exec", "--no-TTY", "daemon", "python", "-c", _RECORDS, run)
        records = map(ProvenanceRecord.model_validate_json, printed.splitlines())
        return {record.asset: record for record in records}

    def trace(self, reference: str) -> dict[str, Any]:
        """Return the answer of ``ml-assets trace``."""
        answer: dict[str, Any] = json.loads(
            self("exec", "--no-TTY", "daemon", "ml-assets", "trace", reference, "--json")
        )
        return answer

    def addresses(self, network: str) -> dict[str, str]:
        """Return the IP address of each service on one of the project's networks."""
        template = (
            '{{index .Config.Labels "com.docker.compose.service"}} {{range $name, $each := .NetworkSettings.Networks}}'
        )
        template += "{{$name}}={{$each.IPAddress}} {{end}}"
        listed = self("ps", "--quiet").split()
        done = subprocess.run(
            ["docker", "inspect", "--format", template, *listed], capture_output=True, text=True, check=True
        )
        lines = [line.split() for line in done.stdout.splitlines()]
        found = {service: dict(each.split("=") for each in networks) for service, *networks in lines}
        own = self.variables[f"ML_ASSETS_{network.upper()}_NETWORK"]
        return {service: networks[own] for service, networks in found.items() if own in networks}

    def reached_from(self, network: str, addresses: Sequence[str]) -> list[str]:
        """Return those addresses (``host:port``) that accept a connection of a container on one of the networks."""
        own, image = self.variables[f"ML_ASSETS_{network.upper()}_NETWORK"], self.variables["ML_ASSETS_IMAGE"]
        command = ["docker", "run", "--rm", f"--network={own}", image, "python", "-ISc", _CONNECT, *addresses]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    def _command(self) -> list[str]:
        files = [_DOCKER_TARGET / "compose.yaml", Path(__file__).with_name("compose.tests.yaml")]
        command = ["docker", "compose", "--project-name", self.name, "--env-file", str(self.folder / ".env")]
        return command + [part for file in files for part in ("--file", str(file))]

    @contextmanager
    def starting(self, label: str) -> Iterator[Callable[[], list[dict[str, str]]]]:
        """Yield a function that returns the attributes of containers with a label that have started in the block."""
        # Read as events occur: the engine stores only a few events, including those of health checks.
        command = ["docker", "events", "--format", "{{json .Actor.Attributes}}", "--filter", "event=start"]
        told = self.folder / "events"
        with (
            told.open("w") as output,
            subprocess.Popen([*command, "--filter", f"label={label}"], stdout=output) as listener,
        ):
            try:
                yield lambda: [json.loads(line) for line in told.read_text().splitlines()]
            finally:
                listener.terminate()

    def left_over(self) -> list[str]:
        """Return the project's containers, volumes and networks that the engine still has."""
        found: list[str] = []
        for kind in (["ps", "--all"], ["volume", "ls"], ["network", "ls"]):
            command = ["docker", *kind, "--quiet", "--filter", f"label=com.docker.compose.project={self.name}"]
            found += subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return found


@contextmanager
def compose_project(ground: Ground, folder: Path) -> Iterator[Compose]:
    """Yield a project that is not started; when the block ends, everything of it is removed.

    Args:
        ground: its base image is the base of the project's image.
        folder: empty directory.
    """
    for code in ("ml_assets", "resources"):
        shutil.copytree(PROJECT / code, folder / code, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["make", f"DOCKER_TARGET={folder}", f"{folder}/.env"], cwd=PROJECT, capture_output=True, check=True)
    name = f"ml-assets-tests-{uuid4().hex[:12]}"
    variables = {
        **{f"{name.upper()}_IMAGE": stand_in(ground, name) for name in ("postgres", "registry", "storage")},
        "BASE_IMAGE": ground.base_image,
        "ML_ASSETS_IMAGE": f"{name}:services",
        "ML_ASSETS_SERVICES_NETWORK": f"{name}-services",
        "ML_ASSETS_STEPS_NETWORK": f"{name}-steps",
        "ML_ASSETS_SOURCE": str(folder),
        "COMMIT": COMMIT,
        "DIRTY": "false",
        "CA_BUNDLE": os.environ.get("SSL_CERT_FILE", "/dev/null"),
        **{f"{name}_PORT": str(free_port()) for name in ("DAGSTER", "MLFLOW", "REGISTRY", "LINEAGE", "METRICS")},
    }
    compose = Compose(name, variables, folder)
    try:
        yield compose
    finally:
        compose("down", "--volumes", "--remove-orphans", "--timeout=5")
        _remove_images([f"{name}:services", *_tagged(f"127.0.0.1:{variables['REGISTRY_PORT']}/*/*")])


def _tagged(pattern: str) -> list[str]:
    command = ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", pattern]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def _remove_images(names: Sequence[str]) -> None:
    subprocess.run(["docker", "image", "rm", *names], capture_output=True, check=False)

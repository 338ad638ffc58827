"""Runs ``docker buildx``: selects the builder, detects its features, and explains its failures."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ml_assets.resources.errors import EngineUnreachable, ImageError, RegistryError, SettingsError
from ml_assets.resources.image_builders.progress import BuildProgress

__all__ = ["BuildError", "Builder", "Buildx"]

BuildError = ImageError | EngineUnreachable
_ENGINE, _REMOTE = "docker", "remote"
_CONTAINERD_STORE = "io.containerd.snapshotter"
_QUERY_SECONDS = 60
_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Builder:
    """The selected builder and its features."""

    driver: str
    """Driver, as buildx names it: ``docker`` (the engine's own), ``docker-container``, ``kubernetes`` or ``remote``."""
    attestations: bool
    """True if the builder can attach attestations; an engine needs its containerd image store for that."""

    @property
    def fixed_timestamps(self) -> bool:
        """Return True if it can rewrite timestamps and cache in a registry; an engine's own builder cannot."""
        return self.driver != _ENGINE


@dataclass(frozen=True, kw_only=True)
class Buildx:
    """The buildx program and its builder.

    Args:
        name: builder, as ``docker buildx ls`` names it; the current one if left out.
        driver: driver with which to create a builder that buildx does not know yet: ``docker-container``,
            ``kubernetes`` or ``remote``.
        endpoint: for ``remote``, BuildKit's address, such as ``tcp://buildkitd:1234``; other drivers have none.
        driver_options: options of the driver.
        plain_http: registries (``host[:port]``) that a builder created here accesses without TLS.
        docker_config: Docker's ``config.json``; the user's if left out. Nothing is written beside it.

    Raises:
        SettingsError: a ``remote`` builder must be created, and it has no endpoint.
    """

    name: str | None = None
    driver: str | None = None
    endpoint: str | None = None
    driver_options: Mapping[str, str] = field(default_factory=dict)
    plain_http: Sequence[str] = ()
    docker_config: Path | None = None

    def __post_init__(self) -> None:
        if self.driver == _REMOTE and not self.endpoint:
            raise SettingsError(
                "images.driver is remote, but images.endpoint is not set",
                next_step="set images.endpoint to BuildKit's address, such as tcp://buildkitd:1234",
            )

    def builder(self) -> Builder:
        """Return the builder; create it if necessary.

        Raises:
            ImageError: docker, buildx or the builder does not exist, or the builder cannot be created or differs.
            EngineUnreachable: the engine, or the builder's host, did not answer.
        """
        inspected = self._query("buildx", "inspect", *self._named())
        if inspected.returncode and self.driver and "no builder" in inspected.stderr:
            self._create()
            inspected = self._query("buildx", "inspect", *self._named())
        if inspected.returncode:
            raise self._error(inspected.stderr.strip())
        driver = _shown("Driver", inspected.stdout) or _ENGINE
        if failed := _shown("Error", inspected.stdout):
            raise self._error(failed)
        if driver == _REMOTE:
            self._check_remote(inspected.stdout)
        return Builder(driver, driver != _ENGINE or self._engine_keeps_attestations())

    def build(self, arguments: Sequence[str], progress: BuildProgress) -> int:
        """Run ``docker buildx build`` and return its exit status; the build never outlives this call.

        Raises:
            ImageError: docker is not installed.
        """
        command = [*self._docker(), "buildx", "build", "--progress=plain", *self._builder_option(), *arguments]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace"
        ) as process:
            try:
                for line in process.stdout or ():
                    progress.take(line)
                return process.wait()
            finally:
                _stop(process)

    def explained(self, progress: BuildProgress) -> BuildError:
        """Return the error for a failed build whose cause is not an instruction of the Dockerfile."""
        return self._error(progress.reason, progress.failed_step)

    def _named(self) -> tuple[str, ...]:
        return (self.name,) if self.name else ()

    def _builder_option(self) -> tuple[str, ...]:
        return ("--builder", self.name) if self.name else ()

    def _check_remote(self, shown: str) -> None:
        endpoint = _shown("Endpoint", shown)
        if self.driver == _REMOTE and endpoint != self.endpoint:
            raise ImageError(
                f"buildx has the builder {self.name} at {endpoint}, but images.endpoint is {self.endpoint}",
                next_step=f"remove the builder (docker buildx rm {self.name}), or set images.buildx to another name",
            )
        # A build would wait for it and then only report a timeout.
        if _shown("Status", shown) != "running":
            raise EngineUnreachable(
                f"the image builder did not answer: no BuildKit is at {endpoint}",
                next_step="check images.endpoint, that buildkitd runs there, that network policies allow the "
                "connection and, with TLS, the certificates in images.driver_options; then run again",
            )

    def _docker(self) -> list[str]:
        program = shutil.which("docker")
        if program is None:
            raise ImageError(
                "the program docker, which builds images, is not installed",
                next_step="install Docker's client and buildx (on Debian 13: apt-get install docker-cli docker-buildx)",
            )
        if self.docker_config is None:
            return [program]
        # Builders belong to the user, and a folder with credentials may be read-only, such as a Kubernetes Secret.
        own = f"BUILDX_CONFIG={Path('~/.docker/buildx').expanduser()}"
        return ["env", own, program, "--config", str(self.docker_config.parent)]

    def _query(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [*self._docker(), *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_QUERY_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EngineUnreachable(
                f"docker {' '.join(arguments)} did not answer within {_QUERY_SECONDS} seconds",
                next_step="check that the container engine works, and run again",
            ) from error

    def _create(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            command = ["buildx", "create", *(("--name", self.name) if self.name else ()), "--driver", str(self.driver)]
            for key, value in self.driver_options.items():
                command += ["--driver-opt", _as_field(f"{key}={value}")]
            if self.plain_http and self.driver != _REMOTE:
                file = Path(folder, "buildkitd.toml")
                file.write_text("".join(f"[registry.{json.dumps(host)}]\n  http = true\n" for host in self.plain_http))
                command += ["--buildkitd-config", str(file)]
            done = self._query(*command, *((self.endpoint,) if self.endpoint and self.driver == _REMOTE else ()))
        # Two processes ran at once, and the other one created it.
        if done.returncode and "existing instance" not in done.stderr:
            raise self._error(done.stderr.strip())

    def _engine_keeps_attestations(self) -> bool:
        answer = self._query("info", "--format", "{{json .DriverStatus}}")
        if answer.returncode:
            raise self._error(answer.stderr.strip())
        return _CONTAINERD_STORE in answer.stdout

    def _error(self, said: str, step: str | None = None) -> BuildError:
        lines = [line.strip() for line in said.splitlines() if line.strip()] or ["no reason was given"]
        said = lines[-1].removeprefix("ERROR: ")
        at = f"{step}: " if step else ""
        for pattern, kind, what, next_step in _CAUSES:
            if re.search(pattern, f"{at}{said}", re.I):
                return kind(f"{what}: {at}{said}", next_step=next_step)
        return ImageError(f"docker buildx failed: {at}{said}", next_step="fix the reported cause, and run again")


def _as_field(text: str) -> str:
    """Return a text as one field of a comma-separated line, as buildx parses options."""
    return '"' + text.replace('"', '""') + '"'


def _shown(name: str, inspected: str) -> str | None:
    """Return the first value of a name in the output of ``buildx inspect``."""
    found = re.search(rf"^{name}:[ \t]*(\S.*)", inspected, re.M)
    return found[1].strip() if found else None


_CAUSES: tuple[tuple[str, type[BuildError], str, str], ...] = (
    (
        r"is not a docker command|unknown (command|flag|shorthand)",
        ImageError,
        "docker has no buildx, or an old version of it",
        "install buildx 0.13 or newer (on Debian 13: apt-get install docker-buildx)",
    ),
    (
        r"no builder",
        ImageError,
        "buildx has no such builder",
        "set images.buildx to a builder that docker buildx ls shows, or set images.driver to create one",
    ),
    (
        r"no space left on device",
        ImageError,
        "the disk is full",
        "free space (docker builder prune, docker image prune) and run again",
    ),
    (
        r"(pushing|exporting).*(denied|unauthorized|authentication required|forbidden|no basic auth)",
        RegistryError,
        "the registry refused the push",
        "log in to it (docker login), or set images.docker_config to a file with credentials",
    ),
    (
        r"server gave HTTP response to HTTPS client",
        RegistryError,
        "the registry uses plain HTTP",
        "list it among the builder's insecure registries (the engine's daemon.json, or buildkitd.toml)",
    ),
    (
        r"^(pushing|exporting)",
        RegistryError,
        "the image could not be pushed",
        "check that the builder can reach the registry, and run again; the builder keeps the finished layers",
    ),
    (
        r"booting buildkit",
        EngineUnreachable,
        "the builder that buildx created did not start",
        "check why its pod or container does not run, check images.driver_options, and run again",
    ),
    (
        r"load metadata.*not found|load metadata.*(denied|unauthorized)|failed to resolve source metadata",
        RegistryError,
        "the base image cannot be pulled from the registry",
        "mirror the base image there, or run ml-assets images update",
    ),
    (
        r"cannot connect to the docker daemon|connection refused|no such host|i/o timeout|deadline exceeded|unavailable"
        r"|context canceled|error during connect|connection reset|EOF$",
        EngineUnreachable,
        "the image builder did not answer",
        "start the container engine (or buildkitd), check images.buildx and images.endpoint, and run again",
    ),
)


def _stop(process: "subprocess.Popen[str]") -> None:
    """Stop a running build; the signal lets it tell BuildKit to drop the work."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()

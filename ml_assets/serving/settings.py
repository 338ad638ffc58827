"""Settings from environment variables that begin with ``ML_ASSETS_SERVE_``; only the model is required."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from ml_assets.resources.errors import SettingsError
from ml_assets.resources.identity import ImageReference
from ml_assets.resources.machine.limits import ProcessLimits

__all__ = ["ServeSettings", "load_serve_settings", "set_variables_of_libraries"]

PREFIX = "ML_ASSETS_SERVE_"
_ANY_IMAGE = "registry/image"


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """All settings. Each is read from the variable ``ML_ASSETS_SERVE_`` plus its name in capitals."""

    model: str
    """``models:/name/version``, ``models:/name@alias``, a data version ``md5:….dir``, or ``file:`` and a directory."""
    name: str | None = None
    """Name of the served model; the registered model's name if left out."""
    tracking_uri: str | None = None
    """Address of the MLflow server; ``MLFLOW_TRACKING_URI`` if left out."""
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = field(default_factory=lambda: ProcessLimits().cpus())
    """Number of worker processes; the number of CPUs if left out."""
    poll_seconds: float = 15.0
    """Interval between look-ups of an alias."""
    cache: str | None = None
    """Cache directory for fetched files by digest; files stay in memory if left out."""
    max_body_bytes: int = 16 << 20
    timeout_seconds: float = 20.0
    """Time limit of a request, from its first byte to its response; less than `drain_seconds`."""
    batch_rows: int = 1024
    """Maximum number of rows in one model run, unless a single request has more."""
    batch_delay_ms: float = 0.0
    """Time that a request may wait for others. With 0, a batch holds what arrived during the previous run."""
    queue_rows: int = 65536
    """Maximum number of rows in the queue of one worker; further requests get the status 503."""
    queue_bytes: int = 256 << 20
    """Maximum number of bytes of request bodies in the memory of one worker."""
    drain_seconds: float = 25.0
    """Time limit for requests in flight when a process ends.

    The sum with `stop_delay_seconds` must be less than the grace period, which is 30 s on Kubernetes.
    """
    stop_delay_seconds: float = 2.0
    """Time after SIGTERM in which requests are still accepted, while load balancers remove the server."""
    image: str | None = None
    """Image of the server, for the responses: ``registry/repository@sha256:…`` or its digest alone. The deployment that
    starts the container sets it."""
    log_requests: str = "all"
    """``all``, or ``errors``."""
    tracking_username: str | None = field(default=None, repr=False)
    tracking_password: str | None = field(default=None, repr=False)
    tracking_token: str | None = field(default=None, repr=False)
    """Credentials for the MLflow server; MLflow's own variables if left out."""
    traces_endpoint: str | None = None
    """Endpoint of OpenTelemetry traces; ``OTEL_EXPORTER_OTLP_ENDPOINT`` if left out. None sends no traces."""

    @property
    def image_digest(self) -> str | None:
        """The digest in `image`.

        Raises:
            ValueError: the image has no digest, for example only a tag.
        """
        if not self.image:
            return None
        named = self.image if "@" in self.image else f"{_ANY_IMAGE}@{self.image}"
        return str(ImageReference.parse(named).digest)


def load_serve_settings(environ: Mapping[str, str] | None = None) -> ServeSettings:
    """Load the settings.

    Args:
        environ: environment variables; this process's if left out.

    Raises:
        SettingsError: a variable is missing, unknown or of the wrong type.
    """
    environ = os.environ if environ is None else environ
    given = {name.removeprefix(PREFIX): value for name, value in environ.items() if name.startswith(PREFIX) and value}
    for name, standard in _STANDARD.items():
        if environ.get(standard):
            given.setdefault(name, environ[standard])
    known = {each.name.upper(): each for each in fields(ServeSettings)}
    if unknown := sorted(set(given) - set(known)):
        raise SettingsError(
            f"{PREFIX}{unknown[0]} is not a setting",
            next_step=f"use one of {', '.join(PREFIX + name for name in known)}",
        )
    if "MODEL" not in given:
        raise SettingsError(
            f"{PREFIX}MODEL is not set",
            next_step="set it to models:/name/version, models:/name@alias, a data version md5:….dir or file:/directory",
        )
    settings = ServeSettings(
        **{known[name].name: _read(PREFIX + name, text, known[name].type) for name, text in given.items()}
    )
    _check(settings)
    return settings


def set_variables_of_libraries(metrics_directory: str) -> None:
    """Set the environment variables of libraries, for this process and its children.

    Args:
        metrics_directory: directory in which prometheus-client stores the metrics of all processes.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics_directory
    # Only a process without threads can fork safely, and the server's processes share the CPUs.
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"


_STANDARD = {
    "TRACKING_URI": "MLFLOW_TRACKING_URI",
    "TRACKING_USERNAME": "MLFLOW_TRACKING_USERNAME",
    "TRACKING_PASSWORD": "MLFLOW_TRACKING_PASSWORD",
    "TRACKING_TOKEN": "MLFLOW_TRACKING_TOKEN",
    "TRACES_ENDPOINT": "OTEL_EXPORTER_OTLP_ENDPOINT",
}
_LEAST = {
    "port": 0,
    "workers": 1,
    "poll_seconds": 0.1,
    "max_body_bytes": 1,
    "timeout_seconds": 0.001,
    "batch_rows": 1,
    "batch_delay_ms": 0,
    "queue_rows": 1,
    "queue_bytes": 1,
    "drain_seconds": 0,
    "stop_delay_seconds": 0,
}


def _read(variable: str, text: str, kind: Any) -> Any:
    if kind not in (int, float):
        return text
    try:
        return kind(text)
    except ValueError as error:
        what = "a whole number" if kind is int else "a number"
        raise SettingsError(f"{variable} must be {what}, got {text!r}", next_step="correct the variable") from error


def _check(settings: ServeSettings) -> None:
    for name, least in _LEAST.items():
        value = getattr(settings, name)
        if not least <= value < float("inf"):
            raise SettingsError(
                f"{PREFIX}{name.upper()} must be at least {least}, got {value}", next_step="correct the variable"
            )
    if settings.timeout_seconds >= settings.drain_seconds:
        raise SettingsError(
            f"{PREFIX}TIMEOUT_SECONDS ({settings.timeout_seconds:g}) must be less than {PREFIX}DRAIN_SECONDS "
            f"({settings.drain_seconds:g}), or requests could be lost when a process ends",
            next_step="lower the first or raise the second",
        )
    try:
        settings.image_digest  # noqa: B018  evaluated for its errors
    except ValueError as error:
        raise SettingsError(
            f"{PREFIX}IMAGE is {settings.image!r}: {error}",
            next_step="set it to registry/repository@sha256:… or sha256:…, or unset it",
        ) from error
    if settings.name and "/" in settings.name:
        raise SettingsError(f"{PREFIX}NAME must not contain /, got {settings.name!r}", next_step="correct the variable")
    if settings.port > 65535:
        raise SettingsError(
            f"{PREFIX}PORT must be at most 65535, got {settings.port}", next_step="correct the variable"
        )
    if settings.log_requests not in ("all", "errors"):
        raise SettingsError(
            f"{PREFIX}LOG_REQUESTS must be all or errors, got {settings.log_requests!r}",
            next_step="correct the variable",
        )
    if settings.tracking_uri and urlsplit(settings.tracking_uri).scheme not in ("http", "https"):
        raise SettingsError(
            f"the tracking server's address must begin with http:// or https://, got {settings.tracking_uri!r}",
            next_step=f"set {PREFIX}TRACKING_URI to an MLflow server, or serve a directory with {PREFIX}MODEL=file:/…",
        )

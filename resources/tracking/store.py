"""Opens the store of MLflow's runs: a SQLite file that is created on first use, or a server.

All errors of MLflow and the layers below it become a `TrackingError` here.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from ml_assets.resources.errors import SettingsError, TrackingError
from ml_assets.resources.mlflow_internals import create_tables
from ml_assets.resources.sqlite_url import sqlite_file, sqlite_url

__all__ = ["check_server", "check_uri", "open_store", "public_uri", "tracking_errors"]

_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Marks the experiment for MLflow's UI as training, not as evaluation of a language model."""
_ANSWER_SECONDS = 5
_MIGRATION_SECONDS = 120


def open_store(uri: str, experiment: str, artifact_location: str | None) -> tuple[Any, str]:
    """Return a client of the store and the id of the experiment, which is created if it does not exist.

    Args:
        uri: a tracking URI that `check_uri` accepts.
        experiment: name of the experiment.
        artifact_location: artifact location of a new experiment. If left out, a SQLite store keeps them in
            ``artifacts`` beside its file, and a server chooses.

    Raises:
        TrackingError: the server does not answer within seconds or refuses, or the database cannot be used.
    """
    from mlflow import MlflowClient

    with tracking_errors(uri):
        file = sqlite_file(uri)
        if file is None:
            check_server(uri, experiment)
        else:
            _make_database(file)
            artifact_location = artifact_location or str(file.parent / "artifacts")
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        return client, _experiment_id(client, experiment, artifact_location and _as_mlflow_reads_it(artifact_location))


def check_uri(uri: str) -> None:
    """Reject addresses of stores that several processes cannot share.

    Raises:
        SettingsError: the URI is neither ``sqlite:////absolute/path.db`` nor ``http(s)://server``.
    """
    file = sqlite_file(uri)
    if not (file.is_absolute() if file else urlsplit(uri).scheme in ("http", "https") and urlsplit(uri).hostname):
        raise SettingsError(
            f"mlflow.tracking_uri must be sqlite:////absolute/path.db or http(s)://server, not {public_uri(uri)!r}",
            next_step="correct it in settings.toml",
        )


def check_server(uri: str, experiment: str) -> None:
    """Send one request to the server; MLflow's client itself retries for minutes before it gives up.

    Raises:
        TrackingError: it does not answer within seconds, or refuses.
    """
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        response = http_request(
            get_default_host_creds(uri),
            "/api/2.0/mlflow/experiments/get-by-name",
            "GET",
            params={"experiment_name": experiment},
            max_retries=0,
            timeout=_ANSWER_SECONDS,
            raise_on_status=False,
        )
    except Exception as error:
        raise TrackingError(
            f"the MLflow server {public_uri(uri)} does not answer: {_public(error)}",
            next_step="start the server, or correct mlflow.tracking_uri, and run again",
        ) from error
    if response.status_code in (401, 403):
        raise TrackingError(
            f"the MLflow server {public_uri(uri)} refuses access: {response.status_code} {response.text[:200].strip()}",
            next_step="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and run again",
        )
    # MLflow's server answers 404 in JSON if the experiment does not exist yet.
    if response.status_code != 200 and not (response.status_code == 404 and response.text.lstrip().startswith("{")):
        raise TrackingError(
            f"{public_uri(uri)} answers with status {response.status_code}, so it is not a working MLflow server",
            next_step="check the server's log, or correct mlflow.tracking_uri, and run again",
        )


def public_uri(uri: str) -> str:
    """Return the URI without user name and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


@contextmanager
def tracking_errors(uri: str) -> Iterator[None]:
    """Convert errors of MLflow, the HTTP client, the database and the disk into a `TrackingError`."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        advice = f"check that {public_uri(uri)} and its artifact store answer and have space, then run again"
        if "out-of-date database schema" in str(error):
            advice = f"back up the database and run `mlflow db upgrade {public_uri(uri)}`"
        elif getattr(error, "error_code", None) == "INVALID_PARAMETER_VALUE":
            advice = "correct the value, and run again"
        raise TrackingError(f"the MLflow operation failed: {_public(error)}", next_step=advice) from error


def _as_mlflow_reads_it(location: str) -> str:
    """Return a path as a URL if MLflow, which decodes paths like URLs, would otherwise read another one."""
    return Path(location).as_uri() if "://" not in location and quote(location) != location else location


def _experiment_id(client: Any, name: str, artifact_location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location, _EXPERIMENT_TAGS))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # Another process was faster.
        found = client.get_experiment_by_name(name)
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"the MLflow experiment {name!r} was deleted",
            next_step=f"run `mlflow experiments restore -x {found.experiment_id}`, or name another in settings.toml",
        )
    return str(found.experiment_id)


def _make_database(file: Path) -> None:
    """Create the database under a temporary name and rename it, so that the final name is always complete."""
    from filelock import FileLock, Timeout

    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.unfinished")
    try:
        with FileLock(f"{file}.lock", timeout=_MIGRATION_SECONDS):
            if file.exists():
                return
            unfinished.unlink(missing_ok=True)
            create_tables(sqlite_url(unfinished), _as_mlflow_reads_it(str(file.parent / "artifacts")))
            unfinished.rename(file)
    except Timeout as error:
        raise TrackingError(
            f"another process has been creating {file} for {_MIGRATION_SECONDS} seconds",
            next_step=f"end the process that holds {file}.lock, and run again",
        ) from error


def _public(error: Exception) -> str:
    """Return the error as one line, without anything that could be a password."""
    text = re.sub(r"://[^/\s@]*@", "://", str(error))
    return f"{type(error).__name__}: {text.strip().splitlines()[0] if text.strip() else ''}"[:500]

"""The composition root: settings choose implementations, and everything becomes Dagster definitions."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.sensors import ALERTS_KEY, alert_on_failed_tick, alert_on_failure, close_abandoned_runs
from ml_assets.source_links import with_source_links
from ml_assets.storage import STORAGE_KEY, ArtifactStorage
from resources.alerts import Alerts
from resources.dvc import DvcStore
from resources.errors import SettingsError
from resources.image_builders.environment import InterpreterEnvironment
from resources.settings import Settings, load_settings
from resources.tracking import MlflowTracking

if TYPE_CHECKING:
    from resources.registry import RegistryClient

__all__ = ["content_store", "defs", "open_instance", "registry_client", "resources_for", "settings"]


def settings() -> Settings:
    """The settings of the target that the process's environment names.

    Raises:
        SettingsError: the target is unknown, or its settings are wrong.
    """
    return load_settings(os.environ)


def open_instance(chosen: Settings) -> dg.DagsterInstance:
    """The target's Dagster instance, made from its ``dagster.yaml`` where it does not exist yet.

    Raises:
        SettingsError: its directory cannot be made, or its ``dagster.yaml`` is wrong.
    """
    home = chosen.path(chosen.home)
    try:
        _make_home(home, chosen.root / "deployments" / chosen.target / "dagster.yaml")
        return dg.DagsterInstance.from_config(str(home))
    except OSError as error:
        raise SettingsError(
            f"the Dagster home {home} cannot be used: {error}", next_step="make it writable, or name another as home"
        ) from error
    except dg.DagsterError as error:
        cause = str(error).strip().splitlines()[0]
        raise SettingsError(f"{home / 'dagster.yaml'} is wrong: {cause}", next_step="correct the file") from error


def _make_home(home: Path, template: Path) -> None:
    file = home / "dagster.yaml"
    home.mkdir(parents=True, exist_ok=True)
    if file.exists() or not template.exists():
        return
    with tempfile.NamedTemporaryFile("w", dir=home, prefix=".dagster.yaml.", delete=False) as whole:
        whole.write(template.read_text())
    Path(whole.name).replace(file)


def content_store(chosen: Settings) -> DvcStore:
    """Where the target keeps content."""
    return DvcStore(
        remote=chosen.location(chosen.dvc.remote),
        options=chosen.dvc.options,
        cache=str(chosen.path(chosen.dvc.cache)),
    )


def registry_client(chosen: Settings) -> "RegistryClient":
    """How the target reads image registries."""
    from resources.registry import RegistryClient

    credentials = chosen.images.docker_config
    return RegistryClient(
        plain_http=chosen.images.plain_http, docker_config=chosen.path(credentials) if credentials else None
    )


def resources_for(chosen: Settings) -> dict[str, Any]:
    """The resources that the factories need, and those of the reference pipeline."""
    from ml_assets.flight_delays.source import FlightSource

    return {
        STORAGE_KEY: ArtifactStorage(
            store=content_store(chosen),
            tracking=MlflowTracking(
                tracking_uri=chosen.location(chosen.mlflow.tracking_uri),
                experiment=chosen.mlflow.experiment,
                artifact_location=chosen.mlflow.artifact_location and chosen.location(chosen.mlflow.artifact_location),
                ui_url=chosen.mlflow.ui_url,
            ),
            image_builder=InterpreterEnvironment(chosen.root),
            target=chosen.target,
            ui_url=chosen.ui_url,
            thread_variables=chosen.thread_variables,
        ),
        ALERTS_KEY: Alerts(webhook=chosen.alerts.webhook, command=list(chosen.alerts.command)),
        "flight_source": FlightSource(
            landing=str(chosen.path(chosen.flight_delays.landing)) if chosen.flight_delays.landing else None
        ),
    }


@dg.definitions
def defs() -> dg.Definitions:
    """The reference pipeline on the target that the environment names."""
    from ml_assets.flight_delays.definitions import flight_delays

    chosen = settings()
    deployment = dg.Definitions(
        resources=resources_for(chosen),
        sensors=[alert_on_failure(chosen.ui_url), alert_on_failed_tick, close_abandoned_runs],
        executor=_local_processes(),
    )
    return with_source_links(dg.Definitions.merge(flight_delays(), deployment), chosen.root)


def _local_processes() -> dg.ExecutorDefinition:
    """Steps as processes, forked from one that has the imports behind it."""
    return dg.multiprocess_executor.configured(
        {"start_method": {"forkserver": {"preload_modules": ["ml_assets.definitions", "pandas"]}}}
    )

"""The composition root: settings choose implementations, and everything becomes Dagster definitions."""

import os
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.sensors import ALERTS_KEY, alert_on_failure, close_abandoned_runs
from ml_assets.storage import STORAGE_KEY, ArtifactStorage
from resources.alerts import Alerts
from resources.dvc import DvcStore
from resources.image_builders.environment import InterpreterEnvironment
from resources.settings import Settings, load_settings
from resources.tracking import MlflowTracking

__all__ = ["defs", "open_instance", "resources_for", "settings"]


def settings() -> Settings:
    """The settings of the target that the process's environment names.

    Raises:
        SettingsError: the target is unknown, or its settings are wrong.
    """
    return load_settings(os.environ)


def open_instance(chosen: Settings) -> dg.DagsterInstance:
    """The target's Dagster instance, made from its ``dagster.yaml`` where it does not exist yet."""
    home = Path(os.environ.get("DAGSTER_HOME") or chosen.path(chosen.home))
    home.mkdir(parents=True, exist_ok=True)
    template = chosen.root / "deployments" / chosen.target / "dagster.yaml"
    if template.exists() and not (home / "dagster.yaml").exists():
        (home / "dagster.yaml").write_text(template.read_text())
    return dg.DagsterInstance.from_config(str(home))


def resources_for(chosen: Settings) -> dict[str, Any]:
    """The resources that the factories need, and those of the reference pipeline."""
    from ml_assets.flight_delays.source import FlightSource

    return {
        STORAGE_KEY: ArtifactStorage(
            store=DvcStore(
                remote=chosen.location(chosen.dvc.remote),
                options=chosen.dvc.options,
                cache=str(chosen.path(chosen.dvc.cache)),
            ),
            tracking=MlflowTracking(
                tracking_uri=chosen.location(chosen.mlflow.tracking_uri),
                experiment=chosen.mlflow.experiment,
                artifact_location=chosen.mlflow.artifact_location and chosen.location(chosen.mlflow.artifact_location),
                ui_url=chosen.mlflow.ui_url,
            ),
            image_builder=dg.ResourceDefinition.hardcoded_resource(InterpreterEnvironment(chosen.root)),
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
        sensors=[alert_on_failure(chosen.ui_url), close_abandoned_runs],
        executor=_local_processes(),
    )
    return dg.Definitions.merge(flight_delays(), deployment)


def _local_processes() -> dg.ExecutorDefinition:
    """Steps as processes, forked from one that has the imports behind it."""
    return dg.multiprocess_executor.configured(
        {"start_method": {"forkserver": {"preload_modules": ["ml_assets.definitions", "pandas"]}}}
    )

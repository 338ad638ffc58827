"""The composition root: settings choose implementations, and everything becomes Dagster definitions."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.addresses import Addresses
from ml_assets.artifacts.io_manager import STORAGE_KEY, ArtifactStorage
from ml_assets.executors.placement import PlacementRules
from ml_assets.executors.validation import check_placements
from ml_assets.images import with_build_keys
from ml_assets.reproduction.job import reproduction_job
from ml_assets.resources.alerts import Alerts
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import SettingsError
from ml_assets.resources.image_builders.environment import InterpreterEnvironment
from ml_assets.resources.settings import Settings, load_settings
from ml_assets.resources.tracking.runs import MlflowTracking
from ml_assets.sensors import (
    ALERTS_KEY,
    alert_on_failed_tick,
    alert_on_failure,
    close_abandoned_runs,
    remove_leftover_containers,
)
from ml_assets.source_links import with_source_links

if TYPE_CHECKING:
    from ml_assets.executors.engine import ContainerEngine
    from ml_assets.resources.image_builders.interface import ImageBuilder
    from ml_assets.resources.registry.client import RegistryClient
    from ml_assets.resources.tracking.model_registry import ModelRegistry

__all__ = [
    "content_store",
    "defs",
    "engine",
    "image_builder",
    "model_registry",
    "on_target",
    "open_instance",
    "registry_client",
    "resources_for",
    "settings",
]


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
    from ml_assets.resources.registry.client import RegistryClient

    credentials = chosen.images.docker_config
    return RegistryClient(
        plain_http=chosen.images.plain_http,
        docker_config=chosen.path(credentials) if credentials else None,
        reached_at=chosen.images.reached_at,
    )


def model_registry(chosen: Settings) -> "ModelRegistry":
    """MLflow's registry of models."""
    from ml_assets.resources.tracking.model_registry import ModelRegistry

    mlflow = chosen.mlflow
    return ModelRegistry(chosen.location(mlflow.tracking_uri), mlflow.experiment, mlflow.deployed_alias)


def image_builder(chosen: Settings) -> "ImageBuilder":
    """How the target makes images."""
    images = chosen.images
    if images.builder == "environment":
        return InterpreterEnvironment(chosen.root)
    from ml_assets.resources.image_builders.buildkit import BuildKit, BuildOptions
    from ml_assets.resources.image_builders.buildx import Buildx

    options = BuildOptions(
        registry=images.push_registry or images.registry or "",
        base_registry=images.registry or images.push_registry or "",
        prefix=images.prefix,
        platforms=images.platforms,
        plain_http=images.plain_http,
        secrets={name: chosen.path(file) for name, file in images.secrets.items()},
        proxies={str(name): proxy for name, proxy in images.proxies.items()},
        network=images.network,
        registry_cache=images.registry_cache,
        attestations=images.attestations,
        sbom_scanner=images.sbom_scanner,
        source_date_epoch=images.source_date_epoch,
    )
    buildx = Buildx(
        name=images.buildx,
        driver=images.driver,
        endpoint=images.endpoint,
        driver_options=images.driver_options,
        plain_http=images.plain_http,
        docker_config=chosen.path(images.docker_config) if images.docker_config else None,
    )
    return BuildKit(chosen.root, registry_client(chosen), buildx, options)


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
            image_builder=image_builder(chosen),
            target=chosen.target,
            addresses=Addresses.of(chosen),
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
    return on_target(flight_delays(chosen.flight_delays.nightly), chosen)


def on_target(definitions: dg.Definitions, chosen: Settings) -> dg.Definitions:
    """Definitions with what their target adds: resources, executor, sensors, a job that reproduces, and links to code.

    Raises:
        SettingsError: an asset or a setting names a pool or an image that is not there.
    """
    sensors = [alert_on_failure(chosen.ui_url), alert_on_failed_tick, close_abandoned_runs]
    if chosen.containers.executor != "processes":
        sensors.append(remove_leftover_containers(lambda: engine(chosen)))
    target = dg.Definitions(
        jobs=[reproduction_job()], resources=resources_for(chosen), sensors=sensors, executor=_executor(chosen)
    )
    whole = dg.Definitions.merge(definitions, target)
    check_placements(whole, chosen)
    return with_source_links(with_build_keys(whole, image_builder(chosen)), chosen.root)


def engine(chosen: Settings) -> "ContainerEngine":
    """The container engine of the target.

    Raises:
        SettingsError: its steps are plain processes.
        EngineUnreachable: it does not answer.
        EngineRefused: there is no way to it.
    """
    from ml_assets.executors.definition import container_engine

    if chosen.containers.executor == "processes":
        raise SettingsError(
            f"steps of target {chosen.target} are plain processes, not containers",
            next_step="set ML_ASSETS_TARGET to a target with a container engine, such as docker",
        )
    return container_engine(chosen.containers, chosen.passed_variables)


def _executor(chosen: Settings) -> dg.ExecutorDefinition:
    if chosen.containers.executor == "processes":
        return _local_processes()
    from ml_assets.executors.definition import container_executor

    return container_executor(
        PlacementRules(chosen.containers, chosen.pools, chosen.placement),
        target=chosen.target,
        pass_variables=chosen.passed_variables,
        registry=lambda: registry_client(chosen),
    )


def _local_processes() -> dg.ExecutorDefinition:
    """Steps as processes, forked from one that has the imports behind it."""
    return dg.multiprocess_executor.configured(
        {"start_method": {"forkserver": {"preload_modules": ["ml_assets.definitions", "pandas"]}}}
    )

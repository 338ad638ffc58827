"""The library's entry point: a target's settings select implementations and complete a project's definitions."""

import inspect
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import dagster as dg

from ml_assets.addresses import Addresses
from ml_assets.artifacts.io_manager import STORAGE_KEY, ArtifactStorage
from ml_assets.binding import bound
from ml_assets.dagster_internals import STEP_PROCESS_MODULES
from ml_assets.executors.placement import PlacementRules
from ml_assets.executors.validation import check_placements
from ml_assets.images import with_build_keys
from ml_assets.reproduction.job import reproduction_job
from ml_assets.resources.alerts import Alerts
from ml_assets.resources.atomic_file import write_atomically
from ml_assets.resources.busy_sqlite import wait_for_busy_sqlite
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import SettingsError
from ml_assets.resources.extras import EXTRAS, require
from ml_assets.resources.image_builders.environment import InterpreterEnvironment
from ml_assets.resources.sections import Section
from ml_assets.resources.settings import Settings, load_settings
from ml_assets.resources.tracking.runs import MlflowTracking
from ml_assets.sensors import (
    REMOVE_LEFTOVERS,
    alert_on_failed_tick,
    alert_on_failure,
    close_abandoned_runs,
    remove_leftover_containers,
)
from ml_assets.source_links import with_source_links

if TYPE_CHECKING:
    from ml_assets.executors.engine import ContainerEngine
    from ml_assets.lineage import Lineage
    from ml_assets.resources.image_builders.buildkit import BuildOptions
    from ml_assets.resources.image_builders.interface import ImageBuilder
    from ml_assets.resources.registry.client import RegistryClient
    from ml_assets.resources.tracking.model_registry import ModelRegistry

__all__ = ["Target", "on_target"]

_PRELOADED = ("ml_assets.target", "mlflow.store.tracking.sqlalchemy_store", "pandas")
"""Modules that steps find imported where they are plain processes."""
_Section = TypeVar("_Section", bound=Section)


@dataclass(frozen=True, eq=False)
class Target:
    """A deployment target and the objects that its settings define, each created once, on first use.

    As a context manager it closes the Dagster instance if it was opened. The next use opens it again.

    Attributes:
        settings: settings of the target.
        note: called with a line for the user, for example if MLflow does not answer.
    """

    settings: Settings
    note: Callable[[str], None] = lambda _: None

    @classmethod
    def from_environment(cls, *sections: type[Section]) -> Self:
        """Return the target that the process's environment names (``ML_ASSETS_TARGET``, by default ``local``).

        Its settings are those of the project above the working directory; if there is none, above the calling code.

        Args:
            sections: sections that the project adds to ``settings.toml``.

        Raises:
            SettingsError: the target is unknown, or its settings are wrong.
        """
        return cls(_load(sections))

    @classmethod
    def for_command(cls, note: Callable[[str], None] = lambda _: None) -> Self:
        """Return the same target for a command that does not load the project's code and ignores its sections.

        Args:
            note: called with a line for the user.

        Raises:
            SettingsError: the target is unknown, or its settings are wrong.
        """
        return cls(_load(None), note)

    def section(self, kind: type[_Section]) -> _Section:
        """Return a section that the project adds to ``settings.toml``.

        Raises:
            SettingsError: the target was created without this section.
        """
        return self.settings.section(kind)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for made in ("instance", "lineage"):
            self.__dict__.pop(made, None)
        self._opened.close()

    @cached_property
    def _opened(self) -> ExitStack:
        return ExitStack()

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        """The target's Dagster instance, created from its ``dagster.yaml`` if it does not exist yet.

        Raises:
            SettingsError: its directory cannot be created, or its ``dagster.yaml`` is invalid.
            MissingPackage: its ``dagster.yaml`` names a package that is not installed.
        """
        settings = self.settings
        home = settings.path(settings.home)
        try:
            _make_home(home, settings.root / "deployments" / settings.target / "dagster.yaml")
            _check_home(home)
            return self._opened.enter_context(dg.DagsterInstance.from_config(str(home)))
        except OSError as error:
            raise SettingsError(
                f"cannot use the Dagster home {home}: {error}",
                next_step="make it writable, or set home to another folder",
            ) from error
        except dg.DagsterError as error:
            cause = str(error).strip().splitlines()[0]
            raise SettingsError(f"{home / 'dagster.yaml'} is invalid: {cause}", next_step="correct the file") from error

    @cached_property
    def store(self) -> DvcStore:
        """The content store."""
        dvc = self.settings.dvc
        return DvcStore(
            remote=self.settings.location(dvc.remote),
            options=dvc.options,
            cache=str(self.settings.path(dvc.cache)),
            retry_seconds=dvc.retry_seconds,
        )

    @cached_property
    def tracking(self) -> MlflowTracking:
        """The MLflow experiment that records runs."""
        settings, mlflow = self.settings, self.settings.mlflow
        return MlflowTracking(
            tracking_uri=settings.location(mlflow.tracking_uri),
            experiment=mlflow.experiment,
            artifact_location=mlflow.artifact_location and settings.location(mlflow.artifact_location),
            ui_url=mlflow.ui_url,
            wait_seconds=mlflow.wait_seconds,
        )

    @cached_property
    def model_registry(self) -> "ModelRegistry":
        """MLflow's registry of models."""
        from ml_assets.resources.tracking.model_registry import ModelRegistry

        mlflow = self.settings.mlflow
        return ModelRegistry(self.settings.location(mlflow.tracking_uri), mlflow.experiment, mlflow.deployed_alias)

    @cached_property
    def registry_client(self) -> "RegistryClient":
        """The client of image registries."""
        from ml_assets.resources.registry.client import RegistryClient

        images = self.settings.images
        return RegistryClient(
            plain_http=images.plain_http, docker_config=self._docker_config, reached_at=images.reached_at
        )

    @cached_property
    def image_builder(self) -> "ImageBuilder":
        """The builder of images."""
        settings, images = self.settings, self.settings.images
        if images.builder == "environment":
            return InterpreterEnvironment(settings.root)
        from ml_assets.resources.image_builders.buildkit import BuildKit
        from ml_assets.resources.image_builders.buildx import Buildx

        buildx = Buildx(
            name=images.buildx,
            driver=images.driver,
            endpoint=images.endpoint,
            driver_options=images.driver_options,
            plain_http=images.plain_http,
            docker_config=self._docker_config,
        )
        return BuildKit(settings.root, self.registry_client, buildx, _build_options(settings))

    @cached_property
    def engine(self) -> "ContainerEngine":
        """The container engine that steps run on.

        Raises:
            SettingsError: steps are plain processes.
            EngineUnreachable: the engine does not answer.
            EngineRefused: no connection to the engine is configured.
        """
        from ml_assets.executors.definition import container_engine

        settings = self.settings
        if settings.containers.executor == "processes":
            raise SettingsError(
                f"steps of target {settings.target} are plain processes, not containers",
                next_step="set ML_ASSETS_TARGET to a target with a container engine, such as docker",
            )
        return container_engine(settings.containers, settings.passed_variables)

    @cached_property
    def lineage(self) -> "Lineage":
        """Lineage queries on the instance's records.

        Raises:
            SettingsError: the instance cannot be opened.
        """
        from ml_assets.lineage import Lineage

        return Lineage(self.instance, self.model_registry, self.note)

    @cached_property
    def resources(self) -> Mapping[str, Any]:
        """The resources that factories and sensors need, by resource key. A project's other resources are its own."""
        settings = self.settings
        return MappingProxyType(
            {
                STORAGE_KEY: ArtifactStorage(
                    store=self.store,
                    tracking=self.tracking,
                    image_builder=self.image_builder,
                    target=settings.target,
                    addresses=Addresses.of(settings),
                    thread_variables=settings.thread_variables,
                ),
            }
        )

    @cached_property
    def executor(self) -> dg.ExecutorDefinition:
        """The executor that the settings select: steps run as processes or in containers."""
        settings = self.settings
        if settings.containers.executor == "processes":
            from ml_assets.executors.processes import process_executor

            return process_executor([*STEP_PROCESS_MODULES, *_PRELOADED])
        from ml_assets.executors.definition import container_executor

        return container_executor(
            PlacementRules(settings.containers, settings.pools, settings.placement, settings.override_registries),
            target=settings.target,
            pass_variables=settings.passed_variables,
            registry=lambda: self.registry_client,
        )

    @cached_property
    def sensors(self) -> tuple[dg.SensorDefinition, ...]:
        """The sensors that send alerts, and clean up after steps that were killed."""
        settings = self.settings
        alerts = Alerts(webhook=settings.alerts.webhook, command=list(settings.alerts.command))
        sensors = (alert_on_failure(alerts, settings.ui_url), alert_on_failed_tick(alerts), close_abandoned_runs)
        if settings.containers.executor == "processes":
            return sensors
        # Connect to the engine at each tick, because the process lives for weeks but credentials expire.
        return (*sensors, remove_leftover_containers(lambda: Target(settings).engine))

    def bind(self, definitions: dg.Definitions, *, without: Collection[str] = ()) -> dg.Definitions:
        """Return definitions with the target's resources, executor, sensors, reproduction job, and links to code.

        The definitions keep their own resources, IO managers, jobs and sensors. If they have an executor and the
        target's steps are plain processes, they keep that too. Call this once, on all definitions of a code location.

        Args:
            definitions: all definitions of a code location.
            without: parts to leave out: ``executor``, or the name of a sensor, of the job ``ml_assets_reproduce``, or
                of the resource ``ml_assets_storage``, which factories need.

        Raises:
            SettingsError: an asset or a setting names a pool or an image that does not exist.
            DefinitionError: the definitions have something that the target adds too, or no part has a given name.
        """
        settings, in_containers = self.settings, self.settings.containers.executor != "processes"
        ours = dg.Definitions(
            jobs=[reproduction_job()], resources=self.resources, sensors=self.sensors, executor=self.executor
        )
        target = settings.target if in_containers else None
        whole = bound(definitions, ours, without=without, known=[REMOVE_LEFTOVERS], target=target)
        check_placements(whole, settings)
        return with_source_links(with_build_keys(whole, self.image_builder), settings.root)

    @property
    def _docker_config(self) -> Path | None:
        config = self.settings.images.docker_config
        return self.settings.path(config) if config else None


def on_target(definitions: dg.Definitions, *, without: Collection[str] = ()) -> dg.Definitions:
    """Return definitions bound to the target that the process's environment names. See `Target.bind`.

    Args:
        definitions: all definitions of a code location.
        without: parts that the target does not add, by name: ``executor``, or a sensor, job or resource.

    Raises:
        SettingsError: the target is unknown, its settings are invalid, or an asset names something undefined in them.
        DefinitionError: the definitions have something that the target adds too, or no part has a given name.
    """
    return Target.from_environment().bind(definitions, without=without)


def _load(sections: Iterable[type[Section]] | None) -> Settings:
    wait_for_busy_sqlite()
    return load_settings(os.environ, sections=sections, code=None if sections is None else _calling_file())


def _calling_file() -> Path | None:
    """Return the file of the code that called this module, which is the project's."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    file = frame.f_globals.get("__file__") if frame is not None else None
    return Path(file) if file else None


def _make_home(home: Path, template: Path) -> None:
    file = home / "dagster.yaml"
    home.mkdir(parents=True, exist_ok=True)
    if file.exists() or not template.exists():
        return
    write_atomically(file, template.read_text())


def _check_home(home: Path) -> None:
    """Refuse a home with which Dagster would write elsewhere, or fail without naming the missing extra."""
    file = home / "dagster.yaml"
    text = file.read_text() if file.exists() else ""
    modules = set(re.findall(r"\bmodule:\s*[\"']?(\w+)", text))
    if re.search(r"^\s+postgres:\s*$", text, re.MULTILINE):
        modules.add("dagster_postgres")
    require(*EXTRAS.keys() & modules)
    if "?" in str(home) and "postgres" not in text:
        raise SettingsError(
            f"the Dagster home {home} contains a question mark, where Dagster ends the names of its SQLite files",
            next_step="set home, or DAGSTER_HOME, to a folder without one",
        )


def _build_options(settings: Settings) -> "BuildOptions":
    from ml_assets.resources.image_builders.buildkit import BuildOptions

    images = settings.images
    return BuildOptions(
        registry=images.push_registry or images.registry or "",
        base_registry=images.registry or images.push_registry or "",
        prefix=images.prefix,
        platforms=images.platforms,
        plain_http=images.plain_http,
        secrets={name: settings.path(file) for name, file in images.secrets.items()},
        proxies={str(name): proxy for name, proxy in images.proxies.items()},
        network=images.network,
        registry_cache=images.registry_cache,
        attestations=images.attestations,
        sbom_scanner=images.sbom_scanner,
        source_date_epoch=images.source_date_epoch,
    )

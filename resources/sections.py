"""The sections of ``settings.toml``: the built-in sections, and the base class of a project's own sections."""

import difflib
import shlex
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.pools import Override, Pool

__all__ = [
    "AlertSettings",
    "BackupSettings",
    "ContainerSettings",
    "DvcSettings",
    "FileSettings",
    "ImageSettings",
    "LineageSettings",
    "MlflowSettings",
    "Section",
    "closest_section",
]

_RESEMBLANCE = 0.85
"""Similarity above which a name counts as a misspelling: `image` of `images` does, `tools` of `pools` does not."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DvcSettings(_Section):
    """Location of the content store."""

    remote: str
    """URL of the DVC remote, or a directory (relative to the project's root)."""
    options: dict[str, str | int | bool] = {}
    """Options of DVC's ``remote modify`` for this kind of remote, such as ``endpointurl``."""
    cache: str
    """Directory of the content-addressed cache."""
    retry_seconds: float = Field(default=120.0, ge=0)
    """Time for which a request to the remote is repeated while its server fails."""


class MlflowSettings(_Section):
    """Location of runs and models."""

    tracking_uri: str
    experiment: str = "ml-assets"
    artifact_location: str | None = None
    """Artifact location of a new experiment; the tracking server chooses if left out."""
    ui_url: str | None = None
    """Address of the MLflow UI, as browsers reach it."""
    deployed_alias: str = "champion"
    """Alias of the registered model version that is served."""
    wait_seconds: PositiveInt = 600
    """Longest wait of a step, in all, for a server that stops answering while the step runs."""


class ImageSettings(_Section):
    """Settings of image builds."""

    builder: Literal["environment", "buildkit"] = "environment"
    """``environment`` records the interpreter's environment and builds nothing; ``buildkit`` builds and pushes."""
    registry: str | None = None
    """Registry of the base images, as ``host[:port]``; used for look-ups and builds."""
    push_registry: str | None = None
    """Registry that images are pushed to; that of the base images if left out."""
    prefix: str = "ml-assets"
    """Prefix of each image's repository: ``prefix/name``."""
    plain_http: tuple[str, ...] = ()
    """Registries without TLS, as ``host[:port]``; those on loopback addresses need not be listed."""
    reached_at: dict[str, str] = {}
    """Registry → ``host[:port]`` at which this process reaches it, if the engine's name for it leads elsewhere, such as
    a loopback address in a container."""
    docker_config: str | None = None
    """Docker's ``config.json`` with the registries' credentials; the user's file if left out."""
    buildx: str | None = None
    """Builder, as ``docker buildx ls`` names it; the current one if left out."""
    driver: Literal["docker-container", "kubernetes", "remote"] | None = None
    """Driver with which to create that builder if buildx does not know it yet."""
    endpoint: str | None = None
    """For ``remote``: address of BuildKit, such as ``tcp://buildkitd:1234``."""
    driver_options: dict[str, str] = {}
    """Options of the driver, such as ``namespace`` and ``rootless`` of ``kubernetes``."""
    platforms: tuple[str, ...] = ("linux/amd64",)
    """Platforms to build for; the first one is recorded."""
    secrets: dict[Literal["index_url", "netrc", "ca_bundle"], str] = {}
    """Secret files by id; builds can read them, and images keep no trace of them."""
    proxies: dict[Literal["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"], str] = {}
    """Proxies for the build only. Never with a password: the build's provenance shows them."""
    network: Literal["default", "host", "none"] | None = None
    """Network of ``RUN`` instructions."""
    registry_cache: bool = False
    """True if layers are also cached in the registry, for short-lived builders."""
    attestations: bool = True
    """True if the build's provenance is attached to images, where the builder supports it."""
    sbom_scanner: str | None = None
    """Image that generates the SBOM to attach; without it there is no SBOM."""
    source_date_epoch: int = 0
    """Seconds since 1970 used for every timestamp in an image, so that the same inputs give the same layers."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.builder == "buildkit" and not (self.push_registry or self.registry):
            raise ValueError("builder buildkit needs a registry to push to: set registry or push_registry")
        if self.driver and not self.buildx:
            raise ValueError("driver creates a builder, which needs a name: set buildx too")
        if not self.platforms:
            raise ValueError("platforms is empty")
        return self


class ContainerSettings(_Section):
    """Settings of step containers. Each engine-specific setting names its engine."""

    executor: Literal["processes", "docker", "kubernetes"] = "processes"
    """``processes`` runs steps as plain processes of this machine."""
    image: str | None = None
    """Image asset (or reference by digest) of steps that name none."""
    builder_image: str = "images/builder"
    """Image asset (or reference by digest) that image assets are built in."""
    override_registries: tuple[str, ...] = ()
    """Registries, as ``host[:port]``, from which a run's own overrides may take images by reference, in addition to
    those of ``[images]``. Such an image runs with the credentials of steps."""
    pool: str | None = None
    """Pool of steps that name none, and of separate checks."""
    check_seconds: PositiveInt = 1800
    """Seconds after which a separate check is ended."""
    variables: dict[str, str] = {}
    """Environment variables of every step. Never a secret: the container's description shows them."""
    pass_variables: tuple[str, ...] = ()
    """Docker: variables that every step inherits from the run worker, including credentials."""
    network: str | None = None
    """Docker: network that steps join."""
    mounts: tuple[str, ...] = ()
    """Docker: volumes, as ``name-or-path:/path[:ro]``."""
    namespace: str = "default"
    """Kubernetes: namespace of the step Jobs."""
    kubeconfig: str | None = None
    """Kubernetes: kubeconfig file. If left out, the service account is used inside a pod, and kubectl's own
    configuration outside."""
    service_account: str | None = None
    """Kubernetes: service account of steps whose pool names none."""
    secrets: tuple[str, ...] = ()
    """Kubernetes: Secrets whose entries become environment variables of every step."""
    config_maps: tuple[str, ...] = ()
    """Kubernetes: ConfigMaps whose entries become environment variables of every step."""
    image_pull_secrets: tuple[str, ...] = ()
    """Kubernetes: Secrets with the credentials of registries."""
    volumes: tuple[dict[str, Any], ...] = ()
    """Kubernetes: volumes of every step's pod, in Kubernetes notation."""
    volume_mounts: tuple[dict[str, Any], ...] = ()
    """Kubernetes: mounts of these volumes."""
    finished_seconds: PositiveInt = 3600
    """Kubernetes: seconds for which a failed step's Job is kept; the Job of a successful step is deleted at once."""


class LineageSettings(_Section):
    """Settings of the lineage pages and events."""

    ui_url: str | None = None
    """Address of the trace pages (``ml-assets lineage serve``), as browsers reach it."""
    openlineage_namespace: str = "ml-assets"
    """Namespace of jobs and datasets in OpenLineage events."""
    openlineage_api_key: str | None = Field(default=None, repr=False)
    """Key for an OpenLineage server, sent with events. A secret: set it as an environment variable."""


class AlertSettings(_Section):
    """Destinations of alerts about failed runs. Both may be set; with neither, failures are only logged."""

    webhook: str | None = None
    """Address that receives a POST of JSON with ``text`` (as chat services expect it) and the details."""
    command: tuple[str, ...] = ()
    """Program and arguments; it receives the same JSON on standard input. As a variable, use shell syntax."""

    @field_validator("command", mode="before")
    @classmethod
    def _split(cls, command: Any) -> Any:
        return shlex.split(command) if isinstance(command, str) else command


class BackupSettings(_Section):
    """Content of a backup in addition to the DVC remote, the registry's images and the databases."""

    trees: dict[str, str] = {}
    """Name in the backup → URL of a file tree, accessed with the options of the DVC remote."""


class FileSettings(_Section):
    """The built-in settings, which ``settings.toml`` may contain on every target."""

    home: str
    """Directory of the Dagster instance (``DAGSTER_HOME``)."""
    ui_url: str | None = None
    """Address of the Dagster UI, as browsers reach it."""
    dvc: DvcSettings
    mlflow: MlflowSettings
    images: ImageSettings = ImageSettings()
    containers: ContainerSettings = ContainerSettings()
    pools: dict[str, Pool] = {}
    placement: dict[str, Override] = {}
    """Placement of an asset (or check, or op) on this target, by its key; overrides its definition."""
    lineage: LineageSettings = LineageSettings()
    alerts: AlertSettings = AlertSettings()
    backup: BackupSettings = BackupSettings()


class Section(_Section):
    """A project's own section in ``settings.toml``; a subclass names its table.

    ::

        class SalesSettings(Section, table="sales"):
            landing: str
            days: int = 7

    Pass it to `Target.from_environment`. It is validated, and overridden by variables (``ML_ASSETS__SALES__DAYS``), as
    the built-in sections are.

    Raises:
        DefinitionError: on declaration, if the table has no name, or one that resembles a built-in section.
    """

    table: ClassVar[str]

    def __init_subclass__(cls, *, table: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)
        if not table.isidentifier() or table != table.lower() or "__" in table:
            raise DefinitionError(
                f"the section {cls.__name__} has an invalid table name: {table!r}",
                next_step=f'declare it as class {cls.__name__}(Section, table="lower_case")',
            )
        ours = closest_section(table)
        if ours is not None:
            raise DefinitionError(
                f"the table name {table!r} of the section {cls.__name__} resembles the built-in section {ours!r}",
                next_step="give its table another name",
            )
        cls.table = table


def closest_section(name: str) -> str | None:
    """Return the key of the built-in settings that a name equals or resembles."""
    ours = FileSettings.model_fields
    swapped = (key for key in ours if sorted(key) == sorted(name))
    return next(iter((*swapped, *difflib.get_close_matches(name, ours, 1, _RESEMBLANCE))), None)

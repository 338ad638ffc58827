"""The sections of ``settings.toml``: those of every target, and the form of a project's own."""

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
"""Above it a name is taken for a misspelt one: `image` for `images` is, `tools` for `pools` is not."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DvcSettings(_Section):
    """Where content is kept."""

    remote: str
    """URL of the DVC remote, or a directory (relative to the project's root)."""
    options: dict[str, str | int | bool] = {}
    """What DVC's ``remote modify`` takes for this kind of remote, such as ``endpointurl``."""
    cache: str
    """Directory of the content-addressed cache."""


class MlflowSettings(_Section):
    """Where runs and models are recorded."""

    tracking_uri: str
    experiment: str = "ml-assets"
    artifact_location: str | None = None
    """Where a new experiment keeps its artifacts; the tracking server decides when left out."""
    ui_url: str | None = None
    """Address of the MLflow UI as people's browsers see it."""
    deployed_alias: str = "champion"
    """Alias of the version of a registered model that serves."""


class ImageSettings(_Section):
    """How image assets are made."""

    builder: Literal["environment", "buildkit"] = "environment"
    """``environment`` records the interpreter's environment and builds nothing; ``buildkit`` builds and pushes."""
    registry: str | None = None
    """Registry that base images are looked up in and built upon, as ``host[:port]``."""
    push_registry: str | None = None
    """Registry that images are pushed to; the one of base images when left out."""
    prefix: str = "ml-assets"
    """What the repository of each image begins with: ``prefix/name``."""
    plain_http: tuple[str, ...] = ()
    """Registries without TLS, as ``host[:port]``; those on loopback addresses need not be listed."""
    reached_at: dict[str, str] = {}
    """Registry → ``host[:port]`` at which this process reaches it, where the engine's name for it leads elsewhere, as a
    loopback address does in a container."""
    docker_config: str | None = None
    """Docker's ``config.json`` with the credentials of registries; that of the user when left out."""
    buildx: str | None = None
    """Builder, as ``docker buildx ls`` names it; the current one when left out."""
    driver: Literal["docker-container", "kubernetes", "remote"] | None = None
    """With what to make that builder where buildx does not know it."""
    endpoint: str | None = None
    """For ``remote``, where BuildKit listens, such as ``tcp://buildkitd:1234``."""
    driver_options: dict[str, str] = {}
    """Options of the driver, such as ``namespace`` and ``rootless`` of ``kubernetes``."""
    platforms: tuple[str, ...] = ("linux/amd64",)
    """What images are built for; the first is the one that is recorded."""
    secrets: dict[Literal["index_url", "netrc", "ca_bundle"], str] = {}
    """Files that a build may read and that leave no trace in the image."""
    proxies: dict[Literal["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"], str] = {}
    """Proxies of the build alone. Never with a password: they can be read in the build's provenance."""
    network: Literal["default", "host", "none"] | None = None
    """Network of the instructions that are run."""
    registry_cache: bool = False
    """Whether layers are cached in the registry too, for builders that come and go."""
    attestations: bool = True
    """Whether the build's provenance is attached to images, where the builder can."""
    sbom_scanner: str | None = None
    """Image that makes the SBOM to attach; none is made without it."""
    source_date_epoch: int = 0
    """Seconds since 1970 that stand for every time in an image, so that the same inputs give the same layers."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.builder == "buildkit" and not (self.push_registry or self.registry):
            raise ValueError("builder buildkit needs a registry to push to: set registry or push_registry")
        if self.driver and not self.buildx:
            raise ValueError("driver makes the builder that buildx names: set buildx too")
        if not self.platforms:
            raise ValueError("platforms names none")
        return self


class ContainerSettings(_Section):
    """How steps become containers. What only one engine knows says so."""

    executor: Literal["processes", "docker", "kubernetes"] = "processes"
    """``processes`` runs steps as plain processes of this machine."""
    image: str | None = None
    """Image asset (or reference by digest) of steps that name none."""
    builder_image: str = "images/builder"
    """Image asset (or reference by digest) that image assets are built in."""
    pool: str | None = None
    """Pool of steps that name none, and of separate checks."""
    check_seconds: PositiveInt = 1800
    """Seconds after which a separate check is ended."""
    variables: dict[str, str] = {}
    """Environment variables of every step. Never a secret: they can be read in the container's description."""
    pass_variables: tuple[str, ...] = ()
    """Docker: variables that every step inherits from the run worker, credentials among them."""
    network: str | None = None
    """Docker: network that steps join."""
    mounts: tuple[str, ...] = ()
    """Docker: volumes, as ``name-or-path:/path[:ro]``."""
    namespace: str = "default"
    """Kubernetes: namespace of the step Jobs."""
    kubeconfig: str | None = None
    """Kubernetes: file that says how to reach the cluster. Left out, a pod's own service account does inside of it, and
    what kubectl uses does outside."""
    service_account: str | None = None
    """Kubernetes: service account of steps whose pool names none."""
    secrets: tuple[str, ...] = ()
    """Kubernetes: Secrets whose entries become variables of every step."""
    config_maps: tuple[str, ...] = ()
    """Kubernetes: ConfigMaps whose entries become variables of every step."""
    image_pull_secrets: tuple[str, ...] = ()
    """Kubernetes: Secrets with the credentials of registries."""
    volumes: tuple[dict[str, Any], ...] = ()
    """Kubernetes: volumes of every step's pod, in its own words."""
    volume_mounts: tuple[dict[str, Any], ...] = ()
    """Kubernetes: where they are mounted."""
    finished_seconds: PositiveInt = 3600
    """Kubernetes: seconds for which a step's failed Job stays to be looked at; one that succeeded goes at once."""


class LineageSettings(_Section):
    """Where lineage is shown."""

    ui_url: str | None = None
    """Address of the trace pages (``ml-assets lineage serve``) as people's browsers see it."""
    openlineage_namespace: str = "ml-assets"
    """Namespace of jobs and datasets in OpenLineage events."""
    openlineage_api_key: str | None = Field(default=None, repr=False)
    """Sent with events to an OpenLineage server. A secret: give it as a variable."""


class AlertSettings(_Section):
    """Who hears of a failed run. Both may be set; neither means that failures are only logged."""

    webhook: str | None = None
    """Address that gets a POST of JSON with ``text`` (as chat services take it) and the details."""
    command: tuple[str, ...] = ()
    """Program and arguments; the same JSON comes on standard input. A variable gives them as a shell takes them."""

    @field_validator("command", mode="before")
    @classmethod
    def _split(cls, command: Any) -> Any:
        return shlex.split(command) if isinstance(command, str) else command


class BackupSettings(_Section):
    """What a backup holds beside the DVC remote, the registry's images and the databases."""

    trees: dict[str, str] = {}
    """Name in the backup → URL of a tree of files, reached with the options of the DVC remote."""


class FileSettings(_Section):
    """Settings of every target that ``settings.toml`` may hold."""

    home: str
    """Directory of the Dagster instance (``DAGSTER_HOME``)."""
    ui_url: str | None = None
    """Address of the Dagster UI as people's browsers see it."""
    dvc: DvcSettings
    mlflow: MlflowSettings
    images: ImageSettings = ImageSettings()
    containers: ContainerSettings = ContainerSettings()
    pools: dict[str, Pool] = {}
    placement: dict[str, Override] = {}
    """Where an asset (or check, or op) runs on this target, by its key, over what its definition says."""
    lineage: LineageSettings = LineageSettings()
    alerts: AlertSettings = AlertSettings()
    backup: BackupSettings = BackupSettings()


class Section(_Section):
    """A section of a project's own in ``settings.toml``; a subclass names its table.

    ::

        class SalesSettings(Section, table="sales"):
            landing: str
            days: int = 7

    It is given to `Target.from_environment`, and checked and overridden by variables (``ML_ASSETS__SALES__DAYS``) as
    the sections of every target are.

    Raises:
        DefinitionError: on declaration, if the table has no name, or one that could be a misspelt one of ours.
    """

    table: ClassVar[str]

    def __init_subclass__(cls, *, table: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)
        if not table.isidentifier() or table != table.lower() or "__" in table:
            raise DefinitionError(
                f"the section {cls.__name__} names no table that a variable can override: {table!r}",
                next_step=f'declare it as class {cls.__name__}(Section, table="lower_case")',
            )
        ours = closest_section(table)
        if ours is not None:
            raise DefinitionError(
                f"the section {cls.__name__} names its table {table!r}, which could be a misspelt {ours!r}",
                next_step="give its table another name",
            )
        cls.table = table


def closest_section(name: str) -> str | None:
    """Return which key of every target's settings a name is, or could be a misspelt one of."""
    ours = FileSettings.model_fields
    swapped = (key for key in ours if sorted(key) == sorted(name))
    return next(iter((*swapped, *difflib.get_close_matches(name, ours, 1, _RESEMBLANCE))), None)

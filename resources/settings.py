"""One typed tree of settings, loaded from ``deployments/<target>/settings.toml``.

This is the only module that looks at environment variables, and it looks at those that it is given:

- ``ML_ASSETS_TARGET`` chooses the target; ``local`` without it.
- ``ML_ASSETS__SECTION__KEY`` overrides a key. Its value is text, unless it begins with ``[`` or ``{``: then it is an
  array or inline table of TOML, as in ``ML_ASSETS__IMAGES__PLAIN_HTTP='["mirror:5000"]'``.
- ``DAGSTER_HOME`` overrides ``home``, because Dagster's own programs obey it.
- ``OMP_NUM_THREADS`` and its like are recorded, and change nothing.
"""

import getpass
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from ml_assets.resources.errors import SettingsError
from ml_assets.resources.pools import Override, Pool, check_pools

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = [
    "AlertSettings",
    "BackupSettings",
    "ContainerSettings",
    "DvcSettings",
    "FlightDelaySettings",
    "ImageSettings",
    "LineageSettings",
    "MlflowSettings",
    "Settings",
    "load_settings",
    "operating_system_user",
    "thread_variables",
]

TARGET_VARIABLE = "ML_ASSETS_TARGET"
OVERRIDE_PREFIX = "ML_ASSETS__"
HOME_VARIABLE = "DAGSTER_HOME"
_FILES = "deployments/*/settings.toml"
_DEPTH = 3
"""Parts of the longest key that has one value, such as ``dvc.options.endpointurl``."""
_Place = tuple[str, ...]
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


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


class FlightDelaySettings(_Section):
    """The reference pipeline."""

    landing: str | None = None
    """Directory in which months arrive as ``flights-YYYY-MM.csv``; None reads the package's whole year."""
    nightly: str = "15 3 * * *"
    """When the model is trained again, as cron says it, in New York's time."""


class _File(_Section):
    """What ``settings.toml`` may say."""

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
    flight_delays: FlightDelaySettings = FlightDelaySettings()


class Settings(_File):
    """All settings of one target."""

    target: str
    root: Path
    """The project's folder; relative paths in settings start here."""
    passed_variables: dict[str, str] = Field(default={}, repr=False)
    """What ``containers.pass_variables`` name, where set."""
    thread_variables: dict[str, str] = {}
    """Variables such as ``OMP_NUM_THREADS``, where set."""

    def path(self, setting: str) -> Path:
        """A setting that is a path, made absolute; it may begin with ``~``."""
        return (self.root / Path(setting).expanduser()).resolve()

    def location(self, setting: str) -> str:
        """A setting that is an address or a path: an address as it is, a path made absolute (SQLite's too)."""
        database = "sqlite:///"
        if setting.startswith(database):
            return f"{database}{self.path(setting.removeprefix(database))}"
        return setting if "://" in setting else str(self.path(setting))


def load_settings(environ: Mapping[str, str], root: Path | None = None) -> Settings:
    """Read the settings of the target that the environment names (``local`` if it names none).

    Args:
        environ: environment variables.
        root: the project's folder; found from the working directory, then from this file, when left out.

    Raises:
        SettingsError: the target is unknown, its file is missing or not TOML, or a key is unknown, missing or wrong.
    """
    root = root or _find_root()
    target = environ.get(TARGET_VARIABLE) or "local"
    file = root / "deployments" / target / "settings.toml"
    targets = sorted(path.parent.name for path in root.glob(_FILES))
    if target not in targets:
        raise SettingsError(
            f"{TARGET_VARIABLE} is {target!r}, and there is no {file}",
            next_step=f"set {TARGET_VARIABLE} to one of: {', '.join(targets) or '(none found)'}",
        )
    tree = _read(file)
    variables = _override(tree, environ)
    if environ.get(HOME_VARIABLE):
        tree["home"] = environ[HOME_VARIABLE]
    try:
        given = _File.model_validate(tree)
    except ValidationError as error:
        raise _wrong(error, file, variables) from error
    problems = check_pools(given.pools)
    if problems:
        wrong = "; ".join(f"{key}: {problem}" for key, problem in problems.items())
        raise SettingsError(f"{file}: {wrong}", next_step=f"correct {file.name}")
    return Settings(
        target=target,
        root=root,
        passed_variables={name: environ[name] for name in given.containers.pass_variables if name in environ},
        thread_variables=thread_variables(environ),
        **dict(given),
    )


def thread_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that bound the threads of numerical libraries, where set."""
    return {name: environ[name] for name in _THREAD_VARIABLES if name in environ}


def operating_system_user() -> str | None:
    """The account that this process runs under, where it has a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def _find_root() -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if any(folder.glob(_FILES)):
            return folder
    raise SettingsError(
        f"there is no {_FILES} in {here} or above it", next_step="run the command inside the project's folder"
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}", next_step="make it readable") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise SettingsError(f"{file} is not TOML: {error}", next_step="correct the file") from error


def _override(tree: dict[str, Any], environ: Mapping[str, str]) -> dict[_Place, str]:
    """Put what variables say into the tree; returned is which variable said it, by place."""
    variables = {}
    for variable in sorted(name for name in environ if name.startswith(OVERRIDE_PREFIX)):
        *sections, key = place = tuple(variable.removeprefix(OVERRIDE_PREFIX).lower().split("__"))
        branch: Any = tree
        for section in sections:
            branch = branch.setdefault(section, {})
            if not isinstance(branch, dict):
                raise SettingsError(
                    f"{variable}: {section} is not a section", next_step="correct or unset the variable"
                )
        branch[key] = _value(variable, environ[variable])
        variables[place] = variable
    return variables


def _value(variable: str, text: str) -> Any:
    if not text.startswith(("[", "{")):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"{variable} begins like an array or table of TOML and is none: {error}",
            next_step="""write it as ["one", "two"] or { key = "value" }""",
        ) from error


def _wrong(error: ValidationError, file: Path, variables: Mapping[_Place, str]) -> SettingsError:
    problems: dict[_Place, str] = {}
    steps = []
    for problem in error.errors():
        place = tuple(str(part) for part in problem["loc"])
        if problem["type"] != "extra_forbidden":
            place = place[:_DEPTH]
        variable = next((name for at, name in variables.items() if at[: len(place)] == place[: len(at)]), None)
        problems.setdefault(place, f"{variable or file}: {_explain(place, problem)}")
        steps.append(f"correct or unset {variable}" if variable else f"correct {file.name}")
    return SettingsError("; ".join(problems.values()), next_step=" and ".join(dict.fromkeys(steps)))


def _explain(place: _Place, problem: "ErrorDetails") -> str:
    key, section = ".".join(place), _section(place[:-1])
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "extra_forbidden":
        where = f"[{'.'.join(place[:-1])}]" if place[:-1] else "the top level"
        return f"{key} is unknown; {where} takes {', '.join(section.model_fields)}"
    if problem["type"] == "model_type":
        return f"{key} is a section, which takes {', '.join(_section(place).model_fields)}"
    # The options of a remote may be secret.
    given = "" if key.startswith("dvc.options") else f", given {problem['input']!r}"
    return f"{key}: {problem['msg']}{given}"


def _section(place: _Place) -> type[BaseModel]:
    found: Any = _File
    for name in place:
        if get_origin(found) in (dict, tuple):  # such as pools and tolerations: sections by name, or in a row
            found = next((each for each in reversed(get_args(found)) if each is not Ellipsis), None)
        else:
            fields = getattr(found, "model_fields", {})
            found = fields[name].annotation if name in fields else None
    return found if isinstance(found, type) and issubclass(found, BaseModel) else _File

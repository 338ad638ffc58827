"""One typed tree of settings, loaded from ``deployments/<target>/settings.toml``.

A variable ``ML_ASSETS__SECTION__KEY`` overrides a key; ``ML_ASSETS_TARGET`` chooses the target. This is the only module
that looks at environment variables, and it looks at those that it is given.
"""

import getpass
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from resources.errors import SettingsError

__all__ = [
    "AlertSettings",
    "DvcSettings",
    "FlightDelaySettings",
    "ImageSettings",
    "MlflowSettings",
    "Settings",
    "load_settings",
    "operating_system_user",
    "thread_variables",
]

TARGET_VARIABLE = "ML_ASSETS_TARGET"
OVERRIDE_PREFIX = "ML_ASSETS__"
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


class ImageSettings(_Section):
    """How image assets are made."""

    builder: Literal["environment"] = "environment"
    """``environment`` records the interpreter's environment and builds nothing."""
    registry: str | None = None
    """Registry that base images are looked up in and built upon, as ``host[:port]``."""
    plain_http: tuple[str, ...] = ()
    """Registries without TLS, as ``host[:port]``; those on loopback addresses need not be listed."""
    docker_config: str | None = None
    """Docker's ``config.json`` with the credentials of registries; that of the user when left out."""


class AlertSettings(_Section):
    """Who hears of a failed run. Both may be set; neither means that failures are only logged."""

    webhook: str | None = None
    """Address that gets a POST of JSON with ``text`` (as chat services take it) and the details."""
    command: tuple[str, ...] = ()
    """Program and arguments; the same JSON comes on standard input."""


class FlightDelaySettings(_Section):
    """The reference pipeline."""

    landing: str | None = None
    """Directory in which months arrive as ``flights-YYYY-MM.csv``; None reads the package's whole year."""


class Settings(_Section):
    """All settings of one target."""

    target: str
    root: Path
    """The project's folder; relative paths in settings start here."""
    home: str
    """Directory of the Dagster instance (``DAGSTER_HOME``)."""
    ui_url: str | None = None
    """Address of the Dagster UI as people's browsers see it."""
    dvc: DvcSettings
    mlflow: MlflowSettings
    images: ImageSettings = ImageSettings()
    alerts: AlertSettings = AlertSettings()
    flight_delays: FlightDelaySettings = FlightDelaySettings()
    thread_variables: dict[str, str] = Field(default_factory=dict)

    def path(self, setting: str) -> Path:
        """A setting that is a path, made absolute."""
        return (self.root / setting).resolve()

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
    target = environ.get(TARGET_VARIABLE, "local")
    file = root / "deployments" / target / "settings.toml"
    targets = sorted(path.parent.name for path in root.glob("deployments/*/settings.toml"))
    if target not in targets:
        raise SettingsError(
            f"{TARGET_VARIABLE} is {target!r}, and there is no {file}",
            next_step=f"set {TARGET_VARIABLE} to one of: {', '.join(targets) or '(none found)'}",
        )
    try:
        tree = tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not TOML: {error}", next_step="correct the file") from error
    _override(tree, environ)
    try:
        return Settings(target=target, root=root, thread_variables=thread_variables(environ), **tree)
    except (ValidationError, TypeError) as error:
        raise SettingsError(f"{file}: {_explain(error)}", next_step="correct the file or the variable") from error


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
        if (folder / "deployments").is_dir():
            return folder
    raise SettingsError(
        f"no folder named deployments in {here} or above it",
        next_step="run the command inside the project, where deployments/<target>/settings.toml is",
    )


def _override(tree: dict[str, Any], environ: Mapping[str, str]) -> None:
    for variable in sorted(environ):
        if not variable.startswith(OVERRIDE_PREFIX):
            continue
        *sections, key = variable.removeprefix(OVERRIDE_PREFIX).lower().split("__")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
            if not isinstance(branch, dict):
                raise SettingsError(f"{variable}: {section} is a key, not a section", next_step="correct its name")
        branch[key] = environ[variable]


def _explain(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return str(error)
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
        + ("" if problem["type"] == "missing" else f", given {problem['input']!r}")
        for problem in error.errors()
    )

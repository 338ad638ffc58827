"""One typed tree of settings, loaded from ``deployments/<target>/settings.toml``.

This is the only module that reads environment variables; the caller passes them:

- ``ML_ASSETS_TARGET`` chooses the target; ``local`` without it.
- ``ML_ASSETS__SECTION__KEY`` overrides a key. Its value is text, unless it begins with ``[`` or ``{``: then it is an
  array or inline table of TOML, as in ``ML_ASSETS__IMAGES__PLAIN_HTTP='["mirror:5000"]'``.
- ``DAGSTER_HOME`` overrides ``home``, because Dagster's own programs use it.
- ``OMP_NUM_THREADS`` and similar variables are recorded; they change no setting.
"""

import getpass
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError

from ml_assets.resources.errors import SettingsError
from ml_assets.resources.pools import check_pools
from ml_assets.resources.sections import FileSettings, Section, closest_section
from ml_assets.resources.sqlite_url import sqlite_file, sqlite_url

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["Settings", "load_settings", "operating_system_user", "thread_variables"]

TARGET_VARIABLE = "ML_ASSETS_TARGET"
OVERRIDE_PREFIX = "ML_ASSETS__"
HOME_VARIABLE = "DAGSTER_HOME"
_FILE_SUFFIX = "_file"
_FILES = "deployments/*/settings.toml"
_DEPTH = 3
"""Number of parts of the longest key with a single value, such as ``dvc.options.endpointurl``."""
_Place = tuple[str, ...]
_Section = TypeVar("_Section", bound=Section)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Settings(FileSettings):
    """All settings of one target."""

    target: str
    root: Path
    """The project's folder; relative paths in settings start here."""
    passed_variables: dict[str, str] = Field(default={}, repr=False)
    """Values of ``containers.pass_variables``, where set."""
    thread_variables: dict[str, str] = Field(default={})
    """Variables such as ``OMP_NUM_THREADS``, where set."""
    sections: dict[str, Section] = Field(default={})
    """The project's own sections, by table."""

    @property
    def override_registries(self) -> frozenset[str]:
        """Return the registries from which a run's own overrides may take images by reference."""
        own = (self.images.registry, self.images.push_registry)
        return frozenset((*self.containers.override_registries, *(each for each in own if each)))

    def section(self, kind: type[_Section]) -> _Section:
        """Return one of the project's own sections.

        Raises:
            SettingsError: the settings were loaded without it.
        """
        found = self.sections.get(kind.table)
        if not isinstance(found, kind):
            raise SettingsError(
                f"the settings were loaded without the section {kind.table!r}",
                next_step=f"load them with it: Target.from_environment({kind.__name__})",
            )
        return found

    def path(self, setting: str) -> Path:
        """Return a path setting as an absolute path; it may begin with ``~``."""
        return (self.root / Path(setting).expanduser()).resolve()

    def location(self, setting: str) -> str:
        """Return an address unchanged, or a path made absolute (including SQLite's).

        Raises:
            SettingsError: the path of a SQLite file contains a question mark.
        """
        file = sqlite_file(setting)
        if file is not None:
            return sqlite_url(self.path(str(file)), setting.partition("?")[2])
        return setting if "://" in setting else str(self.path(setting))


def load_settings(
    environ: Mapping[str, str],
    root: Path | None = None,
    sections: Iterable[type[Section]] | None = (),
    code: Path | None = None,
) -> Settings:
    """Read the settings of the target that the environment names (``local`` if it names none).

    Args:
        environ: environment variables.
        root: the project's folder. By default the nearest one with settings above the working directory, then above
            the code.
        sections: the project's own sections. None if they are unknown because the project's code is not loaded;
            unknown tables are then ignored, unless their names resemble a built-in section.
        code: file of the project's code, if it asks.

    Raises:
        SettingsError: the target is unknown, its file is missing or not TOML, or a key is unknown, missing or wrong.
    """
    root = root or _find_root(code)
    target = environ.get(TARGET_VARIABLE) or "local"
    file = root / "deployments" / target / "settings.toml"
    targets = sorted(path.parent.name for path in root.glob(_FILES))
    if target not in targets:
        raise SettingsError(
            f"{TARGET_VARIABLE} is {target!r}, but {file} does not exist",
            next_step=f"set {TARGET_VARIABLE} to one of: {', '.join(targets) or '(none found)'}",
        )
    tree = _read(file)
    form = _Form(file, {section.table: section for section in sections or ()})
    form.override(tree, environ)
    if environ.get(HOME_VARIABLE):
        tree["home"] = environ[HOME_VARIABLE]
    if sections is None:
        tree = {key: value for key, value in tree.items() if not isinstance(value, dict) or closest_section(key)}
    given, own = form.check(tree)
    problems = check_pools(given.pools)
    if problems:
        wrong = "; ".join(f"{key}: {problem}" for key, problem in problems.items())
        raise SettingsError(f"{file}: {wrong}", next_step=f"correct {file.name}")
    return Settings(
        target=target,
        root=root,
        passed_variables={name: environ[name] for name in given.containers.pass_variables if name in environ},
        thread_variables=thread_variables(environ),
        sections=own,
        **dict(given),
    )


def thread_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that limit the threads of numerical libraries, where set."""
    return {name: environ[name] for name in _THREAD_VARIABLES if name in environ}


def operating_system_user() -> str | None:
    """Return the account that this process runs under, or None if it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def _find_root(code: Path | None) -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents, *(code.resolve().parents if code else ())):
        if any(folder.glob(_FILES)):
            return folder
    beside = f", in {code.parent}" if code else ""
    raise SettingsError(
        f"no project: no {_FILES} in {here}{beside} or the folders above",
        next_step="run the command inside the project's folder, or create deployments/local/settings.toml there",
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}", next_step="make it readable") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise SettingsError(f"{file} is not TOML: {error}", next_step="correct the file") from error


def _content(variable: str, path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"the file that {variable} names cannot be read: {error}",
            next_step="mount the Secret, or correct the variable",
        ) from error


def _value(variable: str, text: str) -> Any:
    if not text.startswith(("[", "{")):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"{variable} begins like a TOML array or table, but is not valid TOML: {error}",
            next_step="""write it as ["one", "two"] or { key = "value" }""",
        ) from error


class _Form:
    """The valid form of a settings file, and its error messages.

    Args:
        file: the settings file.
        own: the project's own sections, by table.
    """

    def __init__(self, file: Path, own: Mapping[str, type[Section]]) -> None:
        self._file, self._own = file, own
        self._variables: dict[_Place, str] = {}
        """Name of the overriding variable, by place."""

    def override(self, tree: dict[str, Any], environ: Mapping[str, str]) -> None:
        """Apply the variables to the tree. ``…_FILE`` names a file with the value, unless a key has that name.

        Raises:
            SettingsError: a variable overrides something that is not a section, or its file cannot be read.
        """
        for variable in sorted(name for name in environ if name.startswith(OVERRIDE_PREFIX)):
            *sections, key = variable.removeprefix(OVERRIDE_PREFIX).lower().split("__")
            branch: Any = tree
            for section in sections:
                branch = branch.setdefault(section, {})
                if not isinstance(branch, dict):
                    raise SettingsError(
                        f"{variable}: {section} is not a section", next_step="correct or unset the variable"
                    )
            known, stem = self._keys(tuple(sections)), key.removesuffix(_FILE_SUFFIX)
            if stem != key and key not in known and stem in known:
                if (other := variable[: -len(_FILE_SUFFIX)]) in environ:
                    raise SettingsError(f"{other} and {variable} are both set", next_step="unset one of them")
                key, branch[stem] = stem, _content(variable, environ[variable])
            else:
                branch[key] = _value(variable, environ[variable])
            self._variables[*sections, key] = variable

    def check(self, tree: Mapping[str, Any]) -> tuple[FileSettings, dict[str, Section]]:
        """Return the settings of every target, and the project's own sections by table.

        Raises:
            SettingsError: a key is unknown, missing or wrong.
        """
        ours = {key: value for key, value in tree.items() if key not in self._own}
        parts: dict[_Place, tuple[type[BaseModel], Any]] = {(): (FileSettings, ours)}
        parts |= {(name,): (section, tree.get(name, {})) for name, section in self._own.items()}
        found: dict[_Place, BaseModel] = {}
        wrong: list[tuple[_Place, ErrorDetails]] = []
        for around, (model, given) in parts.items():
            try:
                found[around] = model.model_validate(given)
            except ValidationError as error:
                wrong += [((*around, *map(str, problem["loc"])), problem) for problem in error.errors()]
        if wrong:
            raise self._told(wrong)
        given = cast(FileSettings, found.pop(()))
        return given, {name: cast(Section, section) for (name,), section in found.items()}

    def _told(self, wrong: "Iterable[tuple[_Place, ErrorDetails]]") -> SettingsError:
        problems: dict[_Place, str] = {}
        steps = []
        for place, problem in wrong:
            if problem["type"] != "extra_forbidden":
                place = place[:_DEPTH]
            variable = next(
                (name for at, name in self._variables.items() if at[: len(place)] == place[: len(at)]), None
            )
            problems.setdefault(place, f"{variable or self._file}: {self._explain(place, problem)}")
            steps.append(f"correct or unset {variable}" if variable else f"correct {self._file.name}")
        return SettingsError("; ".join(problems.values()), next_step=" and ".join(dict.fromkeys(steps)))

    def _explain(self, place: _Place, problem: "ErrorDetails") -> str:
        key = ".".join(place)
        if problem["type"] == "missing":
            return f"{key} is missing"
        if problem["type"] == "extra_forbidden":
            where = f"[{'.'.join(place[:-1])}]" if place[:-1] else "the top level"
            meant = closest_section(key) if not place[:-1] else None
            suggestion = f" (did you mean {meant}?)" if meant else ""
            return f"{key} is unknown; {where} accepts {', '.join(self._keys(place[:-1]))}{suggestion}"
        if problem["type"] == "model_type":
            return f"{key} is a section, which accepts {', '.join(self._keys(place))}"
        # The options of a remote may be secret, so the message does not show them.
        given = "" if key.startswith("dvc.options") else f", given {problem['input']!r}"
        return f"{key}: {problem['msg']}{given}"

    def _keys(self, place: _Place) -> tuple[str, ...]:
        """Return the names that the section at a place accepts."""
        own = self._own.get(place[0]) if place else None
        found: Any = own or FileSettings
        for name in place[1:] if own else place:
            if get_origin(found) in (dict, tuple):  # for example pools and tolerations: sections by name, or in a list
                found = next((each for each in reversed(get_args(found)) if each is not Ellipsis), None)
            else:
                fields = getattr(found, "model_fields", {})
                found = fields[name].annotation if name in fields else None
        section = found if isinstance(found, type) and issubclass(found, BaseModel) else FileSettings
        return (*section.model_fields, *(self._own if section is FileSettings else ()))

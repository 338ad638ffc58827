"""The project in which a command runs: the code locations that its files name for Dagster's own commands."""

import sys
import tomllib
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.dagster_internals import (
    GrpcServerCodeLocationOrigin,
    LoadableTargetOrigin,
    get_loadable_targets,
    get_target_from_toml_data,
    location_origins_from_yaml_paths,
    repository_def_from_target_def,
)
from ml_assets.resources.errors import MlAssetsError, SettingsError

__all__ = ["code_locations_in", "load_code_locations", "load_module"]

_PYPROJECT, _DG, _WORKSPACE = "pyproject.toml", "dg.toml", "workspace.yaml"
_SRC = "src"


def load_code_locations(folder: Path, module: str | None = None) -> list[dg.RepositoryDefinition]:
    """Return the definitions of the project in which a command runs.

    Without a module, the folder and then its parents are searched for the first that names code locations. See
    `code_locations_in`.

    Args:
        folder: the working directory.
        module: dotted name of the module, searched from the folder.

    Raises:
        SettingsError: the folder is in no project, or a code location cannot be loaded.
    """
    if module:
        return [load_module(module, str(folder))]
    for each in (folder, *folder.parents):
        if found := code_locations_in(each):
            return [_loaded(location) for location in found]
    raise SettingsError(
        f"no project: neither {folder} nor a parent folder names the module of your definitions",
        next_step=f"run the command inside a project with [tool.dg.project] in {_PYPROJECT} or with {_WORKSPACE}, "
        "or set --module, as for dagster -m",
    )


def code_locations_in(folder: Path) -> list[LoadableTargetOrigin]:
    """Return the code locations that a folder names, each with its working directory; none if it is no project.

    The first of these files that names one counts, as for Dagster's own commands: ``pyproject.toml`` and ``dg.toml``
    with a project or with the projects of a workspace, then ``workspace.yaml``. Servers in it are left out.

    Raises:
        SettingsError: a file is malformed.
    """
    for name in (_PYPROJECT, _DG):
        if found := _in_toml(folder / name):
            return found
    file = folder / _WORKSPACE
    if not file.is_file():
        return []
    try:
        origins = location_origins_from_yaml_paths([str(file)])
    except Exception as error:
        raise _malformed(file, error) from error
    own = [origin for origin in origins if not isinstance(origin, GrpcServerCodeLocationOrigin)]
    return [_within(origin.loadable_target_origin, folder) for origin in own]


def load_module(module: str, folder: str | None = None) -> dg.RepositoryDefinition:
    """Return a module's definitions, as ``dagster -m`` finds them.

    Args:
        module: dotted name of the module.
        folder: folder that is also searched for modules.

    Raises:
        SettingsError: it cannot be imported, or defines no assets.
    """
    return _loaded(LoadableTargetOrigin(module_name=module, working_directory=folder))


def _loaded(location: LoadableTargetOrigin) -> dg.RepositoryDefinition:
    name = location.module_name or location.python_file or location.package_name or location.autoload_defs_module_name
    source = Path(location.working_directory or ".") / _SRC
    if source.is_dir() and str(source) not in sys.path:
        # Dagster leaves out the first entry, which is the folder of the program.
        sys.path.insert(1, str(source))
    try:
        (target, *_) = get_loadable_targets(
            python_file=location.python_file,
            module_name=location.module_name,
            package_name=location.package_name,
            autoload_defs_module_name=location.autoload_defs_module_name,
            working_directory=location.working_directory,
            attribute=location.attribute,
            resolve_lazy_defs=True,
        )
        repository = repository_def_from_target_def(target.target_definition)
    except MlAssetsError:
        raise
    except Exception as error:
        raise SettingsError(
            f"cannot load the code location {name}: {_first_line(error)}",
            next_step="correct the module, or set --module to the module of your definitions, as for dagster -m",
        ) from error
    if repository is None:
        raise SettingsError(
            f"{name} contains no definitions", next_step="set --module to the module of your definitions"
        )
    return repository


def _in_toml(file: Path) -> list[LoadableTargetOrigin]:
    try:
        tree: Any = tomllib.loads(file.read_text(encoding="utf-8"))
        if file.name == _DG:
            tree = {"tool": {"dg": tree}}
        targets = get_target_from_toml_data(tree)
        projects = tree.get("tool", {}).get("dg", {}).get("workspace", {}).get("projects", [])
        folders = [file.parent / project["path"] for project in projects]
    except FileNotFoundError:
        return []
    except Exception as error:
        raise _malformed(file, error) from error
    listed = targets if isinstance(targets, list) else [targets] if targets is not None else []
    origins = [origin for target in listed for origin in target.create_origins()]
    own = [_within(origin.loadable_target_origin, file.parent) for origin in origins]
    return own or [location for folder in folders for location in code_locations_in(folder)]


def _within(location: LoadableTargetOrigin, folder: Path) -> LoadableTargetOrigin:
    """Return the location with its folder as working directory: Dagster takes the process's own for a TOML file."""
    given = location.working_directory
    own = folder if given is None or Path(given) == Path.cwd() else Path(folder, given)
    return LoadableTargetOrigin(**{**location.as_dict, "executable_path": None, "working_directory": str(own)})


def _malformed(file: Path, error: Exception) -> SettingsError:
    return SettingsError(f"cannot read {file}: {_first_line(error)}", next_step="correct the file, or set --module")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

"""The project in which a command runs: the code location that its ``pyproject.toml`` names."""

import tomllib
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.dagster_internals import loadable_targets_from_python_module, repository_def_from_target_def
from ml_assets.resources.errors import MlAssetsError, SettingsError

__all__ = ["load_code_location", "load_module"]

_FILE = "pyproject.toml"


def load_code_location(root: Path, module: str | None = None) -> dg.RepositoryDefinition:
    """Return a project's definitions, by default from the module that Dagster's own commands load.

    Args:
        root: the project's folder.
        module: dotted name of the module, searched from the working directory. The default is the ``module_name`` of
            ``[tool.dagster]`` in the project's ``pyproject.toml``, searched from the project's folder.

    Raises:
        SettingsError: no module is named, the module cannot be imported, or it defines no assets.
    """
    # Python's import cache would resolve "." to the working directory of the first import.
    return load_module(module, str(Path.cwd())) if module else load_module(_module_of(root), str(root))


def load_module(module: str, folder: str | None = None) -> dg.RepositoryDefinition:
    """Return a module's definitions, as ``dagster -m`` finds them.

    Args:
        module: dotted name of the module.
        folder: folder that is also searched for modules.

    Raises:
        SettingsError: it cannot be imported, or defines no assets.
    """
    try:
        (target, *_) = loadable_targets_from_python_module(module, folder)
        repository = repository_def_from_target_def(target.target_definition)
    except MlAssetsError:
        raise
    except Exception as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SettingsError(
            f"cannot load the code location {module}: {cause}",
            next_step="correct the module, or set --module to the module of your definitions, as for dagster -m",
        ) from error
    if repository is None:
        raise SettingsError(
            f"{module} contains no definitions", next_step="set --module to the module of your definitions"
        )
    return repository


def _module_of(root: Path) -> str:
    file = root / _FILE
    try:
        named: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        named = None
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read {file}: {error}", next_step="correct the file, or set --module") from error
    for key in ("tool", "dagster", "module_name"):
        named = named.get(key) if isinstance(named, dict) else None
    if not isinstance(named, str):
        raise SettingsError(
            f"{file} does not name the module of your definitions",
            next_step="set --module, as for dagster -m, or module_name in [tool.dagster]",
        )
    return named

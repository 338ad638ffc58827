"""The files of the author's project: its code, and the data beside it.

Code is judged by its file, with the rule of `ml_assets.code_version.version`: the function's own top-level package, and
every file that is neither installed nor in the standard library. Data belongs to the project if it lies in the same git
repository or below the same import folder as first-party code. Hidden folders and installed packages do not belong to
it.
"""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

__all__ = ["ProjectFiles"]

_INSTALLED: Final = ("site-packages", "dist-packages")
_CACHE: Final = "__pycache__"
_PLUGIN: Final = Path(__file__).parents[1]
_PLUGIN_FOLDERS: Final = tuple(f"{folder}{os.sep}" for folder in (_PLUGIN, (_PLUGIN / "resources").resolve()))
_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep


class ProjectFiles:
    """The project of one function.

    Args:
        function: the asset's function.
        apart: folders inside the project that hold no part of it, such as the content store.

    Attributes:
        folder: the folder that the function's top-level package is imported from. Names of files start here.
    """

    def __init__(self, function: Callable[..., Any], apart: Collection[Path] = ()) -> None:
        author = inspect.unwrap(function)
        file = Path(author.__code__.co_filename).absolute()
        name = str(author.__globals__.get("__name__", ""))
        self.folder, package = _import_folder(file, name)
        self._package = f"{package}{os.sep}" if package else str(file)
        self._apart = tuple(f"{folder}{os.sep}" for folder in apart)
        self._is_own: dict[str, bool] = {}

    @functools.cached_property
    def roots(self) -> tuple[str, ...]:
        """The folders that hold the project's files, each with a separator at its end."""
        own = self._package if _is_installed(self._package) else f"{_repository(self.folder)}{os.sep}"
        return tuple(dict.fromkeys((own, *_import_roots())))

    def owns_code(self, file: str) -> bool:
        """Return True if code of this file, a ``co_filename``, is first-party code."""
        known = self._is_own.get(file)
        if known is None:
            known = self._is_own[file] = self._judge_code(file)
        return known

    def modules(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the names and namespaces of the loaded first-party modules."""
        foreign: set[str] = set()
        for name in list(sys.modules):
            top, _, below = name.partition(".")
            # Most of a process's thousands of modules belong to an installed package. In a forked process, each object
            # that is touched costs a copy of its page.
            if top in foreign or top in sys.stdlib_module_names:
                continue
            module = sys.modules.get(name)
            # A lazily loaded module would be loaded by asking it, and other objects only pretend to be modules.
            is_module = issubclass(type(module), ModuleType)
            namespace = object.__getattribute__(module, "__dict__") if is_module else {}
            file = namespace.get("__file__")
            if isinstance(file, str) and self.owns_code(file):
                yield name, namespace
            elif not below and file is not None and top != _PLUGIN.name:
                foreign.add(top)

    def owns_file(self, path: str) -> bool:
        """Return True if an absolute path names a file of the project that is neither a module nor compiled code."""
        if path.startswith(self._apart) or path.endswith((".pyc", ".pyo")):
            return False
        if path.startswith(self._package):
            return True
        if _is_installed(path) or path.startswith(_PLUGIN_FOLDERS):
            return False
        within = (path.removeprefix(root) for root in self.roots if path.startswith(root))
        return any(not any(part.startswith(".") for part in name.split(os.sep)[:-1]) for name in within)

    def name(self, path: str) -> str:
        """Return the name of a file: its path relative to `folder`, which is the same in every checkout."""
        return Path(os.path.relpath(path, self.folder)).as_posix()

    def path(self, name: str) -> Path:
        """Return the path of a file with this name."""
        return Path(os.path.normpath(self.folder / name))

    def _judge_code(self, file: str) -> bool:
        if not os.path.isabs(file):
            return False
        if file.startswith(self._package):
            return True
        return not (_is_installed(file) or file.startswith(_PLUGIN_FOLDERS))


def _is_installed(path: str) -> bool:
    # Outside a virtual environment the prefix is a folder such as /usr, which may hold the project too.
    is_prefixed = sys.prefix != sys.base_prefix and path.startswith(f"{sys.prefix}{os.sep}")
    named = (f"{os.sep}{name}{os.sep}" in path for name in (*_INSTALLED, _CACHE))
    return is_prefixed or path.startswith(_LIBRARY) or any(named)


def _import_folder(file: Path, module: str) -> tuple[Path, Path | None]:
    """Return the folder that a module's top-level package is imported from, and the package's folder, if any.

    Of the plug-in only the package below it counts, as for code versions.
    """
    parts = module.split(".")
    path = file.parent if file.name == "__init__.py" else file.with_suffix("")
    if path.parts[-len(parts) :] != tuple(parts):
        return file.parent, None
    folder = path.parents[len(parts) - 1]
    own = parts[:2] if (folder / parts[0]) == _PLUGIN else parts[:1]
    package = folder.joinpath(*own)
    return folder, package if package.is_dir() else None


def _repository(folder: Path) -> Path:
    """Return the root of the git repository around a folder; the folder itself if it is in none."""
    return next((each for each in (folder, *folder.parents) if (each / ".git").exists()), folder)


def _import_roots() -> Iterator[str]:
    """Return the import folders that are neither installed nor in the standard library."""
    for entry in sys.path:
        try:
            path = f"{Path(entry).absolute()}{os.sep}"
        except OSError:  # The working directory is gone.
            continue
        if not _is_installed(path) and path.count(os.sep) > 1 and Path(path).is_dir():
            yield path

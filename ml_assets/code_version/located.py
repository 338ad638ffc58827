"""First-party modules: which they are, and where their files are; nothing is imported."""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ml_assets.code_version.scopes import Import

__all__ = ["PLUGIN", "FirstParty", "LocatedModule", "absolute", "module_file"]

PLUGIN: Final = "ml_assets"
_INSTALLED = {"site-packages", "dist-packages"}
_installed: set[str] = set()
"""Names of installed packages that were found before."""


@dataclass(frozen=True)
class LocatedModule:
    """A module with its file and the folders of its submodules.

    Attributes:
        file: the Python file; None for a namespace package or a native library.
        library: the file of a module that is not Python source.
    """

    name: str
    file: Path | None
    folders: tuple[str, ...] = ()
    library: Path | None = None

    @property
    def package(self) -> str:
        """Dotted name of the package that relative imports start from."""
        is_package = bool(self.folders) or (self.file is not None and self.file.name == "__init__.py")
        return self.name if is_package else self.name.rpartition(".")[0]


class FirstParty:
    """The modules whose code counts.

    Args:
        own: module of the function. Its top-level package counts even if it is installed.
    """

    def __init__(self, own: LocatedModule) -> None:
        self._top = own.name.partition(".")[0]
        top, *below = own.name.split(".")
        self._room = f"{PLUGIN}.{below[0]}." if top == PLUGIN and below else None
        self._located: dict[str, LocatedModule | None] = {}
        regular = self.find(own.name)
        same = regular is not None and regular.file == own.file
        self.view = (self._top, self._room, None if same else own)
        """Equal for functions for which the same modules are first-party."""
        self._located[own.name] = own

    def find(self, name: str) -> LocatedModule | None:
        """Return a module by its dotted name; None if it is not first-party or does not exist."""
        if name not in self._located:
            self._located[name] = self._find(name)
        return self._located[name]

    def below(self, located: LocatedModule, prefix: str) -> list[LocatedModule]:
        """Return the modules beside or below a module whose name has a prefix.

        Args:
            located: a package, or a module without a package, whose neighbours are searched.
            prefix: beginning of the name, relative to the package.
        """
        folders = located.folders or ((str(located.file.parent),) if located.file else ())
        package = f"{located.package}." if located.package else ""
        names = {
            package + path.stem.partition(".")[0]
            for folder in folders
            for path in Path(folder).glob(f"{prefix}*")
            if path.suffix in (".py", ".so", ".pyd") or (path.is_dir() and (path / "__init__.py").is_file())
        }
        found = [self.find(name) for name in sorted(names) if not name.endswith("__init__")]
        return [module for module in found if module is not None]

    def _find(self, name: str) -> LocatedModule | None:
        top = name.partition(".")[0]
        if not top or top in sys.stdlib_module_names or (top in _installed and top != self._top):
            return None
        if top == PLUGIN and not (self._room and f"{name}.".startswith(self._room)):
            return None
        around = name.rpartition(".")[0]
        if around and around != PLUGIN and self.find(around) is None:
            return None
        located = _search(name)
        if located is None:
            return None
        paths = [Path(path) for path in (located.file, located.library, *located.folders) if path is not None]
        if not any(part in _INSTALLED for path in paths for part in path.parts):
            return located
        if name == top:
            _installed.add(top)
        return located if top == self._top else None


def module_file(name: str) -> Path | None:
    """Return the source file of a module, without importing it; None if it has none or does not exist."""
    located = _search(name)
    return located.file if located else None


def absolute(located: LocatedModule, imported: Import) -> str:
    """Return the dotted name of the module that an import in a module names."""
    if not imported.level:
        return imported.module
    base = located.package.split(".")
    base = base[: len(base) - imported.level + 1]
    return ".".join((*base, imported.module)) if imported.module else ".".join(base)


def _search(name: str) -> LocatedModule | None:
    """Find a module's file without importing it or its packages."""
    if name in sys.modules:
        # Bypass __getattr__, which would load a lazily loaded module.
        known = object.__getattribute__(sys.modules[name], "__dict__")
        if known.get("__file__") or known.get("__path__"):
            return _locate(name, known.get("__file__"), known.get("__path__", ()))
    parent, _, _ = name.rpartition(".")
    try:
        if not parent:
            spec = importlib.util.find_spec(name)
        else:
            around = _search(parent)
            spec = importlib.machinery.PathFinder.find_spec(name, around.folders) if around else None
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    return _locate(name, spec.origin, spec.submodule_search_locations or ())


def _locate(name: str, file: str | None, folders: "Iterator[str] | tuple[str, ...] | list[str]") -> LocatedModule:
    path = Path(file) if file and Path(file).is_file() else None
    if path is not None and path.suffix != ".py":
        return LocatedModule(name, None, tuple(folders), path)
    return LocatedModule(name, path, tuple(folders))

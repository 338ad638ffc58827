"""The code version of an asset: a hash of its function and of the first-party code that it reaches.

Code is found by reading files, never by importing them, one symbol at a time. A function counts together with the
functions, classes, constants and imports that it names, and, recursively, those that they name, in any file. A module
counts as a whole if it is passed around as an object, imported by a string, or asked for a name that it generates.

Rules of what counts:

* First-party code is the function's own top-level package, and every module that is neither installed (below a
  ``site-packages``) nor in the standard library. Of other modules only the imported name counts; the environment
  digest covers their versions. This project's own modules count as other modules, and `STORAGE_FORMAT` covers them. The
  exception is the package below ``ml_assets`` that contains the function, such as the reference pipeline.
* Layout, comments, docstrings, the order of definitions and the name of the function's own module do not count.
* A function's decorators count unless they come from Dagster or from this project, because those only configure where
  and when it runs. In a function that makes assets, everything counts.
* A statement that alters a name of its file (``LIMITS["x"] = 3``) counts with that name. A statement that acts on
  anything else (``pd.set_option(…)``) counts with every symbol of its file and of the packages below it.
* Imports and names under ``if TYPE_CHECKING:`` and statements of the main block do not count: they never run in a step.
* A nested function counts with the whole outer function and with its captured values: constants, containers,
  dataclasses and Pydantic models of constants, enumerations, dates, and functions. Of other objects only the class
  counts.
* Data files do not count. Declare them as datasets.
"""

import hashlib
import importlib.machinery
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, Final, NamedTuple

from ml_assets.code_version.captured import captured_values
from ml_assets.code_version.coverage import Coverage, CoveredModule
from ml_assets.code_version.modules import SyntaxModule, read_module
from ml_assets.code_version.statements import Import, NameReference, Statement
from ml_assets.resources.errors import DefinitionError

__all__ = ["STORAGE_FORMAT", "Code", "code_of", "code_version", "coverage", "reached"]

STORAGE_FORMAT = 2
"""Represents this project's own code in every code version. Raise it manually when the storage format changes; this
marks every asset as stale.
"""

_PLUGIN = "ml_assets"
_ORCHESTRATION = (_PLUGIN, "dagster")
_INSTALLED = {"site-packages", "dist-packages"}
_WHOLE = "*"
_EFFECTS = "<statements>"

_PART_DIGITS: Final = 12

_Symbol = tuple[str, str]
"""A module's name and a symbol in it, `_WHOLE` or `_EFFECTS`."""


class Code(NamedTuple):
    """A code version and its parts.

    Attributes:
        parts: the beginning of the digest of each symbol that counts, by ``module:symbol``. The name of the function's
            own module is left out. ``module:*`` and ``module:<statements>`` are as for `reached`.
    """

    version: str
    parts: dict[str, str]


def code_of(function: Callable[..., Any]) -> Code:
    """Return the code version of a function with its parts, which later show what has changed.

    Raises:
        DefinitionError: as for `code_version`.
    """
    search = _search(function)
    return Code(search.digest(), search.parts())


def code_version(function: Callable[..., Any]) -> str:
    """Hash an asset's function and the first-party code that it reaches.

    Args:
        function: the undecorated function, as passed to a factory. Its files are only read; nothing is imported.

    Returns:
        A SHA-256, 64 hexadecimal digits: the same on every machine, in every checkout, and under Python 3.11 to 3.13.

    Raises:
        DefinitionError: the function has no source file (a lambda, a partial, a callable object, a bound method), or a
        file in its reach is not valid Python.
    """
    return _search(function).digest()


def reached(function: Callable[..., Any]) -> frozenset[str]:
    """Return the symbols that count in a function's code version, as ``module:symbol``.

    ``module:*`` stands for a module that counts as a whole, ``module:<statements>`` for statements that act without
    binding a name.

    Raises:
        DefinitionError: as for `code_version`.
    """
    return frozenset(f"{module}:{symbol}" for module, symbol in _search(function).found)


def coverage(function: Callable[..., Any]) -> Coverage:
    """Return the first-party code and files that count in a function's code version.

    Raises:
        DefinitionError: as for `code_version`.
    """
    return _search(function).coverage()


def _search(function: Callable[..., Any]) -> "_Search":
    try:
        return _Search(function)
    except RecursionError as error:
        raise _no_source(function, "code that it reaches, or a value that it captures, is nested too deeply") from error


@dataclass(frozen=True)
class _LocatedModule:
    """A module with its file (None for a namespace package) and the folders of its submodules."""

    name: str
    file: Path | None
    folders: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        is_package = bool(self.folders) or (self.file is not None and self.file.name == "__init__.py")
        return self.name if is_package else self.name.rpartition(".")[0]


_Target = tuple[_LocatedModule, str] | str


class _Search:
    """Follows names from a function, file by file, until nothing new is found."""

    def __init__(self, function: Callable[..., Any]) -> None:
        author, links, self._captured = _unwrap(function)
        self._own = _locate(author)
        top, *below = self._own.name.split(".")
        self._room = f"{_PLUGIN}.{below[0]}." if top == _PLUGIN and below else None
        self._located: dict[str, _LocatedModule | None] = {self._own.name: self._own}
        self._modules: dict[str, SyntaxModule] = {}
        self.found: dict[_Symbol, bytes] = {}
        self._ahead: list[tuple[_LocatedModule, str]] = []
        for link in links:
            self._start(link, required=link is author)
        while self._ahead:
            located, symbol = self._ahead.pop()
            self.found[located.name, symbol] = self._describe(located, symbol)

    def digest(self) -> str:
        parts = [f"storage format {STORAGE_FORMAT}".encode(), *(value.encode() for value in self._captured)]
        labelled = sorted((self._label(symbol), content) for symbol, content in self.found.items())
        parts += [label.encode() + b"=" + content for label, content in labelled]
        # Hash each part first, so that different lists of parts have different digests.
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    def coverage(self) -> Coverage:
        """Return the files of the symbols found, with their names and lines."""
        symbols: dict[str, set[str]] = {}
        for module, symbol in self.found:
            symbols.setdefault(module, set()).add(symbol)
        modules: dict[Path, CoveredModule] = {}
        for name, found in symbols.items():
            located = self._located[name]
            if located is None or located.file is None:
                continue
            module = self._module(located)
            statements = [*(module.effects if _EFFECTS in found else ())]
            statements += [part for symbol in found for part in module.definitions.get(symbol, ())]
            lines = tuple(sorted({statement.lines for statement in statements}))
            own = frozenset(found - {_EFFECTS})
            modules[located.file.absolute()] = CoveredModule(name, None if _WHOLE in found else own, lines)
        return Coverage(modules)

    def parts(self) -> dict[str, str]:
        """Return the beginning of each symbol's digest by its label, and of all captured values together."""
        parts = {self._label(symbol): content.hex()[:_PART_DIGITS] for symbol, content in sorted(self.found.items())}
        if self._captured:
            captured = hashlib.sha256(repr(self._captured).encode()).hexdigest()
            parts[":<captured values>"] = captured[:_PART_DIGITS]
        return parts

    def _label(self, symbol: _Symbol) -> str:
        """Return the symbol's name, without the function's own module, whose name depends on how it was loaded."""
        module, name = symbol
        return f":{name}" if module == self._own.name else f"{module}:{name}"

    def _start(self, link: FunctionType | type, *, required: bool) -> None:
        if isinstance(link, FunctionType):
            module, name = str(link.__globals__.get("__name__")), link.__code__.co_qualname
        else:
            module, name = link.__module__, link.__qualname__
        symbol = name.partition(".")[0]
        located = self._first_party(module)
        if located is not None and symbol in self._module(located).definitions:
            self._enter(located, symbol)
        elif required or (located is not None and isinstance(link, FunctionType)):
            raise _no_source(link, f"{located.file if located else module} does not define {symbol} at its top level")

    def _enter(self, located: _LocatedModule, symbol: str) -> _Symbol:
        if (located.name, symbol) not in self.found:
            self.found[located.name, symbol] = b""
            self._ahead.append((located, symbol))
            if symbol != _EFFECTS:
                self._enter_effects(located)
        return located.name, symbol

    def _enter_effects(self, located: _LocatedModule) -> None:
        if self._module(located).effects:
            self._enter(located, _EFFECTS)
        parent = self._first_party(located.name.rpartition(".")[0])
        if parent is not None:
            self._enter_effects(parent)

    def _describe(self, located: _LocatedModule, symbol: str) -> bytes:
        """Return a symbol's description: its statements, and the meaning of each name that they use."""
        module = self._module(located)
        digest = hashlib.sha256()
        if symbol == _WHOLE:
            references = [NameReference(name) for name in sorted({*module.definitions, *module.imports})]
            references += [NameReference("*", (), star) for star in module.stars]
            digest.update(self._meanings(located, references))
            return digest.digest()
        statements = module.effects if symbol == _EFFECTS else module.definitions[symbol]
        decorators = [part for statement in statements for part in self._computing_decorators(located, statement)]
        for statement in (*statements, *decorators):
            digest.update(statement.reading.digest)
            digest.update(self._meanings(located, statement.reading.references))
        return digest.digest()

    def _meanings(self, located: _LocatedModule, references: list[NameReference]) -> bytes:
        lines = []
        for reference in references:
            for target in self._targets(located, reference):
                label = target if isinstance(target, str) else self._label(self._enter(*target))
                lines.append(f"{reference.name}={label}\n")
        return "".join(lines).encode()

    def _computing_decorators(self, located: _LocatedModule, statement: Statement) -> Iterator[Statement]:
        for decorator in statement.decorators:
            subject = decorator.subject
            targets = self._targets(located, subject) if subject else []
            outside = (target for target in targets if isinstance(target, str))
            if not any(target.partition(".")[0] in _ORCHESTRATION for target in outside):
                yield decorator

    def _targets(self, located: _LocatedModule, reference: NameReference) -> list[_Target]:
        """Return the meaning of a name: symbols of first-party modules, and dotted names of anything else."""
        if reference.imported is None:
            return self._resolve(located, reference.name, reference.attributes, frozenset())
        return self._follow(located, reference.imported, reference.attributes, frozenset())

    def _resolve(
        self, located: _LocatedModule, name: str, attributes: tuple[str, ...], trail: frozenset[_Symbol]
    ) -> list[_Target]:
        if (located.name, name) in trail:
            return []
        trail |= {(located.name, name)}
        module = self._module(located)
        targets: list[_Target] = []
        if name in module.definitions:
            targets.append((located, name))
        for imported in module.imports.get(name, ()):
            targets += self._follow(located, imported, attributes, trail)
        if not targets:
            for star in module.stars:
                origin = self._first_party(_absolute(located, star))
                targets += self._resolve(origin, name, attributes, trail) if origin else []
        return targets

    def _follow(
        self, located: _LocatedModule, imported: Import, attributes: tuple[str, ...], trail: frozenset[_Symbol]
    ) -> list[_Target]:
        names = attributes if imported.name in (None, "*") else (str(imported.name), *attributes)
        return self._member(_absolute(located, imported), names, trail)

    def _member(self, module: str, names: tuple[str, ...], trail: frozenset[_Symbol]) -> list[_Target]:
        located = self._first_party(module)
        if located is None:
            return [".".join((module, *names[:1]))]
        if not names:
            return [(located, _WHOLE)]
        name, *rest = names
        targets = self._resolve(located, name, tuple(rest), trail)
        if targets:
            return targets
        if self._first_party(f"{module}.{name}"):
            return self._member(f"{module}.{name}", tuple(rest), trail)
        if located.file is None or (name.startswith("__") and name.endswith("__")):
            return [f"{module}.{name}"]
        return self._made_up(located)

    def _made_up(self, located: _LocatedModule) -> list[_Target]:
        """Return the symbols of a name that a module may generate: the module, and the modules that it mentions."""
        targets: list[_Target] = [(located, _WHOLE)]
        definitions = self._module(located).definitions
        mentioned = {name for found in definitions.values() for part in found for name in part.module_names()}
        for name in sorted(mentioned):
            dots = len(name) - len(name.lstrip("."))
            nearby = _absolute(located, Import(name.lstrip("."), None, max(dots, 1)))
            for candidate in {nearby, name} if not dots else {nearby}:
                found = self._first_party(candidate) if candidate != located.name else None
                if found is not None:
                    targets.append((found, _WHOLE))
        return targets

    def _module(self, located: _LocatedModule) -> SyntaxModule:
        module = self._modules.get(located.name)
        if module is None:
            module = self._modules[located.name] = read_module(located.file) if located.file else SyntaxModule()
        return module

    def _first_party(self, name: str) -> _LocatedModule | None:
        if name not in self._located:
            self._located[name] = self._find_first_party(name)
        return self._located[name]

    def _find_first_party(self, name: str) -> _LocatedModule | None:
        top = name.partition(".")[0]
        if not top or top in sys.stdlib_module_names:
            return None
        if top == _PLUGIN and not (self._room and f"{name}.".startswith(self._room)):
            return None
        around = name.rpartition(".")[0]
        if around and around != _PLUGIN and self._first_party(around) is None:
            return None
        located = _find(name)
        if located is None:
            return None
        paths = [Path(path) for path in (located.file, *located.folders) if path is not None]
        installed = any(part in _INSTALLED for path in paths for part in path.parts)
        return None if installed and top != self._own.name.partition(".")[0] else located


def _unwrap(function: Callable[..., Any]) -> tuple[FunctionType, list[FunctionType | type], list[str]]:
    """Return the author's function; it with all its wrappers and captured objects; and the captured values.

    The code object of a function made by `functools.wraps` has its source location, even under a copied name.
    """
    author = inspect.unwrap(function)
    if not isinstance(author, FunctionType):
        raise _no_source(author, "it was not defined by a def statement")
    links: list[FunctionType | type] = []
    values: list[str] = []
    ahead: list[Any] = [function]
    while ahead:
        link = ahead.pop()
        if link in links:
            continue
        links.append(link)
        if isinstance(link, FunctionType):
            if link.__code__.co_name == "<lambda>" and (link is author or link.__code__.co_qualname == "<lambda>"):
                raise _no_source(link, "the source of a lambda cannot be found, because it has no name")
            described, captured = captured_values(link)
            values += described
            ahead += captured
            ahead += [link.__dict__["__wrapped__"]] if "__wrapped__" in link.__dict__ else []
    return author, links, values


def _no_source(function: Any, reason: str) -> DefinitionError:
    name = getattr(function, "__qualname__", None) or f"a {type(function).__name__}"
    return DefinitionError(
        f"no code version can be computed for {name}: {reason}",
        next_step="define it with def in a file, or pass code_version= to the asset",
    )


def _locate(function: FunctionType) -> _LocatedModule:
    name = str(function.__globals__.get("__name__", ""))
    file = Path(function.__code__.co_filename)
    if not file.is_file():
        raise _no_source(function, f"its source file {file} does not exist")
    return _LocatedModule(name, file, tuple(function.__globals__.get("__path__", ())))


def _absolute(located: _LocatedModule, imported: Import) -> str:
    if not imported.level:
        return imported.module
    base = located.package.split(".")
    base = base[: len(base) - imported.level + 1]
    return ".".join((*base, imported.module)) if imported.module else ".".join(base)


def _find(name: str) -> _LocatedModule | None:
    """Find a module's file without importing it or its packages."""
    if name in sys.modules:
        # Bypass __getattr__, which would load a lazily loaded module.
        known = object.__getattribute__(sys.modules[name], "__dict__")
        if known.get("__file__") or known.get("__path__"):
            return _LocatedModule(name, _python(known.get("__file__")), tuple(known.get("__path__", ())))
    parent, _, _ = name.rpartition(".")
    try:
        if not parent:
            spec = importlib.util.find_spec(name)
        else:
            around = _find(parent)
            spec = importlib.machinery.PathFinder.find_spec(name, around.folders) if around else None
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    return _LocatedModule(name, _python(spec.origin), tuple(spec.submodule_search_locations or ()))


def _python(file: str | None) -> Path | None:
    return Path(file) if file and file.endswith(".py") else None

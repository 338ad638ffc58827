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
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from ml_assets.code_version.coverage import Coverage, CoveredModule
from ml_assets.code_version.functions import no_source
from ml_assets.code_version.references import WHOLE
from ml_assets.code_version.search import Search

__all__ = ["STORAGE_FORMAT", "Code", "code_of", "code_version", "coverage", "reached"]

STORAGE_FORMAT = 3
"""Represents this project's own code in every code version. Raise it manually when the storage format or the rules of
code versions change; this marks every asset as stale.
"""

_PART_DIGITS: Final = 12


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
    return Code(_digest(search), _parts(search))


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
    return _digest(_search(function))


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
    return _coverage(_search(function))


def _search(function: Callable[..., Any]) -> Search:
    try:
        return Search(function)
    except RecursionError as error:
        raise no_source(function, "code that it reaches, or a value that it captures, is nested too deeply") from error


def _digest(search: Search) -> str:
    parts = [f"storage format {STORAGE_FORMAT}".encode(), *(value.encode() for value in search.captured)]
    labelled = sorted((search.label(symbol), content) for symbol, content in search.found.items())
    labelled += sorted(search.data.values())
    parts += [label.encode() + b"=" + content for label, content in labelled]
    # Hash each part first, so that different lists of parts have different digests.
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _parts(search: Search) -> dict[str, str]:
    """Return the beginning of each symbol's and file's digest by its label, and of all captured values together."""
    parts = {search.label(symbol): content.hex()[:_PART_DIGITS] for symbol, content in sorted(search.found.items())}
    parts |= {label: content.hex()[:_PART_DIGITS] for label, content in sorted(search.data.values())}
    if search.captured:
        captured = hashlib.sha256(repr(search.captured).encode()).hexdigest()
        parts[":<captured values>"] = captured[:_PART_DIGITS]
    return parts


def _coverage(search: Search) -> Coverage:
    """Return the files of the symbols found, with their names and lines."""
    symbols: dict[str, set[str]] = {}
    for module, symbol in search.found:
        symbols.setdefault(module, set()).add(symbol)
    modules: dict[Path, CoveredModule] = {}
    for name, located in search.located.items():
        if located.file is None:
            continue
        found = symbols.get(name, set())
        parts = {part.lines for symbol in found for part in search.statements.get((name, symbol), ())}
        own = frozenset(symbol for symbol in found if not symbol.startswith("<"))
        modules[located.file.absolute()] = CoveredModule(name, None if WHOLE in found else own, tuple(sorted(parts)))
    return Coverage(modules, frozenset(file.absolute() for file in search.data))

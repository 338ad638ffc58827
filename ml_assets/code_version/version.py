"""The code version of an asset: a hash of its function and of the first-party code that may run with it.

::

    search.py        follows names from the function until nothing new is found
    references.py    the meaning of a name: symbols of first-party modules (located.py)
    modules.py       the statements of a file (statements.py), by the names that they bind
    reading.py       the form of a statement, its names by scope (scopes.py), and what it may alter
    effects.py       what imports do beside binding names: registrations, patches, options of libraries
    dynamic.py       what texts and namespaces lead to
    order.py         the order of statements, where it decides what a name means
    documentation.py docstrings that are used as data
    data_files.py    files that are read by a path relative to a module
    functions.py     the author's function, and the place of a captured function in its file
    captured.py      values that the function has captured
    coverage.py      the code and files that count, for comparison with what runs

Code is found by reading files, never by importing them, one symbol at a time. A function counts together with the
functions, classes, constants and imports that it names, and, recursively, those that they name, in any file. What may
run counts; what cannot be decided from the source counts rather than not.

* **First-party** is the function's own top-level package, and every module that is neither installed (below a
  ``site-packages``) nor in the standard library. Of other modules only the imported name counts; the environment
  digest covers their versions. This project's own modules count as other modules, and `STORAGE_FORMAT` covers them. The
  exception is the package below ``ml_assets`` that contains the function, such as the reference pipeline.
* **Not counted** are layout, comments, docstrings that nothing reads, the order of independent definitions, the name of
  the function's own module, names under ``if TYPE_CHECKING:``, and main blocks. A function's decorators count unless
  they come from Dagster or from this project, because those only configure where and when it runs.
* **Effects of imports.** A first-party module that reached code imports, directly or through others, brings the
  statements that act on more than a name that they bind. A statement counts if the object that it may alter is reached:
  a function that a decorator registers counts with the registry. A statement that acts on a library or the environment
  counts with every function whose imports run it.
* **Order** counts for a name that several statements bind or alter: theirs, and that of statements that read it when
  they run.
* **Dynamic access** counts the whole module: a module that is passed around, ``getattr(module, name)``, ``globals()``,
  ``eval``, ``exec``. Texts count as what they name: ``"module:function"``, ``"package.function"``, ``-m module``,
  ``@LIMIT`` in a query, module names anywhere in reached code if that imports by name. If the name of an import is
  unknown, the package around the import counts. A warning names the module once.
* **Docstrings** count if reached code reads docstrings, if a library that is not known to ignore them decorates the
  function or is given it, and for classes that inherit from such a library.
* **Captured values** of a nested function count with the whole outer function, by content: constants, containers in
  their order, arrays, frames, functions, objects by what `pickle` would store. Others are refused. What a library's
  wrapper has captured does not count, because the decorator's source does.
* **Data files** count if a path relative to a first-party module leads to them, and native libraries if they are
  imported. If a name is only known at runtime, all files of the folder count that are not Python: up to 1,000 files and
  64 MiB, beyond which a warning is logged. Folders that contain the function's package are not searched below. Paths
  relative to the working directory do not count.
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
        covered: the code and files that count; None if the author gave the version.
    """

    version: str
    parts: dict[str, str]
    covered: Coverage | None = None


def code_of(function: Callable[..., Any]) -> Code:
    """Return the code version of a function with its parts, which later show what has changed.

    Raises:
        DefinitionError: as for `code_version`.
    """
    search = _search(function)
    return Code(_digest(search), _parts(search), _coverage(search))


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

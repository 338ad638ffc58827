"""Names and digests of code and files that a code version does not cover.

A digest is taken from the source text, like a code version, so that layout and comments do not count. Only the symbol's
own statements count: functions that it calls were observed too. Names are relative to the asset's import folder, so the
digests can be taken again in another checkout.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final

from ml_assets.code_version.located import module_file
from ml_assets.code_version.modules import read_module
from ml_assets.code_version.project_files import ProjectFiles
from ml_assets.code_version.references import WHOLE
from ml_assets.code_version.search import EFFECTS
from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.provenance import Uncovered, UncoveredKind

__all__ = ["joined_code_version", "present", "symbol_at", "uncovered_files", "uncovered_symbol"]

_LARGEST_BYTES: Final = 64 * 2**20
"""Size of the content that is digested at most, so that no step reads gigabytes again."""
_MOST_FILES: Final = 20
"""Files of one folder that are named one by one."""


def symbol_at(file: Path, qualified_name: str, line: int) -> str:
    """Return the name at the top level of a file whose statement contains a code object.

    Args:
        file: the source file.
        qualified_name: ``co_qualname`` of the code object.
        line: ``co_firstlineno`` of the code object.
    """
    name = qualified_name.partition(".")[0]
    if not name.startswith("<"):
        return name
    for symbol, statements in read_module(file).definitions.items():
        if any(first <= line <= last for first, last in (statement.lines for statement in statements)):
            return symbol
    return EFFECTS


def uncovered_symbol(module: str, symbol: str, file: Path) -> Uncovered:
    """Return a symbol of a module with its digest."""
    return Uncovered(kind=UncoveredKind.CODE, name=f"{module}:{symbol}", digest=_symbol_digest(file, symbol))


def uncovered_files(project: ProjectFiles, files: Iterable[str], changing: AbstractSet[str]) -> list[Uncovered]:
    """Return files with their digests; many files of one folder as the folder.

    Args:
        project: determines the names.
        files: absolute paths.
        changing: those whose content is not what was read.
    """
    by_folder: dict[Path, list[str]] = {}
    for file in sorted(files):
        by_folder.setdefault(Path(file).parent, []).append(file)
    found: list[Uncovered] = []
    for folder, names in by_folder.items():
        if len(names) > _MOST_FILES:
            digest = None if changing & set(names) else _folder_digest(folder)
            found.append(Uncovered(kind=UncoveredKind.FOLDER, name=project.name(str(folder)), digest=digest))
            continue
        for name in names:
            digest = None if name in changing else _file_digest(Path(name))
            found.append(Uncovered(kind=UncoveredKind.FILE, name=project.name(name), digest=digest))
    return found


def present(function: Callable[..., Any], items: Iterable[Uncovered]) -> tuple[Uncovered, ...]:
    """Return the items with their current digests; None for those that no longer exist, or cannot be digested.

    Args:
        function: the asset's function.
        items: from a record of the asset.
    """
    project = ProjectFiles(function)
    return tuple(item.model_copy(update={"digest": _present_digest(project, item)}) for item in items)


def joined_code_version(code_version: str, items: Iterable[Uncovered]) -> str | None:
    """Return the code version of an asset together with what else was observed to run.

    Returns:
        The code version itself if nothing else ran. None if something has no digest: then two materializations cannot
        be called equal by their code.
    """
    digests = {f"{item.kind} {item.name}": item.digest for item in items}
    if None in digests.values():
        return None
    lines = (f"{name}={digest}" for name, digest in sorted(digests.items()))
    return hashlib.sha256("\n".join((code_version, *lines)).encode()).hexdigest() if digests else code_version


def _present_digest(project: ProjectFiles, item: Uncovered) -> str | None:
    if item.kind is UncoveredKind.FILE:
        return _file_digest(project.path(item.name))
    if item.kind is UncoveredKind.FOLDER:
        return _folder_digest(project.path(item.name))
    module, _, symbol = item.name.partition(":")
    file = module_file(module)
    return _symbol_digest(file, symbol) if file else None


def _symbol_digest(file: Path, symbol: str) -> str | None:
    try:
        module = read_module(file)
    except DefinitionError:
        return None
    if symbol == WHOLE:
        statements = [*module.statements, *module.main]
    else:
        statements = module.acting if symbol == EFFECTS else module.definitions.get(symbol, [])
        if not statements:
            return None
    digest = hashlib.sha256()
    for statement in statements:
        digest.update(statement.reading.digest)
        for decorator in statement.decorators:
            digest.update(decorator.reading.digest)
    return digest.hexdigest()


def _file_digest(file: Path) -> str | None:
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST_BYTES:
            return None
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return None


def _folder_digest(folder: Path) -> str | None:
    try:
        files = sorted((entry for entry in os.scandir(folder) if entry.is_file()), key=lambda entry: entry.name)
        if sum(entry.stat().st_size for entry in files) > _LARGEST_BYTES:
            return None
    except OSError:
        return None
    lines = (f"{entry.name}={_file_digest(Path(entry.path))}\n" for entry in files)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

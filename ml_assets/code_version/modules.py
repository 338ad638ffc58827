"""The definitions in a Python file: its statements by the names that they bind, read without running it."""

import ast
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_assets.code_version.statements import Import, Statement, bound_imports, running
from ml_assets.resources.errors import DefinitionError

__all__ = ["SyntaxModule", "read_module"]

_ASSIGNMENTS = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Delete)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass
class SyntaxModule:
    """The top level of one file, without docstrings, type-checking blocks and the main block."""

    definitions: dict[str, list[Statement]] = field(default_factory=dict)
    """The statements that bind a name, or alter the object bound to it."""
    imports: dict[str, list[Import]] = field(default_factory=dict)
    stars: list[Import] = field(default_factory=list)
    effects: list[Statement] = field(default_factory=list)
    """Statements that act on something other than a name of the file."""


_read: dict[Path, tuple[tuple[int, int], SyntaxModule]] = {}


def read_module(path: Path) -> SyntaxModule:
    """Parse a file; parse it again only if its time or size has changed.

    Raises:
        DefinitionError: the file cannot be read, or is not valid Python.
    """
    try:
        status = path.stat()
        mark = (status.st_mtime_ns, status.st_size)
        known = _read.get(path)
        if known is None or known[0] != mark:
            known = _read[path] = (mark, _parse(path))
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        raise DefinitionError(
            f"cannot read the source file {path}: {error}",
            next_step="correct the file, or pass code_version= to the asset",
        ) from error
    return known[1]


def _parse(path: Path) -> SyntaxModule:
    with tokenize.open(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(file.read())
    module = SyntaxModule()
    actions = [Statement(node) for node in running(tree.body) if not _index(module, node)]
    for action in actions:
        for name, imports in action.reading.imports.items():
            module.imports.setdefault(name, []).extend(imports)
        for name in action.reading.stores:
            module.definitions.setdefault(name, []).append(action)
    for action in actions:
        _index_action(module, action)
    return module


def _index(module: SyntaxModule, node: ast.stmt) -> bool:
    """Index a statement with obvious names and return True; return False for any other, which must be analyzed."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        for name, imported in bound_imports(node):
            if name == "*":
                module.stars.append(imported)
            else:
                module.imports.setdefault(name, []).append(imported)
        return True
    if isinstance(node, _DEFINITIONS):
        module.definitions.setdefault(node.name, []).append(Statement(node))
        return True
    return False


def _index_action(module: SyntaxModule, action: Statement) -> None:
    """Index a statement by the names that it alters, and as an effect if it alters anything else."""
    bound = action.reading.stores
    altered = set(_altered([action.node]))
    own = altered & module.definitions.keys()
    for name in sorted(own - bound):
        module.definitions[name].append(action)
    if altered - own - bound or not (bound or own or action.reading.imports):
        module.effects.append(action)


def _altered(body: Iterable[Any]) -> Iterator[str]:
    """Return the names whose objects a block alters; an empty name if the altered object is unknown."""
    for node in body:
        if isinstance(node, _ASSIGNMENTS):
            targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target]
            parts = [part for target in targets for part in ast.walk(target)]
            for part in parts:
                if isinstance(part, ast.Attribute | ast.Subscript) and not isinstance(part.ctx, ast.Load):
                    yield _root(part)
        elif isinstance(node, ast.Expr):
            method = isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute)
            yield _root(node.value) if method else ""
        elif isinstance(node, ast.Assert | ast.Raise):
            yield ""
        elif not isinstance(node, _DEFINITIONS):
            for block in ("body", "orelse", "finalbody"):
                yield from _altered(running(getattr(node, block, [])))
            for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
                yield from _altered(running(part.body))


def _root(node: ast.AST | None) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""

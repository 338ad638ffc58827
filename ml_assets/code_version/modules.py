"""The top level of a Python file: its statements by the names that they bind, read without running it."""

import ast
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_assets.code_version.reading import bound_imports, loaded, running
from ml_assets.code_version.scopes import ActKind, Import
from ml_assets.code_version.statements import Statement
from ml_assets.resources.errors import DefinitionError

__all__ = ["SyntaxModule", "read_module"]

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_PASSIVE = (*_DEFINITIONS, ast.Import, ast.ImportFrom, ast.Pass)


@dataclass
class SyntaxModule:
    """The top level of one file, without docstrings and type-checking blocks."""

    statements: list[Statement] = field(default_factory=list)
    """All statements, in the order of the file, without the main block."""
    main: list[Statement] = field(default_factory=list)
    """The statements of main blocks."""
    definitions: dict[str, list[Statement]] = field(default_factory=dict)
    """The statements that bind a name, or alter the object bound to it. Imports are among them only if the name has
    another binding too, or if the import is part of another statement."""
    imports: dict[str, list[Import]] = field(default_factory=dict)
    stars: list[tuple[Import, Statement]] = field(default_factory=list)
    loads: dict[int, list[Import]] = field(default_factory=dict)
    """The modules that each statement imports when it runs, by its position."""
    acting: list[Statement] = field(default_factory=list)
    """Statements that may act on something other than a name that they bind."""
    documentation: str | None = None
    derived: dict[Any, Any] = field(default_factory=dict)
    """What others have derived from this and other files; emptied when any file changes."""


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
            if known is not None:
                for _, module in _read.values():
                    module.derived.clear()
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
    module = SyntaxModule(documentation=ast.get_docstring(tree))
    module.statements = [Statement(node, position) for position, node in enumerate(running(tree.body))]
    blocks = [node for node in running(tree.body, main=True) if isinstance(node, ast.If)]
    known = {statement.node for statement in module.statements}
    module.main = [Statement(node, len(known)) for node in blocks if node not in known]
    for statement in module.statements:
        _bind(module, statement)
    for name in module.imports.keys() & (module.definitions.keys() | _several(module.imports)):
        _order_bindings(module, name)
    for statement in module.statements:
        if isinstance(statement.node, _PASSIVE):
            continue
        for name in _altered(module, statement):
            module.definitions[name].append(statement)
    return module


def _several(imports: dict[str, list[Import]]) -> set[str]:
    return {name for name, found in imports.items() if len(found) > 1}


def _bind(module: SyntaxModule, statement: Statement) -> None:
    """Index a statement by the names that it binds, and by what it may do beside that."""
    node = statement.node
    if isinstance(node, ast.Import | ast.ImportFrom):
        module.loads[statement.position] = loaded(node)
        for name, imported in bound_imports(node):
            if name == "*":
                module.stars.append((imported, statement))
            else:
                module.imports.setdefault(name, []).append(imported)
        return
    if isinstance(node, _DEFINITIONS):
        module.definitions.setdefault(node.name, []).append(statement)
    else:
        for name, imports in statement.reading.imports.items():
            if name == "*":
                module.stars += [(imported, statement) for imported in imports]
                continue
            module.imports.setdefault(name, []).extend(imports)
            module.definitions.setdefault(name, []).append(statement)
        for name in sorted(statement.reading.stores):
            module.definitions.setdefault(name, []).append(statement)
    if hasattr(node, "body") and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        inside = [loaded(part) for part in _executed(node) if isinstance(part, ast.Import | ast.ImportFrom)]
        if inside:
            module.loads[statement.position] = [one for found in inside for one in found]
    if _may_act(node):
        module.acting.append(statement)


def _order_bindings(module: SyntaxModule, name: str) -> None:
    """Add the import statements of a name that has several bindings to its definitions, in the order of the file."""
    found = [
        statement
        for statement in module.statements
        if isinstance(statement.node, ast.Import | ast.ImportFrom)
        and any(bound == name for bound, _ in bound_imports(statement.node))
    ]
    module.definitions[name] = sorted({*module.definitions.get(name, ()), *found}, key=lambda part: part.position)


def _altered(module: SyntaxModule, statement: Statement) -> list[str]:
    """Return the names of the file whose objects a statement alters without binding them."""
    acts = (act for act in statement.reading.acts if act.eager and act.kind in (ActKind.ALTER, ActKind.METHOD))
    altered = {act.reference.name for act in acts if act.kind is ActKind.ALTER or act.reference.attributes}
    return sorted(altered & module.definitions.keys() - statement.reading.stores)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Return the parts of a statement that run when it runs: not the bodies of functions."""
    yield node
    parts: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        parts = [*node.decorator_list, node.args]
    elif isinstance(node, ast.Lambda):
        parts = [node.args]
    for part in parts:
        yield from _executed(part)


def _may_act(node: ast.stmt) -> bool:
    """Return False for a statement that obviously only binds names."""
    if isinstance(node, _DEFINITIONS) and node.decorator_list:
        return True
    if isinstance(node, ast.ClassDef) and (node.bases or node.keywords):
        return True
    if not isinstance(node, (ast.Assign, ast.AnnAssign, *_PASSIVE)):
        return True
    return any(
        isinstance(part, ast.Call | ast.AugAssign)
        or getattr(part, "decorator_list", None)
        or (isinstance(part, ast.Attribute | ast.Subscript) and not isinstance(part.ctx, ast.Load))
        for part in _executed(node)
    )

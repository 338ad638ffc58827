"""The author's function with everything that wraps it or is captured by it."""

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from ml_assets.code_version.located import LocatedModule
from ml_assets.code_version.statements import Statement
from ml_assets.resources.errors import DefinitionError

__all__ = ["author_of", "locate", "no_source", "place_in"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def author_of(function: Callable[..., Any]) -> FunctionType:
    """Return the function that wrappers lead to.

    Raises:
        DefinitionError: it is not a function that a ``def`` statement made.
    """
    author = inspect.unwrap(function)
    if not isinstance(author, FunctionType):
        raise no_source(author, "it was not defined by a def statement")
    if author.__code__.co_name == "<lambda>":
        raise no_source(author, "the source of a lambda cannot be found, because it has no name")
    return author


def locate(function: FunctionType) -> LocatedModule:
    """Return the module of a function, which may stand under another name in ``sys.modules``.

    Raises:
        DefinitionError: its source file does not exist.
    """
    name = str(function.__globals__.get("__name__", ""))
    file = Path(function.__code__.co_filename)
    if not file.is_file():
        raise no_source(function, f"its source file {file} does not exist")
    return LocatedModule(name, file, tuple(function.__globals__.get("__path__", ())))


def no_source(function: Any, reason: str) -> DefinitionError:
    """Return the error for a function whose code version cannot be computed."""
    name = getattr(function, "__qualname__", None) or f"a {type(function).__name__}"
    return DefinitionError(
        f"no code version can be computed for {name}: {reason}",
        next_step="define it with def in a file, or pass code_version= to the asset",
    )


def place_in(statement: Statement, code: CodeType) -> int | None:
    """Return the number of a function among all functions in a statement; None if it is not in the statement.

    Several functions in one statement may have the same name, such as lambdas. Layout does not change the number.
    """
    found = [node for node in ast.walk(statement.node) if isinstance(node, _FUNCTIONS)]
    candidates = [number for number, node in enumerate(found) if _is_like(node, code)]
    if len(candidates) > 1:
        begins = {
            (line, column)
            for line, _, column, _ in code.co_positions()
            if line is not None and column is not None and line > 0
        }
        candidates = [
            number for number in candidates if any(_contains(found[number], *at) for at in begins)
        ] or candidates
    return candidates[0] if candidates else None


def _is_like(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, code: CodeType) -> bool:
    decorators = getattr(node, "decorator_list", ())
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return getattr(node, "name", "<lambda>") == code.co_name and first == code.co_firstlineno


def _contains(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, line: int, column: int) -> bool:
    body = node.body if isinstance(node, ast.Lambda) else node
    begin, end = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    return begin <= (line, column) < end

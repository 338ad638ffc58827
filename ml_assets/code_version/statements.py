"""One statement of a file, and the words that describe it."""

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ml_assets.code_version.reading import Reading
from ml_assets.code_version.scopes import NameReference, chain

__all__ = ["Statement"]

_HOOKS = {"__init_subclass__", "__set_name__", "__class_getitem__"}
_COMMAND = re.compile(r"(?:^|\s)-m\s+([\w.]+)")


@dataclass(eq=False)
class Statement:
    """A statement at the top level of a file, or a decorator of one."""

    node: ast.stmt
    position: int = 0
    """Place among the statements of the file."""

    @cached_property
    def reading(self) -> Reading:
        """The statement's digest, references and actions, without its decorators; computed on first use."""
        return Reading(self.node)

    @cached_property
    def decorators(self) -> list["Statement"]:
        """The decorators, each an expression statement."""
        found = getattr(self.node, "decorator_list", [])
        return [Statement(ast.copy_location(ast.Expr(part), part), self.position) for part in found]

    @property
    def lines(self) -> tuple[int, int]:
        """First and last line of the statement in its file, decorators included."""
        first = min([self.node.lineno, *(part.lineno for part in getattr(self.node, "decorator_list", ()))])
        return first, self.node.end_lineno or first

    @property
    def subject(self) -> NameReference | None:
        """The head of an expression statement: ``dg.asset`` of ``dg.asset(pool="gpu")``."""
        node = self.node.value if isinstance(self.node, ast.Expr) else None
        while isinstance(node, ast.Call):
            node = node.func
        return chain(node) if node is not None else None

    @property
    def is_function(self) -> bool:
        """True for a ``def``."""
        return isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef)

    @property
    def runs(self) -> bool:
        """True if the statement evaluates anything when it runs: not for constants and functions without defaults."""
        node = self.node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return bool(node.decorator_list or node.args.defaults or node.args.kw_defaults)
        return not self.is_constant

    @property
    def is_class(self) -> bool:
        """True for a ``class``."""
        return isinstance(self.node, ast.ClassDef)

    @cached_property
    def is_constant(self) -> bool:
        """True for a name set to numbers, texts or tuples of them, which nothing can alter."""
        node = self.node
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        plain = (ast.Constant, ast.Tuple, ast.UnaryOp, ast.BinOp, ast.operator, ast.unaryop, ast.expr_context)
        return value is not None and all(isinstance(part, plain) for part in ast.walk(value))

    @property
    def parents(self) -> list[NameReference]:
        """The base classes and the metaclass of a class, as far as they are names."""
        if not isinstance(self.node, ast.ClassDef):
            return []
        named = [*self.node.bases, *(part.value for part in self.node.keywords if part.arg == "metaclass")]
        heads = [part.value if isinstance(part, ast.Subscript) else part for part in named]
        return [found for part in heads if (found := chain(part))]

    @property
    def acts_on_subclasses(self) -> bool:
        """True for a class whose subclasses run code of it when they are defined."""
        body = self.node.body if isinstance(self.node, ast.ClassDef) else []
        return any(isinstance(part, ast.FunctionDef) and part.name in _HOOKS for part in body) or any(
            parent.name == "type" for parent in self.parents
        )

    @cached_property
    def commands(self) -> list[str]:
        """The modules that texts of the statement run: ``-m module``."""
        return list(self._commands()) if any("-m" in text for text in self.reading.strings) else []

    def _commands(self) -> Iterator[str]:
        for node in ast.walk(self.node):
            if isinstance(node, ast.List | ast.Tuple):
                texts = [part.value if isinstance(part, ast.Constant) else None for part in node.elts]
                for flag, module in itertools.pairwise(texts):
                    if flag == "-m" and isinstance(module, str):
                        yield module
        for text in self.reading.strings:
            yield from _COMMAND.findall(text)

"""Analysis of one statement of a file, without running it.

The statement's digest does not depend on layout, comments, docstrings or the Python version that parses it. Its
references are the names that it takes from elsewhere, as resolved by the scopes inside it.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

__all__ = ["Import", "NameReference", "Statement", "bound_imports", "running"]

_LEFT_OUT = {"ctx", "kind", "type_comment", "type_ignores"}
_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_MODULE_NAME = re.compile(r"\.*[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, slots=True)
class Import:
    """The binding of one name by an import: a module (``name`` is None), or a member of it."""

    module: str
    name: str | None = None
    level: int = 0
    """Leading dots of a relative import."""


@dataclass(frozen=True, slots=True)
class NameReference:
    """A name that a statement takes from elsewhere, with the chain of attributes that it reads from it."""

    name: str
    attributes: tuple[str, ...] = ()
    imported: Import | None = None
    """The import inside the statement that binds the name; None for a name of the module."""


@dataclass
class Statement:
    """A statement at the top level of a file, or a decorator of one."""

    node: ast.stmt

    @cached_property
    def reading(self) -> "_Reading":
        """The statement's digest and references, without its decorators; computed on first use."""
        return _Reading(self.node)

    @cached_property
    def decorators(self) -> list["Statement"]:
        """The decorators, each an expression statement."""
        return [Statement(ast.Expr(decorator)) for decorator in getattr(self.node, "decorator_list", [])]

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
        return _chain(node) if node is not None else None

    def module_names(self) -> Iterator[str]:
        """Strings in the form of a module name, such as those in the table of a lazy ``__init__``."""
        for node in ast.walk(self.node):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE_NAME.fullmatch(node.value):
                yield node.value


def running(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Return a block's statements that can affect results: no docstring, type-checking or main block."""
    for node in body:
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            yield from running(node.orelse)
        elif not (_is_documentation(node) or (isinstance(node, ast.If) and _is_main(node.test))):
            yield node


def _is_documentation(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_type_checking(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))


def _is_main(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__"


def bound_imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Import]]:
    """Return the names that an import statement binds; ``*`` for all names of a module."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, Import(node.module or "", alias.name, node.level)
        elif alias.asname:
            yield alias.asname, Import(alias.name)
        else:
            top = alias.name.partition(".")[0]
            yield top, Import(top)


def _chain(node: ast.AST) -> NameReference | None:
    """Return the name and the attributes read from it, if the expression has this form."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return NameReference(node.id, tuple(reversed(attributes))) if isinstance(node, ast.Name) else None


class _Scope:
    """The names of a function, class or comprehension during the analysis."""

    def __init__(self, parent: "_Scope | None", kind: str = "function") -> None:
        self.parent = parent
        self.kind = kind
        self.loads: set[NameReference] = set()
        self.stores: set[str] = set()
        self.imports: dict[str, list[Import]] = {}
        self.outer: set[str] = set()

    def store(self, name: str, *, walrus: bool = False) -> None:
        scope = self
        while walrus and scope.kind == "comprehension" and scope.parent:
            scope = scope.parent
        scope.stores.add(name)

    def unbound(self) -> Iterator[NameReference]:
        """Return the names that the scope takes from outside, with its own imports resolved.

        Names bound in a class body are not visible in its methods, so they do not hide outer names.
        """
        imports = {name: found for name, found in self.imports.items() if name not in self.outer}
        hidden = self.stores - self.outer if self.kind != "class" else set()
        for load in self.loads:
            if load.imported is None and load.name in imports:
                yield from (NameReference(load.name, load.attributes, found) for found in imports[load.name])
            elif load.imported is not None or load.name not in hidden:
                yield load
        for name in imports.keys() - {load.name for load in self.loads}:
            yield from (NameReference(name, (), found) for found in imports[name])


class _Reading:
    """One pass over a statement's tree: its form, which is hashed, and the names that it uses and binds."""

    def __init__(self, node: ast.stmt) -> None:
        self._form: list[str] = []
        self._scope = _Scope(None)
        self._in_annotation = False
        if isinstance(node, _DEFINITIONS):
            self._define(node)
        else:
            self._visit(node)
        self.digest = hashlib.sha256("".join(self._form).encode("utf-8", "surrogatepass")).digest()
        self.references = sorted(self._scope.loads, key=repr)
        self.stores = self._scope.stores
        self.imports = self._scope.imports
        del self._form

    def _visit(self, node: ast.AST) -> None:
        read = _READERS.get(type(node))
        if read is None:
            self._generic(node)
        else:
            read(self, node)

    def _generic(self, node: ast.AST, *, without: str = "") -> None:
        kind = type(node)
        fields = _FIELDS.get(kind)
        if fields is None:
            fields = _FIELDS[kind] = tuple(name for name in kind._fields if name not in _LEFT_OUT)
        form = self._form
        form.append(kind.__name__)
        form.append("(")
        for name in fields:
            value = getattr(node, name, None)
            # A field added by a newer Python version is empty in code that older versions can parse.
            if value is None or value == [] or name == without:
                continue
            form.append(name)
            if name in ("annotation", "returns"):
                self._annotation(value)
            else:
                self._value(value)
        form.append(")")

    def _value(self, value: Any) -> None:
        if isinstance(value, ast.AST):
            self._visit(value)
        elif isinstance(value, list):
            self._form.append("[")
            if value and isinstance(value[0], ast.stmt):
                value = running(value)
            for item in value:
                self._value(item)
            self._form.append("]")
        else:
            self._form.append(ascii(value) + ",")

    def _annotation(self, node: ast.expr) -> None:
        was, self._in_annotation = self._in_annotation, True
        self._visit(node)
        self._in_annotation = was

    def _name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._scope.loads.add(NameReference(node.id))
        else:
            self._scope.store(node.id)
        self._form.append(f"Name({node.id})")

    def _attribute(self, node: ast.Attribute) -> None:
        chain = _chain(node)
        if chain is None:
            self._generic(node)
        else:
            self._scope.loads.add(chain)
            self._form.append(f"Name({'.'.join((chain.name, *chain.attributes))})")

    def _constant(self, node: ast.Constant) -> None:
        value = node.value
        # Use ascii(), because the characters that repr() escapes depend on Python's Unicode tables.
        self._form.append(hex(value) + "," if type(value) is int else ascii(value) + ",")
        if self._in_annotation and isinstance(value, str) and len(value) < 200:
            try:
                names = ast.walk(ast.parse(value, mode="eval"))
            except (SyntaxError, ValueError):
                return
            self._scope.loads.update(NameReference(name.id) for name in names if isinstance(name, ast.Name))

    def _joined(self, node: ast.JoinedStr) -> None:
        """Hash an f-string, whose literal parts are split differently by different Python versions."""
        text = ""
        self._form.append("JoinedStr(")
        for part in node.values:
            if isinstance(part, ast.Constant):
                text += str(part.value)
            else:
                self._form.append(ascii(text))
                text = ""
                self._visit(part)
        self._form.append(ascii(text) + ")")

    def _call(self, node: ast.Call) -> None:
        subject = _chain(node.func)
        if subject and (subject.attributes or (subject.name,))[-1] in ("import_module", "__import__"):
            named = node.args[0] if node.args else None
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                module = named.value.lstrip(".")
                self._scope.loads.add(NameReference(module, (), Import(module, None, len(named.value) - len(module))))
        self._generic(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for name, imported in bound_imports(node):
            self._scope.imports.setdefault(name, []).append(imported)
        self._generic(node)

    def _declare(self, node: ast.Global | ast.Nonlocal) -> None:
        self._scope.outer.update(node.names)
        self._scope.loads.update(NameReference(name) for name in node.names)
        self._generic(node)

    def _capture(self, node: ast.ExceptHandler | ast.MatchAs | ast.MatchStar | ast.MatchMapping) -> None:
        name = node.rest if isinstance(node, ast.MatchMapping) else node.name
        if name:
            self._scope.store(name)
        self._generic(node)

    def _walrus(self, node: ast.NamedExpr) -> None:
        self._scope.store(node.target.id, walrus=True)
        self._form.append(f"NamedExpr({node.target.id},")
        self._visit(node.value)
        self._form.append(")")

    def _nested(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._scope.store(node.name)
        self._value(node.decorator_list)
        self._define(node)

    def _define(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._form.append(f"{type(node).__name__}({node.name},")
        for value in getattr(node, "type_params", []):
            self._visit(value)
        if isinstance(node, ast.ClassDef):
            self._value(node.bases)
            self._value(node.keywords)
        else:
            self._visit(node.args)
            if node.returns:
                self._form.append("returns")
                self._annotation(node.returns)
        self._enter("class" if isinstance(node, ast.ClassDef) else "function", node)
        self._value(node.body)
        self._leave()

    def _lambda(self, node: ast.Lambda) -> None:
        self._form.append("Lambda(")
        self._visit(node.args)
        self._enter("function", node)
        self._visit(node.body)
        self._leave()

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self._form.append(type(node).__name__ + "(")
        first, *others = node.generators
        # The first iterable belongs to the enclosing scope.
        self._visit(first.iter)
        self._enter("comprehension", node)
        self._generic(first, without="iter")
        self._value(others)
        self._value([node.key, node.value] if isinstance(node, ast.DictComp) else node.elt)
        self._leave()

    def _enter(self, kind: str, node: ast.AST) -> None:
        self._scope = _Scope(self._scope, kind)
        arguments = getattr(node, "args", None)
        if isinstance(arguments, ast.arguments):
            named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            self._scope.stores.update(argument.arg for argument in named if argument)

    def _leave(self) -> None:
        inner = self._scope
        assert inner.parent is not None  # noqa: S101 - every entered scope has a parent
        self._scope = inner.parent
        self._scope.loads.update(inner.unbound())
        self._form.append(")")


_READERS: dict[type[ast.AST], Any] = {
    ast.Name: _Reading._name,
    ast.Attribute: _Reading._attribute,
    ast.Constant: _Reading._constant,
    ast.JoinedStr: _Reading._joined,
    ast.Call: _Reading._call,
    ast.NamedExpr: _Reading._walrus,
    ast.Lambda: _Reading._lambda,
    **dict.fromkeys((ast.Import, ast.ImportFrom), _Reading._import),
    **dict.fromkeys((ast.Global, ast.Nonlocal), _Reading._declare),
    **dict.fromkeys((ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping), _Reading._capture),
    **dict.fromkeys(_DEFINITIONS, _Reading._nested),
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), _Reading._comprehension),
}

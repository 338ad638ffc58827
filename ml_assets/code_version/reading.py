"""One pass over a statement's tree, without running it: its form, the names that it uses, and what it may alter.

The digest does not depend on layout, comments, docstrings or the Python version that parses it. References are the
names that the statement takes from elsewhere, as resolved by the scopes inside it.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from typing import Any

from ml_assets.code_version.scopes import Act, ActKind, Import, NameReference, NameScope, chain, root

__all__ = ["Reading", "alters_by_name", "bound_imports", "loaded", "running"]

_LEFT_OUT = {"ctx", "kind", "type_comment", "type_ignores"}
_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_ALTERING = re.compile(
    r"_*((append|insert|extend|update|register|remove|subscribe|connect|attach|install|include|patch|discard|enable"
    r"|disable|configure|setdefault|set[a-z]*err|__i\w+__|__(set|del)\w+__|basicConfig|filterwarnings|simplefilter)"
    r"|(add|set|put|pop|push|bind|hook|on|use|seed|clear|sort|reverse|fill|write|chdir|init|popitem|popleft)(_\w+)?$)"
)


def alters_by_name(method: str) -> bool:
    """Return True if the name of a method says that it alters something."""
    return _ALTERING.match(method) is not None


def running(body: list[ast.stmt], *, main: bool = False) -> Iterator[ast.stmt]:
    """Return a block's statements that can affect results: no docstring, type-checking or main block.

    Args:
        main: include main blocks.
    """
    for node in body:
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            yield from running(node.orelse, main=main)
        elif not (_is_documentation(node) or (not main and isinstance(node, ast.If) and _is_main(node.test))):
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


def loaded(node: ast.Import | ast.ImportFrom) -> list[Import]:
    """Return the modules that an import statement loads; with ``name`` set if that member may be a module."""
    if isinstance(node, ast.Import):
        return [Import(alias.name) for alias in node.names]
    return [Import(node.module or "", alias.name, node.level) for alias in node.names]


class Reading:
    """A statement's digest, references and acts.

    Attributes:
        acts: what the statement may alter outside of its functions' own variables.
        alters_parameters: True if a function in the statement may alter what it is given.
        names: all variables that it reads or binds.
        attributes: all attributes that it reads or binds.
        strings: the texts in it, without docstrings; of an f-string, its literal parts.
        docs: the docstrings in it.
        documented: decorators and base classes of the functions and classes in it.
        handed: pairs of a call's subject and an argument of it.
        loads: modules that it imports.
    """

    def __init__(self, node: ast.stmt) -> None:
        self._form: list[str] = []
        self._scope = NameScope()
        self._in_annotation = False
        self._deferred = 0
        self.alters_parameters = False
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.strings: list[str] = []
        self.docs: list[str] = []
        self.documented: list[NameReference] = []
        self.handed: list[tuple[NameReference, NameReference]] = []
        self.loads: list[Import] = []
        if isinstance(node, _DEFINITIONS):
            self._define(node)
        else:
            self._visit(node)
        self.digest = hashlib.sha256("".join(self._form).encode("utf-8", "surrogatepass")).digest()
        self.references = sorted(self._scope.loads, key=repr)
        self.stores = self._scope.stores
        self.imports = self._scope.imports
        self.acts = sorted(self._scope.acts, key=repr)
        del self._form, self._scope

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

    def _act(self, kind: ActKind, reference: NameReference) -> None:
        self._scope.acts.add(Act(kind, reference, not self._deferred))

    def _name(self, node: ast.Name) -> None:
        self.names.add(node.id)
        if isinstance(node.ctx, ast.Load):
            self._scope.loads.add(NameReference(node.id))
        else:
            self._scope.store(node.id)
        self._form.append(f"Name({node.id})")

    def _attribute(self, node: ast.Attribute) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._act(ActKind.ALTER, root(node))
        found = chain(node)
        if found is None:
            self.attributes.add(node.attr)
            self._generic(node)
        else:
            self.names.add(found.name)
            self.attributes.update(found.attributes)
            self._scope.loads.add(found)
            self._form.append(f"Name({'.'.join((found.name, *found.attributes))})")

    def _subscript(self, node: ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._act(ActKind.ALTER, root(node))
        self._generic(node)

    def _assign(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> None:
        targets: list[ast.expr] = node.targets if isinstance(node, ast.Assign) else [node.target]
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            self._act(ActKind.ALTER, NameReference(node.target.id))
        elif node.value is not None:
            self._alias(targets, node.value)
        self._generic(node)

    def _loop(self, node: ast.For | ast.AsyncFor) -> None:
        self._alias([node.target], node.iter, elements=True)
        self._generic(node)

    def _with_item(self, node: ast.withitem) -> None:
        if node.optional_vars is not None:
            self._alias([node.optional_vars], node.context_expr)
        self._generic(node)

    def _alias(self, targets: list[ast.expr], value: ast.expr, *, elements: bool = False) -> None:
        """Record that names of a function may stand for (elements of) objects that have another name."""
        if self._scope.parent is None:
            return
        found = {root(value)}
        if elements or isinstance(value, ast.BoolOp | ast.IfExp | ast.Tuple):
            found |= {root(part) for part in ast.walk(value) if isinstance(part, ast.Name | ast.Attribute)}
        parts = [part for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
        for name in (part.id for part in parts if not isinstance(part.ctx, ast.Load)):
            self._scope.aliases.setdefault(name, set()).update(each for each in found if each.name not in ("", name))

    def _expression(self, node: ast.Expr) -> None:
        """Record a call whose result is not used, as it can only have been made for its effect."""
        call = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(call, ast.Call):
            found = chain(call.func)
            self._act(*((ActKind.METHOD, found) if found else (ActKind.ALTER, root(call))))
        for part in ast.walk(call) if not isinstance(call, ast.Call) else ():
            if isinstance(part, ast.Call):
                self._act(ActKind.METHOD if chain(part.func) else ActKind.ALTER, root(part.func))
        self._generic(node)

    def _constant(self, node: ast.Constant) -> None:
        value = node.value
        self.strings += [value] if isinstance(value, str) else []
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
                self.strings.append(str(part.value))
            else:
                self._form.append(ascii(text))
                text = ""
                self._visit(part)
        self._form.append(ascii(text) + ")")

    def _call(self, node: ast.Call) -> None:
        subject = chain(node.func)
        called = node.func.attr if isinstance(node.func, ast.Attribute) else subject.name if subject else ""
        named = node.args[0] if node.args else None
        if called in ("import_module", "__import__") and isinstance(named, ast.Constant):
            module = str(named.value).lstrip(".")
            self._scope.loads.add(NameReference(module, (), Import(module, None, len(str(named.value)) - len(module))))
        if called in ("setattr", "delattr") and named is not None:
            self._act(ActKind.ALTER, _attribute_of(named, node.args[1] if len(node.args) > 1 else None))
        elif subject:
            self._act(ActKind.CALL, subject)
            if subject.attributes and alters_by_name(called):
                self._act(ActKind.METHOD, subject)
        elif isinstance(node.func, ast.Attribute) and alters_by_name(called):
            self._act(ActKind.ALTER, root(node.func))
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            for part in argument.elts if isinstance(argument, ast.List | ast.Tuple | ast.Set) else [argument]:
                passed = chain(part)
                if passed:
                    self._act(ActKind.ARGUMENT, passed)
                    self.handed += [(subject, passed)] if subject else []
        self._generic(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for name, imported in bound_imports(node):
            self._scope.imports.setdefault(name, []).append(imported)
        self.loads += loaded(node)
        self._generic(node)

    def _declare(self, node: ast.Global | ast.Nonlocal) -> None:
        self._scope.outer.update(node.names)
        self._scope.loads.update(NameReference(name) for name in node.names)
        if isinstance(node, ast.Global):
            for name in node.names:
                self._act(ActKind.ALTER, NameReference(name))
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
        self.documented += [root(decorator) for decorator in node.decorator_list]
        for decorator in node.decorator_list:
            self._act(ActKind.CALL, root(decorator))
        self._define(node)

    def _define(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._form.append(f"{type(node).__name__}({node.name},")
        documentation = ast.get_docstring(node)
        self.docs += [documentation] if documentation is not None else []
        for value in getattr(node, "type_params", []):
            self._visit(value)
        if isinstance(node, ast.ClassDef):
            self.documented += [root(base) for base in node.bases]
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
        for generator in node.generators:
            self._alias([generator.target], generator.iter, elements=True)
        self._generic(first, without="iter")
        self._value(others)
        self._value([node.key, node.value] if isinstance(node, ast.DictComp) else node.elt)
        self._leave()

    def _enter(self, kind: str, node: ast.AST) -> None:
        self._scope = NameScope(self._scope, kind)
        self._deferred += kind == "function"
        arguments = getattr(node, "args", None)
        if isinstance(arguments, ast.arguments):
            named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            self._scope.parameters = {argument.arg for argument in named if argument}
            self._scope.stores |= self._scope.parameters

    def _leave(self) -> None:
        inner = self._scope
        assert inner.parent is not None  # noqa: S101 - every entered scope has a parent
        self._scope = inner.parent
        self._deferred -= inner.kind == "function"
        self._scope.loads.update(inner.unbound())
        acts, alters_parameters = inner.outer_acts()
        self._scope.acts |= acts
        self.alters_parameters |= alters_parameters
        self._form.append(")")


def _attribute_of(node: ast.expr, name: ast.expr | None) -> NameReference:
    """Return the attribute that ``setattr`` alters; ``__dict__`` if its name is computed."""
    found = root(node)
    known = isinstance(name, ast.Constant) and isinstance(name.value, str) and chain(node) is not None
    attribute = str(name.value) if known and isinstance(name, ast.Constant) else "__dict__"
    return NameReference(found.name, (*found.attributes, attribute))


_READERS: dict[type[ast.AST], Any] = {
    ast.Name: Reading._name,
    ast.Attribute: Reading._attribute,
    ast.Subscript: Reading._subscript,
    ast.Expr: Reading._expression,
    ast.withitem: Reading._with_item,
    **dict.fromkeys((ast.Assign, ast.AnnAssign, ast.AugAssign), Reading._assign),
    **dict.fromkeys((ast.For, ast.AsyncFor), Reading._loop),
    ast.Constant: Reading._constant,
    ast.JoinedStr: Reading._joined,
    ast.Call: Reading._call,
    ast.NamedExpr: Reading._walrus,
    ast.Lambda: Reading._lambda,
    **dict.fromkeys((ast.Import, ast.ImportFrom), Reading._import),
    **dict.fromkeys((ast.Global, ast.Nonlocal), Reading._declare),
    **dict.fromkeys((ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping), Reading._capture),
    **dict.fromkeys(_DEFINITIONS, Reading._nested),
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), Reading._comprehension),
}

"""Symbols that code reaches by texts and by access to namespaces, without naming them."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ml_assets.code_version.located import LocatedModule, absolute
from ml_assets.code_version.references import WHOLE, Meaning, References
from ml_assets.code_version.scopes import Import, NameReference
from ml_assets.code_version.statements import Statement

__all__ = ["MAIN", "Dynamic", "Importer", "opens_namespace", "queries", "reads_documentation", "reads_subclasses"]

MAIN: Final = "<main>"
"""Stands for all statements of a module that is run as a program, main block included."""

_IMPORTERS = {
    "importlib.import_module",
    "importlib.__import__",
    "runpy.run_module",
    "pkgutil.resolve_name",
    "pkgutil.walk_packages",
    "pkgutil.iter_modules",
    "sys.modules",
}
_LISTING = {"walk_packages", "iter_modules", "glob", "iglob", "rglob", "listdir", "scandir", "iterdir"}
_NAMESPACES = {"globals", "eval", "exec"}
_NAMESPACE_ATTRIBUTES = {"f_globals", "__globals__", "_getframe", "currentframe"}
_QUERIES = {"query", "eval"}
_PLAIN_QUERIES = {"evaluate", "sql", "sqldf", "execute"}
_WORD = re.compile(r"[^\W\d]\w*")
_VARIABLE = re.compile(r"@([^\W\d]\w*)")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_NAMED = re.compile(r"[^\W\d][\w.]*(\.|:)[\w.]*\w")


def opens_namespace(statement: Statement) -> bool:
    """Return True if the statement may use any name of its module: by ``globals()``, ``eval`` or a frame."""
    reading = statement.reading
    return bool(
        _NAMESPACES & reading.names
        or _NAMESPACE_ATTRIBUTES & reading.attributes
        or ("sys" in reading.names and "modules" in reading.attributes)
    )


def reads_subclasses(statement: Statement) -> bool:
    """Return True if the statement asks a class for its subclasses."""
    return "__subclasses__" in statement.reading.attributes


def reads_documentation(statement: Statement) -> bool:
    """Return True if the statement reads docstrings."""
    reading = statement.reading
    words = reading.attributes | reading.names | set(reading.strings)
    return not {"__doc__", "getdoc", "model_json_schema", "json_schema"}.isdisjoint(words)


def queries(statement: Statement) -> bool:
    """Return True if the statement may evaluate a text that names variables: ``df.query("a > @LIMIT")``."""
    return not _QUERIES.isdisjoint(statement.reading.attributes)


@dataclass(frozen=True)
class Importer:
    """A statement that imports modules by their names.

    Attributes:
        strict: True if it imports something in any case.
        listing: True if it imports what a folder contains.
        runs: True if it may run a module as a program.
    """

    located: LocatedModule
    statement: Statement
    strict: bool
    listing: bool
    runs: bool


class Dynamic:
    """Finds what texts and namespaces in a statement lead to.

    Args:
        references: finds the meaning of names.
    """

    def __init__(self, references: References) -> None:
        self._references = references

    def named_by_text(self, located: LocatedModule, statement: Statement) -> Iterator[Meaning]:
        """Return what texts name: ``"module:symbol"``, ``"package.symbol"``, ``-m module``, variables in queries."""
        reading = statement.reading
        for text in reading.strings:
            if len(text) < 200 and _NAMED.fullmatch(text):
                target = self._references.named(text)
                if target is not None:
                    yield target
        for name in statement.commands:
            yield from self.program(name)
        words = reading.attributes | reading.names
        if _QUERIES & words:
            yield from self.named_by_query(located, reading.strings)
        if _PLAIN_QUERIES & words:
            known = self._references.module(located)
            plain = {word for text in reading.strings for word in _WORD.findall(text)}
            for word in sorted(plain & (known.definitions.keys() | known.imports.keys())):
                named = self._references.targets(located, NameReference(word))
                yield from (target for target in named if isinstance(target, Meaning) and self._is_data(target))

    def _is_data(self, target: Meaning) -> bool:
        parts = self._references.statements(target)
        return bool(parts) and not any(part.is_function or part.is_class for part in parts)

    def named_by_query(self, located: LocatedModule, texts: Iterable[str]) -> Iterator[Meaning]:
        """Return the variables of a module that texts name as ``@LIMIT``."""
        for word in sorted({word for text in texts for word in _VARIABLE.findall(text)}):
            found = self._references.targets(located, NameReference(word))
            yield from (target for target in found if isinstance(target, Meaning))

    def program(self, name: str) -> Iterator[Meaning]:
        """Return a module as ``python -m`` runs it."""
        located = self._references.first_party.find(name)
        if located is not None and located.folders:
            yield Meaning(located, WHOLE)
            located = self._references.first_party.find(f"{name}.__main__")
        if located is not None:
            yield Meaning(located, MAIN)

    def importer(self, located: LocatedModule, statement: Statement) -> Importer | None:
        """Return the statement as an importer; None if it does not import modules by names."""
        reading = statement.reading
        outside = {
            target
            for reference in reading.references
            for target in self._references.targets(located, reference)
            if isinstance(target, str)
        }
        called = outside & _IMPORTERS
        strict = bool(called - {"sys.modules"}) or "__import__" in reading.names
        if not strict and not called and "-m" not in reading.strings:
            return None
        listing = strict and not _LISTING.isdisjoint(reading.attributes | reading.names)
        constant = any(part.imported and part.name == part.imported.module for part in reading.references)
        runs = "runpy.run_module" in called or "-m" in reading.strings
        return Importer(located, statement, strict and not constant, listing, runs)

    def imported_by_name(self, importers: list[Importer], texts: Iterable[str]) -> tuple[list[Meaning], list[str]]:
        """Return the modules that importers by name may import.

        These are the modules that a text anywhere in the reached code names, and those whose name begins like a text
        that an importer completes. If there are none, or if the importer lists a folder, all modules of the package
        around it count.

        Returns:
            The modules; and the names of the importers' modules for which a whole package counts.
        """
        runs = any(importer.runs for importer in importers)
        named: list[Meaning] = []
        for text in texts:
            target = self._references.named(text) if _MODULE.fullmatch(text) else None
            if target is not None:
                named += [target, *(self.program(text) if runs else ())]
        whole = []
        for importer in importers:
            located = importer.located
            begun = [module for prefix in _prefixes(importer.statement) for module in self._begun(importer, prefix)]
            if importer.listing or (importer.strict and not begun and not named):
                begun += self._references.first_party.below(located, "")
                whole.append(located.name)
            named += [Meaning(module, WHOLE) for module in begun]
        return named, whole

    def _begun(self, importer: Importer, prefix: str) -> list[LocatedModule]:
        """Return the modules whose name begins with a text."""
        first_party = self._references.first_party
        package, _, beginning = prefix.rpartition(".")
        if prefix.startswith("."):
            around = [absolute(importer.located, Import("", None, len(package) + 1 - len(package.lstrip("."))))]
            around += [text for text in importer.statement.reading.strings if text.isidentifier()]
            below = package.lstrip(".")
            packages = [f"{name}.{below}" if below else name for name in around]
        elif package:
            packages = [package]
        else:
            top = LocatedModule("", importer.located.file)
            return first_party.below(top, beginning) if beginning else []
        found = [first_party.find(name) for name in packages]
        return [part for module in found if module is not None for part in first_party.below(module, beginning)]


def _prefixes(statement: Statement) -> Iterator[str]:
    """Return the constant beginnings of computed texts: ``plug_`` of ``f"plug_{name}"`` or ``"plug_" + name``.

    The name of the module itself is a dot: ``.`` of ``f"{__name__}.{name}"``.
    """
    for node in ast.walk(statement.node):
        parts: list[ast.AST] = []
        if isinstance(node, ast.JoinedStr) and len(node.values) > 1:
            parts = [part.value if isinstance(part, ast.FormattedValue) else part for part in node.values]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            parts = [node.left.left, node.left.right] if isinstance(node.left, ast.BinOp) else [node.left]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            parts = [node.left]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
            parts = [node.func.value]
        match parts:
            case [ast.Constant(value=str(text)), *_]:
                yield re.split(r"[%{]", text)[0]
            case [ast.Name(id="__name__" | "__package__"), ast.Constant(value=str(text)), *_] if text[:1] == ".":
                yield text

"""Symbols that code reaches by texts and by access to namespaces, without naming them."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from ml_assets.code_version.located import LocatedModule, absolute
from ml_assets.code_version.references import WHOLE, References, Target
from ml_assets.code_version.scopes import Import, NameReference
from ml_assets.code_version.statements import Statement

__all__ = ["IMPORTERS", "MAIN", "Dynamic", "reads_documentation", "reads_subclasses"]

MAIN: Final = "<main>"
"""Stands for all statements of a module that is run as a program, main block included."""

IMPORTERS: Final = {
    "importlib.import_module",
    "importlib.__import__",
    "runpy.run_module",
    "runpy.run_path",
    "pkgutil.resolve_name",
    "pkgutil.walk_packages",
    "pkgutil.iter_modules",
}
"""Functions that import a module by its name."""

_NAMESPACES = {"globals", "eval", "exec"}
_NAMESPACE_ATTRIBUTES = {"f_globals", "__globals__", "_getframe", "currentframe"}
_QUERIES = {"query", "eval", "evaluate", "sql", "sqldf", "execute"}
_WORD = re.compile(r"[^\W\d]\w*")
_VARIABLE = re.compile(r"@([^\W\d]\w*)")
_NAMED = re.compile(r"[^\W\d][\w.]*(\.|:)[\w.]*\w")


class Dynamic:
    """Finds what texts and namespaces in a statement lead to.

    Args:
        references: finds the meaning of names.
    """

    def __init__(self, references: References) -> None:
        self._references = references

    def opens_namespace(self, statement: Statement) -> bool:
        """Return True if the statement may use any name of its module: by ``globals()``, ``eval`` or a frame."""
        reading = statement.reading
        return bool(
            _NAMESPACES & reading.names
            or _NAMESPACE_ATTRIBUTES & reading.attributes
            or ("sys" in reading.names and "modules" in reading.attributes)
        )

    def named_by_text(self, located: LocatedModule, statement: Statement) -> Iterator[Target]:
        """Return what texts name: ``"module:symbol"``, ``"package.symbol"``, ``-m module``, variables in queries."""
        reading = statement.reading
        for text in reading.strings:
            if len(text) < 200 and _NAMED.fullmatch(text):
                target = self._references.named(text)
                if target is not None:
                    yield target
        for module in statement.commands:
            yield from self.program(module)
        if _QUERIES & (reading.attributes | reading.names):
            module = self._references.module(located)
            words = {word for text in reading.strings for word in _WORD.findall(text)}
            for word in sorted(words & (module.definitions.keys() | module.imports.keys())):
                found = self._references.targets(located, NameReference(word))
                yield from (target for target in found if isinstance(target, Target))

    def queries(self, statement: Statement) -> bool:
        """Return True if the statement may evaluate a text that names variables: ``df.query("a > @LIMIT")``."""
        return not _QUERIES.isdisjoint(statement.reading.attributes)

    def named_by_query(self, located: LocatedModule, texts: Iterable[str]) -> Iterator[Target]:
        """Return the variables of a module that texts elsewhere name as ``@LIMIT``."""
        for word in sorted({word for text in texts for word in _VARIABLE.findall(text)}):
            found = self._references.targets(located, NameReference(word))
            yield from (target for target in found if isinstance(target, Target))

    def program(self, name: str) -> Iterator[Target]:
        """Return a module and its main block, as ``python -m`` runs them."""
        located = self._references.first_party.find(name)
        if located is not None and located.folders:
            yield Target(located, WHOLE)
            located = self._references.first_party.find(f"{name}.__main__")
        if located is not None:
            yield Target(located, MAIN)

    def imported_by_name(
        self, importers: Iterable[tuple[LocatedModule, Statement]], texts: Iterable[str]
    ) -> tuple[list[Target], list[LocatedModule]]:
        """Return the modules that importers by name may import.

        These are the modules that a text anywhere in the reached code names, and those whose name begins like a text
        that an importer completes.

        Returns:
            The modules; and the modules of importers for which neither is known.
        """
        named: list[Target] = []
        for text in texts:
            if text.isidentifier() or (text.startswith(".") and text.strip(".")):
                target = self._references.named(text) if not text.startswith(".") else None
                named += self.program(text) if target is not None else ()
                named += [target] if target is not None else []
        unknown = []
        for located, statement in importers:
            begun = [module for prefix in statement.prefixes() for module in self._begun(located, prefix)]
            named += [Target(module, WHOLE) for module in begun]
            if not begun and not named and not _has_constant(statement):
                unknown.append(located)
        return named, unknown

    def everything_near(self, located: LocatedModule) -> list[Target]:
        """Return all modules of the package of a module."""
        return [Target(module, WHOLE) for module in self._references.first_party.below(located, "")]

    def _begun(self, located: LocatedModule, prefix: str) -> list[LocatedModule]:
        first_party = self._references.first_party
        if prefix.startswith("."):
            dots = len(prefix) - len(prefix.lstrip("."))
            prefix = f"{absolute(located, Import('', None, dots))}.{prefix.lstrip('.')}"
        package, _, beginning = prefix.rpartition(".")
        if package:
            found = first_party.find(package)
            return first_party.below(found, beginning) if found is not None else []
        top = LocatedModule("", located.file) if beginning else None
        return first_party.below(top, beginning) if top is not None else []


def _has_constant(statement: Statement) -> bool:
    return any(
        reference.imported and reference.name == reference.imported.module for reference in statement.reading.references
    )


def reads_subclasses(statement: Statement) -> bool:
    """Return True if the statement asks a class for its subclasses."""
    return "__subclasses__" in statement.reading.attributes


def reads_documentation(statement: Statement) -> bool:
    """Return True if the statement reads docstrings."""
    reading = statement.reading
    return not {"__doc__", "getdoc", "model_json_schema", "json_schema"}.isdisjoint(reading.attributes | reading.names)

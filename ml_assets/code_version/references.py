"""The meaning of a name: symbols of first-party modules, and dotted names of anything else."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from ml_assets.code_version.located import FirstParty, LocatedModule, absolute
from ml_assets.code_version.modules import SyntaxModule, read_module
from ml_assets.code_version.scopes import Import, NameReference
from ml_assets.code_version.statements import Statement

__all__ = ["WHOLE", "Meaning", "References", "Symbol"]

WHOLE = "*"
"""Stands for all symbols of a module."""

_PLAIN_ATTRIBUTES = {"__name__", "__file__", "__doc__", "__path__", "__package__", "__spec__", "__loader__", "__all__"}
_PLAIN_ATTRIBUTES |= {"__version__"}
_MODULE_NAME = re.compile(r"\.*[^\W\d]\w*(\.[^\W\d]\w*)*")

Symbol = tuple[str, str]
"""A module's name and a symbol in it."""


class Meaning(NamedTuple):
    """A symbol of a first-party module that a reference leads to."""

    located: LocatedModule
    name: str
    attributes: tuple[str, ...] = ()
    """The attributes that the reference reads from the symbol."""

    @property
    def symbol(self) -> Symbol:
        """The symbol without the attributes."""
        return self.located.name, self.name


class References:
    """Finds the symbols that names lead to, through imports, star imports and packages that load lazily."""

    def __init__(self, first_party: FirstParty) -> None:
        self.first_party = first_party
        self._modules: dict[str, SyntaxModule] = {}
        self._targets: dict[tuple[str, NameReference], list[Meaning | str]] = {}

    def module(self, located: LocatedModule) -> SyntaxModule:
        """Return the statements of a module."""
        module = self._modules.get(located.name)
        if module is None:
            module = self._modules[located.name] = read_module(located.file) if located.file else SyntaxModule()
        return module

    def statements(self, target: Meaning) -> list[Statement]:
        """Return the statements that bind or alter a symbol, in the order of the file."""
        module = self.module(target.located)
        found = module.definitions.get(target.name, [])
        stars = [statement for star, statement in module.stars if found and self._given(target, star)]
        return sorted({*found, *stars}, key=lambda part: part.position)

    def targets(self, located: LocatedModule, reference: NameReference) -> list[Meaning | str]:
        """Return what a name in a module means; nothing for a builtin."""
        known = self._targets.get((located.name, reference))
        if known is None:
            if reference.imported is None:
                known = self._resolve(located, reference.name, reference.attributes, frozenset())
            else:
                known = self._follow(located, reference.imported, reference.attributes, frozenset())
            self._targets[located.name, reference] = known
        return known

    def named(self, text: str) -> Meaning | None:
        """Return the module or symbol that a text names, as ``module``, ``module.symbol`` or ``module:symbol``."""
        module, _, symbol = text.partition(":")
        names: list[str] = symbol.split(".") if symbol else []
        if not _MODULE_NAME.fullmatch(module) or not all(name.isidentifier() for name in names):
            return None
        located = self.first_party.find(module)
        while located is None and "." in module and not symbol:
            module, _, last = module.rpartition(".")
            names.insert(0, last)
            located = self.first_party.find(module)
        if located is None:
            return None
        if not names:
            return Meaning(located, WHOLE)
        known = self.module(located)
        bound = names[0] in known.definitions or names[0] in known.imports
        return Meaning(located, names[0] if bound else WHOLE, tuple(names[1:])) if bound or symbol else None

    def loads(self, located: LocatedModule) -> dict[int, list[LocatedModule]]:
        """Return the first-party modules that the statements of a module import, by the statement's position."""
        module = self.module(located)
        view = ("loads", self.first_party.view)
        known: dict[int, list[LocatedModule]] | None = module.derived.get(view)
        if known is None:
            known = module.derived[view] = {
                position: [other for imported in imports for other in self.loaded(located, imported)]
                for position, imports in module.loads.items()
            }
        return known

    def loaded(self, located: LocatedModule, imported: Import) -> Iterator[LocatedModule]:
        """Return the first-party modules that an import in a module runs."""
        name = absolute(located, imported)
        module = self.first_party.find(name)
        if module is None:
            return
        yield module
        if imported.name and imported.name != "*" and imported.name not in self.module(module).definitions:
            below = self.first_party.find(f"{name}.{imported.name}")
            if below is not None:
                yield below

    def _resolve(
        self, located: LocatedModule, name: str, attributes: tuple[str, ...], trail: frozenset[Symbol]
    ) -> list[Meaning | str]:
        if (located.name, name) in trail:
            return []
        trail |= {(located.name, name)}
        module = self.module(located)
        targets: list[Meaning | str] = []
        if name in module.definitions:
            targets.append(Meaning(located, name, attributes))
        for imported in module.imports.get(name, ()):
            targets += self._follow(located, imported, attributes, trail)
        for star, _ in module.stars:
            origin = self.first_party.find(absolute(located, star))
            if origin is not None and (not name.startswith("_") or "__all__" in self.module(origin).definitions):
                targets += self._resolve(origin, name, attributes, trail)
        return targets

    def _given(self, target: Meaning, star: Import) -> bool:
        origin = self.first_party.find(absolute(target.located, star))
        return origin is not None and bool(self._resolve(origin, target.name, (), frozenset({target.symbol})))

    def _follow(
        self, located: LocatedModule, imported: Import, attributes: tuple[str, ...], trail: frozenset[Symbol]
    ) -> list[Meaning | str]:
        names = attributes if imported.name in (None, "*") else (str(imported.name), *attributes)
        return self._member(absolute(located, imported), names, trail)

    def _member(self, module: str, names: tuple[str, ...], trail: frozenset[Symbol]) -> list[Meaning | str]:
        located = self.first_party.find(module)
        if located is None:
            return [".".join((module, *names[:1]))]
        if not names or located.library:
            return [Meaning(located, WHOLE)]
        name, *rest = names
        targets = self._resolve(located, name, tuple(rest), trail)
        if targets:
            return targets
        if self.first_party.find(f"{module}.{name}"):
            return self._member(f"{module}.{name}", tuple(rest), trail)
        if located.file is None or name in _PLAIN_ATTRIBUTES:
            return [f"{module}.{name}"]
        if name.startswith("__") and name.endswith("__"):
            return [Meaning(located, WHOLE, names)]
        return self._made_up(located)

    def _made_up(self, located: LocatedModule) -> list[Meaning | str]:
        """Return the symbols of a name that a module may generate: the module, and the modules that it mentions."""
        targets: list[Meaning | str] = [Meaning(located, WHOLE)]
        definitions = self.module(located).definitions
        mentioned = {text for found in definitions.values() for part in found for text in part.reading.strings}
        for name in sorted(text for text in mentioned if _MODULE_NAME.fullmatch(text)):
            dots = len(name) - len(name.lstrip("."))
            nearby = absolute(located, Import(name.lstrip("."), None, max(dots, 1)))
            for candidate in {nearby, name} if not dots else {nearby}:
                found = self.first_party.find(candidate) if candidate != located.name else None
                if found is not None:
                    targets.append(Meaning(found, WHOLE))
        return targets

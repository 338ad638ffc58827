"""The effects of importing a module: the statements that act on more than a name that they bind.

An effect counts if an object that it may alter is reached. These objects are found without running anything, and rather
too many than too few: those that the statement, or a function that it calls, assigns to, alters by a method, or passes
to a function that alters its arguments; and the objects from which those are made. An effect on anything outside of
first-party code, such as an option of a library, counts with every module that imports it.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ml_assets.code_version.located import PLUGIN, LocatedModule
from ml_assets.code_version.reading import alters_by_name
from ml_assets.code_version.references import WHOLE, Meaning, References, Symbol
from ml_assets.code_version.scopes import Act, ActKind, NameReference
from ml_assets.code_version.statements import Statement

__all__ = ["ORCHESTRATION", "Effect", "Effects"]

ORCHESTRATION: Final = (PLUGIN, "dagster")
"""Packages whose decorators only configure where and when a function runs."""

_OWN_NAMES = {"globals", "vars", "locals"}
_HARMLESS = {"print", "super"}


@dataclass(frozen=True)
class Effect:
    """A statement that acts when its module is imported.

    Attributes:
        altered: symbols that it may alter.
        modules: modules of which it may alter any symbol.
        outside: True if it may alter something outside of first-party code.
    """

    located: LocatedModule
    statement: Statement
    altered: frozenset[Symbol]
    outside: bool = False
    modules: frozenset[str] = frozenset()

    def alters(self, found: Collection[Symbol], modules: set[str]) -> bool:
        """Return True if the effect alters one of the symbols found, which are in certain modules."""
        return self.outside or not self.altered.isdisjoint(found) or not self.modules.isdisjoint(modules)


@dataclass
class _Altered:
    symbols: set[Symbol] = field(default_factory=set)
    outside: bool = False


class Effects:
    """Finds what statements alter.

    Args:
        references: finds the meaning of names.
    """

    def __init__(self, references: References) -> None:
        self._references = references
        self._origins: dict[Symbol, list[Meaning]] = {}

    def of_module(self, located: LocatedModule) -> list[Effect]:
        """Return the effects of importing a module, and its classes, which alter what `ancestors` returns."""
        module = self._references.module(located)
        view = ("effects", self._references.first_party.view)
        known: list[Effect] | None = module.derived.get(view)
        if known is None:
            found = [(statement, self._of(located, statement)) for statement in module.acting]
            classes = [Effect(located, part, frozenset()) for part, effect in found if part.is_class and not effect]
            known = module.derived[view] = [effect for _, effect in found if effect] + classes
        return known

    def _of(self, located: LocatedModule, statement: Statement) -> Effect | None:
        """Return the effect of a top-level statement; None if it only binds names."""
        altered = _Altered()
        for act in statement.reading.acts:
            if act.eager and act.kind is not ActKind.ARGUMENT:
                self._act(located, statement, act, altered)
        for decorator in statement.decorators:
            self._decorate(located, decorator, altered)
        if statement.is_class:
            self._subclass(located, statement, altered)
        own = self._references.module(located).definitions
        described = {(located.name, name) for name, found in own.items() if statement in found}
        symbols = frozenset(altered.symbols - described)
        modules = frozenset(module for module, name in symbols if name == WHOLE)
        return Effect(located, statement, symbols, altered.outside, modules) if symbols or altered.outside else None

    def ancestors(self, located: LocatedModule, statement: Statement) -> tuple[list[Meaning], bool]:
        """Return the first-party bases and metaclasses of a class; and True if it has others."""
        found: list[Meaning] = []
        others = False
        ahead = [(located, statement)]
        while ahead:
            where, part = ahead.pop()
            for parent in part.parents:
                targets = self._references.targets(where, parent)
                others |= not targets and parent.name not in ("object", "type")
                for target in targets:
                    if isinstance(target, str):
                        others = True
                    elif target not in found:
                        found.append(target)
                        ahead += [(target.located, each) for each in self._references.statements(target)]
        return found, others

    def _act(self, located: LocatedModule, statement: Statement, act: Act, altered: _Altered) -> None:
        """Add what an act of a statement alters at import."""
        reference = act.reference
        targets = self._references.targets(located, reference) if reference.name else []
        first_party = [target for target in targets if isinstance(target, Meaning)]
        if act.kind is ActKind.CALL or (act.kind is ActKind.METHOD and not self._is_method(first_party)):
            for target in first_party:
                self._call(located, statement, target, altered)
            if act.kind is ActKind.METHOD and not first_party:
                self._act_outside(located, reference, targets, altered)
            return
        if not reference.name:
            self._alter_all(located, statement.reading.references, altered, alone=True)
        elif first_party:
            for target in first_party:
                self._alter(target, altered)
        else:
            self._act_outside(located, reference, targets, altered)

    @staticmethod
    def _is_method(targets: list[Meaning]) -> bool:
        return bool(targets) and any(target.attributes or target.name == WHOLE for target in targets)

    def _act_outside(
        self, located: LocatedModule, reference: NameReference, targets: list[Meaning | str], altered: _Altered
    ) -> None:
        if targets or reference.name not in _OWN_NAMES | _HARMLESS:
            altered.outside = True
        elif reference.name in _OWN_NAMES:
            altered.symbols.add((located.name, WHOLE))

    def _decorate(self, located: LocatedModule, decorator: Statement, altered: _Altered) -> None:
        """Add what a decorator alters when it is applied."""
        subject = decorator.subject
        if subject is None:
            self._alter_all(located, decorator.reading.references, altered)
            return
        for target in self._references.targets(located, subject):
            if isinstance(target, Meaning):
                self._call(located, decorator, target, altered)
                if target.attributes:
                    self._alter(target, altered)
            elif target.partition(".")[0] not in ORCHESTRATION:
                named = target.rpartition(".")[2], *subject.attributes[-1:]
                altered.outside |= any(alters_by_name(name) for name in named)
        for act in decorator.reading.acts:
            if act.kind is ActKind.CALL and act.reference != subject:
                self._act(located, decorator, act, altered)

    def _subclass(self, located: LocatedModule, statement: Statement, altered: _Altered) -> None:
        """Add what the definition of a class alters: by ``__init_subclass__``, or by a metaclass."""
        ancestors, _ = self.ancestors(located, statement)
        acting = [
            target
            for target in ancestors
            # An object that a library made as a base class may keep its subclasses.
            if any(part.acts_on_subclasses or not part.is_class for part in self._references.statements(target))
        ]
        for target in acting:
            altered.symbols |= {each.symbol for each in ancestors}
            self._call(located, statement, target, altered)

    def _call(self, located: LocatedModule, statement: Statement, called: Meaning, altered: _Altered) -> None:
        """Add what a call alters: by the acts of all code that it may run."""
        parts = self._references.statements(called)
        constructs = any(part.is_class for part in parts) and not called.attributes
        alters_arguments = False
        for target in self._closure([called]):
            for part in self._references.statements(target):
                if not (part.is_function or part.is_class):
                    continue
                alters_arguments |= part.reading.alters_parameters and not (constructs and target == called)
                for act in part.reading.acts:
                    self._act_later(target.located, act, altered)
        if alters_arguments:
            passed = [act.reference for act in statement.reading.acts if act.eager and act.kind is ActKind.ARGUMENT]
            self._alter_all(located, passed, altered, functions=False)
            if called.attributes or not any(part.is_function or part.is_class for part in parts):
                self._alter(called, altered)

    def _act_later(self, located: LocatedModule, act: Act, altered: _Altered) -> None:
        """Add what an act inside a function alters when the function is called."""
        if act.kind not in (ActKind.ALTER, ActKind.METHOD) or not act.reference.name:
            return
        targets = self._references.targets(located, act.reference)
        first_party = [target for target in targets if isinstance(target, Meaning)]
        for target in first_party:
            if act.kind is ActKind.ALTER or target.attributes:
                self._alter(target, altered)
        last = (act.reference.attributes or (act.reference.name,))[-1]
        if not first_party and (act.reference.name in _OWN_NAMES):
            altered.symbols.add((located.name, WHOLE))
        elif not first_party and targets and (act.kind is ActKind.ALTER or alters_by_name(last)):
            altered.outside = True

    def _alter_all(
        self,
        located: LocatedModule,
        references: Iterable[NameReference],
        altered: _Altered,
        *,
        alone: bool = False,
        functions: bool = True,
    ) -> None:
        """Add objects by their names; ``alone`` if an act without any of them is one on something outside."""
        found = [target for reference in references for target in self._references.targets(located, reference)]
        first_party = [target for target in found if isinstance(target, Meaning)]
        for target in first_party:
            if functions or not any(part.is_function for part in self._references.statements(target)):
                self._alter(target, altered)
        altered.outside |= alone and not first_party

    def _alter(self, target: Meaning, altered: _Altered) -> None:
        """Add an object, and those from which it is made, because they may share parts."""
        if "__dict__" in target.attributes or target.name == WHOLE:
            altered.symbols.add((target.located.name, WHOLE if target.name == WHOLE else target.name))
            return
        altered.symbols.add(target.symbol)
        parts = self._references.statements(target)
        if any(part.is_class or (part.is_function and target.attributes) for part in parts):
            return
        for origin in self._closure([target]):
            parts = self._references.statements(origin)
            if not all(part.is_function or part.is_constant for part in parts):
                altered.symbols.add(origin.symbol)

    def _closure(self, start: list[Meaning]) -> Iterator[Meaning]:
        """Return symbols and those that their statements name, and so on."""
        seen: set[Symbol] = set()
        ahead = list(start)
        while ahead:
            target = ahead.pop()
            if target.symbol in seen or target.name == WHOLE:
                continue
            seen.add(target.symbol)
            yield target
            ahead += self._origins_of(target)

    def _origins_of(self, target: Meaning) -> list[Meaning]:
        known = self._origins.get(target.symbol)
        if known is None:
            known = self._origins[target.symbol] = [
                found
                for part in self._references.statements(target)
                for reference in part.reading.references
                for found in self._references.targets(target.located, reference)
                if isinstance(found, Meaning)
            ]
        return known

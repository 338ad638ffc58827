"""The order in which statements run, where it decides what a name means."""

import hashlib
from collections.abc import Iterable, Iterator

from ml_assets.code_version.effects import Effect
from ml_assets.code_version.located import LocatedModule
from ml_assets.code_version.references import References, Symbol
from ml_assets.code_version.statements import Statement

__all__ = ["Execution"]


class Execution:
    """The statements of reached modules in the order in which an import runs them.

    Order counts for a symbol that several statements bind or alter: the order of these, and of the statements that read
    the symbol when they run. The order of effects on anything outside of first-party code counts too.

    Args:
        references: finds the modules that an import runs.
        statements: the statements of each symbol that counts.
        edges: for each symbol, those that its statements name.
        effects: the effects that count.
    """

    def __init__(
        self,
        references: References,
        statements: dict[Symbol, list[Statement]],
        edges: dict[Symbol, set[Symbol]],
        effects: list[Effect],
    ) -> None:
        self._references = references
        self._statements = statements
        self._effects = effects
        self._readers: dict[Symbol, set[Symbol]] = {}
        for symbol, named in edges.items():
            for each in named:
                self._readers.setdefault(each, set()).add(symbol)

    def orders(self, own: LocatedModule, modules: Iterable[LocatedModule]) -> Iterator[tuple[Symbol | None, bytes]]:
        """Return the digest of the order of statements for each symbol for which it counts.

        Args:
            own: module that is imported first.
            modules: all reached modules.

        Returns:
            Pairs of a symbol, or None for anything outside of first-party code, and a digest.
        """
        shared = {symbol: writers for symbol, writers in self._writers().items() if len(writers) > 1}
        if not shared:
            return
        places = self._executed(own, modules)
        for symbol, writers in sorted(shared.items(), key=lambda item: item[0] or ("", "")):
            parts = {id(part): part for part in writers}
            if symbol is not None:
                parts |= {id(part): part for part in self._active_readers(symbol)}
            ordered = sorted(parts.values(), key=lambda part: places.get(id(part), -1))
            yield symbol, hashlib.sha256(b"".join(part.reading.digest for part in ordered)).digest()

    def _writers(self) -> dict[Symbol | None, list[Statement]]:
        writers: dict[Symbol | None, list[Statement]] = {
            symbol: list(parts) for symbol, parts in self._statements.items() if not symbol[1].startswith("<")
        }
        for effect in self._effects:
            altered = {symbol for symbol in effect.altered if symbol in writers}
            altered |= {symbol for symbol in writers if symbol is not None and symbol[0] in effect.modules}
            for symbol in altered | ({None} if effect.outside else set()):
                known = writers.setdefault(symbol, [])
                known += [] if effect.statement in known else [effect.statement]
        return writers

    def _active_readers(self, symbol: Symbol) -> Iterator[Statement]:
        """Return the statements that may read a symbol when they run, by way of any functions."""
        seen = {symbol}
        ahead = [symbol]
        while ahead:
            for reader in self._readers.get(ahead.pop(), ()):
                if reader not in seen:
                    seen.add(reader)
                    ahead.append(reader)
        for reader in seen - {symbol}:
            for part in self._statements.get(reader, ()):
                if part.runs:
                    yield part

    def _executed(self, own: LocatedModule, modules: Iterable[LocatedModule]) -> dict[int, int]:
        """Return the place of each statement, by its identity, in the order in which they run."""
        places: dict[int, int] = {}
        done: set[str] = set()
        for located in (own, *sorted(modules, key=lambda part: part.name)):
            self._import(located, done, places)
        return places

    def _import(self, located: LocatedModule, done: set[str], places: dict[int, int]) -> None:
        if located.name in done:
            return
        done.add(located.name)
        parent = self._references.first_party.find(located.name.rpartition(".")[0])
        if parent is not None:
            self._import(parent, done, places)
        module, loads = self._references.module(located), self._references.loads(located)
        for statement in (*module.statements, *module.main):
            for other in loads.get(statement.position, ()):
                self._import(other, done, places)
            places[id(statement)] = len(places)

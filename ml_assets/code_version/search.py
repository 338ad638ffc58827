"""The search for the code that a function reaches: from symbol to symbol, file by file."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

from ml_assets.code_version.captured import Captured, Source, captured_values
from ml_assets.code_version.data_files import DataFiles
from ml_assets.code_version.documentation import Documentation
from ml_assets.code_version.dynamic import (
    MAIN,
    Dynamic,
    Importer,
    opens_namespace,
    queries,
    reads_documentation,
    reads_subclasses,
)
from ml_assets.code_version.effects import ORCHESTRATION, Effect, Effects
from ml_assets.code_version.functions import author_of, locate, no_source, place_in
from ml_assets.code_version.located import FirstParty, LocatedModule
from ml_assets.code_version.order import Execution
from ml_assets.code_version.references import WHOLE, Meaning, References, Symbol
from ml_assets.code_version.scopes import NameReference
from ml_assets.code_version.statements import Statement

__all__ = ["EFFECTS", "Search"]

EFFECTS: Final = "<statements>"
"""Stands for the statements of a module that act on more than a name that they bind."""

_log = logging.getLogger(__name__)
_said: set[Symbol] = set()


class Search:
    """Follows names from a function until nothing new is found.

    Args:
        function: the function, with its wrappers.

    Attributes:
        found: description of each symbol that counts.
        statements: the statements of each symbol.
        data: label and digest of each data file and native library that counts, by its path.
        captured: lines for captured values.

    Raises:
        DefinitionError: the function has no source file, a file in its reach is not valid Python, or a captured value
            cannot be described.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.author = author_of(function)
        self.own = locate(self.author)
        self._first_party = FirstParty(self.own)
        self._references = References(self._first_party)
        self._effects = Effects(self._references)
        self._dynamic = Dynamic(self._references)
        self._files = DataFiles(self._references, self._top())
        self._documentation = Documentation(self._references)
        self._captured = Captured(self.own.name)
        self.found: dict[Symbol, bytes] = {}
        self.statements: dict[Symbol, list[Statement]] = {}
        self.edges: dict[Symbol, set[Symbol]] = {}
        self.located: dict[str, LocatedModule] = {}
        self.data: dict[Path, tuple[str, bytes]] = {}
        self.captured: list[str] = []
        self.counted: list[Effect] = []
        self._ahead: list[Meaning] = []
        self._pending: list[Effect] = []
        self._importers: list[Importer] = []
        self._queriers: list[LocatedModule] = []
        self._texts: set[str] = set()
        self._subclasses = False
        self._follow_links(function)
        self._run()
        self._finish()

    def _top(self) -> Path:
        """Return the folder of the function's package, or of its module if it has no package."""
        top = self._first_party.find(self.own.name.partition(".")[0])
        where = top if top is not None else self.own
        if where.folders:
            return Path(where.folders[0])
        return where.file.parent if where.file is not None else Path(self.author.__code__.co_filename).parent

    def _run(self) -> None:
        while True:
            while self._ahead:
                target = self._ahead.pop()
                self._describe(target)
            modules = {module for module, _ in self.found}
            ready: list[Effect] = []
            rest: list[Effect] = []
            for effect in self._pending:
                (ready if self._counts(effect, modules) else rest).append(effect)
            self._pending = rest
            for effect in ready:
                self._count(effect)
            if not ready and not self._follow_texts():
                return

    def _counts(self, effect: Effect, modules: set[str]) -> bool:
        if effect.alters(self.found, modules):
            return True
        if not (self._subclasses and effect.statement.is_class):
            return False
        ancestors, others = self._effects.ancestors(effect.located, effect.statement)
        return others or any(target.symbol in self.found for target in ancestors)

    def _follow_texts(self) -> bool:
        """Enter what reached code imports or evaluates by texts anywhere in it; return True if anything was new."""
        before = len(self.found)
        for located in self._queriers:
            for target in self._dynamic.named_by_query(located, self._texts):
                self._enter(target)
        if not self._importers:
            return len(self.found) > before
        named, whole = self._dynamic.imported_by_name(self._importers, sorted(self._texts))
        for target in named:
            self._enter(target)
        for module in whole:
            self._say(module, "imports modules whose names are only known when it runs", "package around it")
        return len(self.found) > before

    def _say(self, module: str, reason: str, what: str) -> None:
        if (module, reason) not in _said:
            _said.add((module, reason))
            _log.warning("Code in %s %s. All of the %s counts in code versions.", module, reason, what)

    def _enter(self, target: Meaning) -> Symbol:
        symbol = target.symbol
        if symbol not in self.found:
            self.found[symbol] = b""
            self._ahead.append(target)
            self._load(target.located)
        return symbol

    def _load(self, located: LocatedModule) -> None:
        """Note the effects of importing a module and, recursively, of the modules that this imports."""
        if located.name in self.located:
            return
        self.located[located.name] = located
        parent = self._first_party.find(located.name.rpartition(".")[0])
        if parent is not None:
            self._load(parent)
        for others in self._references.loads(located).values():
            for other in others:
                self._load(other)
        self._pending += self._effects.of_module(located)

    def _describe(self, target: Meaning) -> None:
        """Add the statements of a symbol, and all that they lead to."""
        located, name, _ = target
        module = self._references.module(located)
        symbol = target.symbol
        if located.library is not None:
            self._add_file(located, located.library)
        elif name == WHOLE:
            references = [NameReference(each) for each in sorted({*module.definitions, *module.imports})]
            lines = [self._meanings(located, reference, symbol) for reference in references]
            for star, _ in module.stars:
                lines.append(self._meanings(located, NameReference("*", (), star), symbol))
            for effect in self._effects.of_module(located):
                if effect in self._pending and (effect.altered or effect.outside):
                    self._pending.remove(effect)
                    self._count(effect)
            self.found[symbol] = hashlib.sha256(b"".join(lines)).digest()
        else:
            program = [*module.statements, *module.main] if name == MAIN else []
            statements = program or self._references.statements(target)
            self.found[symbol] = self._content(located, symbol, statements)

    def _count(self, effect: Effect) -> None:
        """Add an effect to the code that counts."""
        self.counted.append(effect)
        symbol = (effect.located.name, EFFECTS)
        effects = [each.statement for each in self.counted if each.located.name == effect.located.name]
        self.found[symbol] = self._content(effect.located, symbol, sorted(effects, key=lambda part: part.position))

    def _content(self, located: LocatedModule, symbol: Symbol, statements: list[Statement]) -> bytes:
        """Return the digest of statements and of the meaning of each name that they use."""
        digest = hashlib.sha256()
        self.statements[symbol] = statements
        decorators = [part for statement in statements for part in self._computing_decorators(located, statement)]
        for statement in (*statements, *decorators):
            digest.update(statement.reading.digest)
            for reference in statement.reading.references:
                digest.update(self._meanings(located, reference, symbol))
            self._follow(located, statement, symbol)
        for statement in statements:
            self._documentation.note(located, symbol, statement)
        return digest.digest()

    def _follow(self, located: LocatedModule, statement: Statement, symbol: Symbol) -> None:
        """Add what a statement leads to without naming it."""
        reading = statement.reading
        if opens_namespace(statement):
            self._say(located.name, "uses names that are only known when it runs", "module")
            self._enter(Meaning(located, WHOLE))
        for target in self._dynamic.named_by_text(located, statement):
            self.edges.setdefault(symbol, set()).add(self._enter(target))
        for imported in reading.loads:
            for module in self._references.loaded(located, imported):
                self._load(module)
        self._texts.update(text for text in reading.strings if len(text) < 1000)
        self._subclasses |= reads_subclasses(statement)
        if queries(statement):
            self._queriers.append(located)
        importer = self._dynamic.importer(located, statement)
        if importer is not None:
            self._importers.append(importer)
        if reads_documentation(statement):
            self._documentation.counts = True
        for file in self._files.read_by(located, statement):
            self._add_file(located, file)

    def _add_file(self, located: LocatedModule, file: Path) -> None:
        """Add a data file or a native library; a Python file as the program that it is."""
        if file.suffix == ".py":
            name = ".".join(filter(None, (located.package, file.stem)))
            program = self._first_party.find(name)
            if program is None or program.file != file:
                program = LocatedModule(name, file)
            self._enter(Meaning(program, MAIN))
            return
        folder = located.file.parent if located.file is not None else file.parent
        label = self.label((located.name, f"<file {os.path.relpath(file, folder)}>"))
        self.data[file] = label, hashlib.sha256(file.read_bytes()).digest()

    def _meanings(self, located: LocatedModule, reference: NameReference, symbol: Symbol) -> bytes:
        lines = []
        for target in self._references.targets(located, reference):
            if isinstance(target, str):
                lines.append(f"{reference.name}={target}\n")
            else:
                self.edges.setdefault(symbol, set()).add(self._enter(target))
                lines.append(f"{reference.name}={self.label(target.symbol)}\n")
        return "".join(lines).encode()

    def _computing_decorators(self, located: LocatedModule, statement: Statement) -> Iterator[Statement]:
        for decorator in statement.decorators:
            subject = decorator.subject
            targets = self._references.targets(located, subject) if subject else []
            outside = (target for target in targets if isinstance(target, str))
            if not any(target.partition(".")[0] in ORCHESTRATION for target in outside):
                yield decorator

    def label(self, symbol: Symbol) -> str:
        """Return the symbol's name, without the function's own module, whose name depends on how it was loaded."""
        module, name = symbol
        return f":{name}" if module == self.own.name else f"{module}:{name}"

    def _finish(self) -> None:
        """Complete the descriptions by what is only known when all symbols are: documentation and order."""
        for symbol, text in self._documentation.texts(self.found):
            self.found[symbol] = hashlib.sha256(self.found[symbol] + text.encode("utf-8", "surrogatepass")).digest()
        execution = Execution(self._references, self.statements, self.edges, self.counted)
        for shared, order in execution.orders(self.own, self.located.values()):
            place: Symbol = shared or (self.own.name, EFFECTS)
            self.found[place] = hashlib.sha256(self.found.get(place, b"") + order).digest()

    def _follow_links(self, function: Callable[..., Any]) -> None:
        """Start at the author's function, all its wrappers, and the objects that they have captured."""
        links: list[Source] = []
        ahead: list[Any] = [function]
        while ahead:
            link = ahead.pop()
            if any(link is known for known in links):
                continue
            links.append(link)
            if isinstance(link, ModuleType):
                located = self._first_party.find(link.__name__)
                if located is not None:
                    self._enter(Meaning(located, WHOLE))
            elif isinstance(link, FunctionType):
                ahead += self._start(link)
            else:
                ahead += self._start_class(link)

    def _start(self, link: FunctionType) -> list[Any]:
        """Enter a function, and return the objects that it has captured."""
        module, code = str(link.__globals__.get("__name__")), link.__code__
        located = self._first_party.find(module)
        more = [link.__dict__["__wrapped__"]] if "__wrapped__" in link.__dict__ else []
        if located is None or located.file is None:
            # The wrapper of a library: its own values are the library's, and the decorator counts as source.
            cells = [cell.cell_contents for cell in link.__closure__ or () if _is_bound(cell)]
            return [*more, *(value for value in cells if isinstance(value, FunctionType))]
        known = self._references.module(located)
        name = code.co_qualname.partition(".")[0]
        nested = "<locals>" in code.co_qualname
        holders = known.definitions.get(name, [])
        place: int | None = None
        if not holders or code.co_name == "<lambda>" or nested or not all(part.is_function for part in holders):
            near = [part for part in known.statements if part.lines[0] <= code.co_firstlineno <= part.lines[1]]
            numbered = [(part, number) for part in near if (number := place_in(part, code)) is not None]
            if numbered:
                statement, place = numbered[0]
                self.captured.append(f"{code.co_qualname}#{place}")
                names = sorted(each for each, parts in known.definitions.items() if statement in parts)
                if not holders:
                    for each in names:
                        self._enter(Meaning(located, each))
                    if not names:
                        self._count(Effect(located, statement, frozenset()))
        if holders:
            self._enter(Meaning(located, name))
        elif place is None:
            raise no_source(link, f"{located.file} does not define {name} at its top level")
        before = len(self._captured.sources)
        defaults = nested or not all(part.is_function for part in holders)
        self.captured += captured_values(link, self._captured, defaults=defaults)
        return [*self._captured.sources[before:], *more]

    def _start_class(self, link: type) -> list[Any]:
        """Enter a class, and return the methods of one that a function has made."""
        located = self._first_party.find(link.__module__)
        if located is None:
            return []
        name = link.__qualname__.partition(".")[0]
        if name in self._references.module(located).definitions:
            self._enter(Meaning(located, name))
        methods = (part for part in vars(link).values() if isinstance(part, FunctionType) and part.__closure__)
        return [part for part in methods if part.__code__.co_filename == str(located.file)]


def _is_bound(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False

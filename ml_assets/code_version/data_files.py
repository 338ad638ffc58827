"""Data files that code reads by a path relative to its module.

Paths are followed through assignments, without running anything: ``Path(__file__).parent / "q.sql"``,
``os.path.join(os.path.dirname(__file__), "q.sql")``, ``importlib.resources.files("package") / "q.sql"``. If a name is
only known at runtime, the files of the folder count that are not Python.
"""

import ast
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ml_assets.code_version.located import LocatedModule
from ml_assets.code_version.references import Meaning, References
from ml_assets.code_version.scopes import NameReference, chain
from ml_assets.code_version.statements import Statement

__all__ = ["DataFiles"]

_MOST_FILES: Final = 1000
_MOST_BYTES: Final = 64 * 1024**2
_PYTHON = {".py", ".pyc", ".pyo", ".pyi"}
_SAME = {"Path", "PurePath", "PosixPath", "str", "fspath", "abspath", "realpath", "normpath", "resolve", "absolute"}
_SAME |= {"as_file", "as_posix", "expanduser", "normalize"}
_READERS = {"read_text", "read_binary", "open_text", "open_binary", "get_data", "path"}
_READERS |= {"resource_string", "resource_stream", "resource_filename"}
_WITHOUT_CONTENT = {"name", "stem", "suffix", "suffixes"}
_WRITERS = {"write_text", "write_bytes", "mkdir", "touch", "unlink", "rmdir"}
_ANCHORS = {
    "run_path",
    "Popen",
    "run",
    "check_call",
    "check_output",
    "call",
    "__file__",
    "__path__",
    "files",
    "PackageLoader",
    *_READERS,
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Place:
    path: Path
    complete: bool = True
    """False if the path lies somewhere below ``path``."""

    def join(self, part: "str | _Place | None") -> "_Place":
        if not self.complete:
            return self
        if isinstance(part, _Place):
            return part
        return _Place(Path(os.path.normpath(self.path / part))) if part is not None else _Place(self.path, False)


class DataFiles:
    """Finds the files that statements read.

    Args:
        references: finds the meaning of names.
        top: folder of the function's top-level package or module. It and the folders around it are not searched below.
    """

    def __init__(self, references: References, top: Path) -> None:
        self._references = references
        self._top = top
        self._places: dict[tuple[str, str], _Place | None] = {}

    def read_by(self, located: LocatedModule, statement: Statement) -> set[Path]:
        """Return the existing files that a statement reads, or may read."""
        if located.file is None or not self._has_anchor(located, statement):
            return set()
        scope = _Names(self, located, statement.node)
        files = {file for place in scope.places(statement.node) for file in self._files(place)}
        scripts = (text for text in statement.reading.strings if text.endswith(".py"))
        files |= {file for text in scripts if (file := located.file.parent / text).is_file()}
        return files - {located.file}

    def _has_anchor(self, located: LocatedModule, statement: Statement) -> bool:
        reading = statement.reading
        if not _ANCHORS.isdisjoint(reading.names | reading.attributes):
            return True
        return any(self.place_of(located, reference) for reference in reading.references)

    def place_of(self, located: LocatedModule, reference: NameReference) -> _Place | None:
        """Return the path that a variable of a first-party module holds."""
        for target in self._references.targets(located, reference):
            if isinstance(target, Meaning) and not target.attributes:
                if target.symbol not in self._places:
                    self._places[target.symbol] = None
                    self._places[target.symbol] = self._assigned(target)
                return self._places[target.symbol]
        return None

    def _assigned(self, target: Meaning) -> _Place | None:
        statements = self._references.statements(target)
        if target.located.file is None or not any(self._has_anchor(target.located, part) for part in statements):
            return None
        body = [part.node for part in statements]
        value = _Names(self, target.located, ast.Module(body, [])).value(ast.Name(target.name, ast.Load()))
        return value if isinstance(value, _Place) else None

    def package(self, name: Any) -> _Place | None:
        """Return the folder of a package."""
        located = self._references.first_party.find(name) if isinstance(name, str) else None
        if located is None:
            return None
        folder = located.folders[0] if located.folders else str(located.file.parent) if located.file else None
        return _Place(Path(folder)) if folder else None

    def file_of(self, name: str | None) -> _Place | None:
        """Return the file of a module."""
        located = self._references.first_party.find(name) if name else None
        return _Place(located.file) if located is not None and located.file is not None else None

    def module_of(self, located: LocatedModule, node: ast.AST) -> str | None:
        """Return the name of the module that an expression stands for."""
        found = chain(node)
        for target in self._references.targets(located, found) if found else ():
            if isinstance(target, Meaning):
                return target.located.name
        return None

    def _files(self, place: _Place) -> Iterator[Path]:
        if place.complete and place.path.is_file():
            yield place.path
        elif place.path.is_dir():
            deep = not self._top.is_relative_to(place.path)
            yield from self._below(place.path, deep=deep)

    def _below(self, folder: Path, *, deep: bool) -> Iterator[Path]:
        count = size = 0
        for around, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if deep and not name.startswith((".", "__pycache__")))
            for name in sorted(files):
                file = Path(around) / name
                if file.suffix in _PYTHON or name.startswith("."):
                    continue
                count += 1
                size += file.stat().st_size if file.is_file() else 0
                if count > _MOST_FILES or size > _MOST_BYTES:
                    _log.warning("Only the first %d files below %s count in code versions.", count - 1, folder)
                    return
                yield file


def _assignments(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Return the names that a statement assigns to, with the value."""
    match node:
        case ast.Assign(targets=targets, value=value):
            yield from ((target.id, value) for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value
        case ast.AugAssign(target=ast.Name(id=name), op=operator, value=value):
            yield name, ast.BinOp(ast.Name(name, ast.Load()), operator, value)
        case ast.With(items=items) | ast.AsyncWith(items=items):
            for item in items:
                if isinstance(item.optional_vars, ast.Name):
                    yield item.optional_vars.id, item.context_expr


class _Names:
    """Evaluates the paths in one statement."""

    def __init__(self, files: DataFiles, located: LocatedModule, node: ast.stmt | ast.Module) -> None:
        self._outside = files
        self._node = node
        self._located = located
        self._assigned: dict[str, list[ast.expr]] = {}
        self._before: dict[str, int] = {}
        self._fields: set[str] = set()
        # Statements have a body; the variable of a single assignment is one of the module.
        parts = [part for part in ast.walk(node) if hasattr(part, "lineno")] if hasattr(node, "body") else []
        for part in sorted(parts, key=lambda part: part.lineno):
            for name, value in _assignments(part):
                self._assigned.setdefault(name, []).append(value)
            if isinstance(part, ast.ClassDef):
                self._fields |= {name for each in part.body for name, _ in _assignments(each)}

    def places(self, node: ast.AST) -> Iterator[_Place]:
        """Return the paths of the largest expressions that are paths; no path that is only given a name."""
        if isinstance(node, ast.Assign) and isinstance(self.value(node.value), _Place) and self._is_named(node):
            return
        if isinstance(node, ast.Attribute) and (
            node.attr in _WRITERS or (node.attr in _WITHOUT_CONTENT and isinstance(self.value(node.value), _Place))
        ):
            return
        if (
            isinstance(node, ast.Call)
            and (found := chain(node.func))
            and (found.name, *found.attributes)[:2] == ("sys", "path")
        ):
            return
        if isinstance(node, ast.expr):
            place = self.value(node)
            if isinstance(place, _Place):
                # The file itself is used to make a path in an unknown way.
                yield place if place.path != self._located.file else _Place(place.path.parent, complete=False)
                return
        for part in ast.iter_child_nodes(node):
            yield from self.places(part)

    def _is_named(self, node: ast.Assign) -> bool:
        """Return True if the uses of what is assigned are found by its name."""
        if node is self._node:
            names = [part.id for part in node.targets if isinstance(part, ast.Name)]
            known = [self._outside.place_of(self._located, NameReference(name)) for name in names]
            return len(known) == len(node.targets) and None not in known
        names = [part.id for part in node.targets if isinstance(part, ast.Name)]
        single = [name for name in names if len(self._assigned.get(name, ())) == 1 and name not in self._fields]
        return len(single) == len(node.targets)

    def value(self, node: ast.AST | None) -> _Place | str | None:
        """Return the path or text that an expression stands for; None if unknown."""
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.Name(id="__file__") if self._located.file is not None:
                return _Place(self._located.file)
            case ast.Name(id="__name__"):
                return self._located.name
            case ast.Name(id="__package__"):
                return self._located.package
            case ast.Name(id=name) if name in self._assigned:
                return self._variable(name)
            case ast.Attribute(value=base, attr="parent"):
                return self._parent(self.value(base))
            case ast.Subscript(value=ast.Attribute(value=base, attr="parents"), slice=ast.Constant(value=int(number))):
                found = self.value(base)
                for _ in range(number + 1):
                    found = self._parent(found)
                return found
            case ast.Subscript(value=ast.Name(id="__path__")) if self._located.folders:
                return _Place(Path(self._located.folders[0]))
            case ast.Attribute(value=base, attr="__file__"):
                return self._outside.file_of(self._outside.module_of(self._located, base))
            case ast.Name() | ast.Attribute():
                reference = chain(node)
                return self._outside.place_of(self._located, reference) if reference else None
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return self._joined(self.value(left), [self.value(right)])
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._text([self.value(left), self.value(right)])
            case ast.JoinedStr(values=parts):
                return self._text(
                    [
                        self.value(getattr(part, "value", None) if isinstance(part, ast.FormattedValue) else part)
                        for part in parts
                    ]
                )
            case ast.Call():
                return self._call(node)
        return None

    def _variable(self, name: str) -> _Place | str | None:
        """Return the last value of a variable; the value before, while the last one is evaluated."""
        number = self._before.get(name, len(self._assigned[name])) - 1
        if number < 0:
            return None
        self._before[name] = number
        found = self.value(self._assigned[name][number])
        self._before[name] = number + 1
        return found

    @staticmethod
    def _parent(found: _Place | str | None) -> _Place | None:
        if not isinstance(found, _Place):
            return None
        return _Place(found.path.parent) if found.complete else found

    @staticmethod
    def _text(parts: list[_Place | str | None]) -> _Place | str | None:
        """Return texts and paths put together as text."""
        if all(isinstance(part, str) for part in parts):
            return "".join(part for part in parts if isinstance(part, str))
        first, *others = parts
        if not isinstance(first, _Place) or not first.complete:
            return first if isinstance(first, _Place) else None
        text = str(first.path)
        for part in others:
            if not isinstance(part, str):
                return _Place(Path(text if text.endswith("/") else os.path.dirname(text)), complete=False)
            text += part
        return _Place(Path(os.path.normpath(text)))

    def _call(self, node: ast.Call) -> _Place | str | None:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = self.value(node.func.value) if isinstance(node.func, ast.Attribute) else None
        values = [self.value(part) for part in node.args]
        first = values[0] if values else None
        if called == "files":
            return self._package(node)
        if called in _READERS and not isinstance(owner, _Place) and len(node.args) > 1:
            return self._joined(self._package(node), values[1:])
        if called == "PackageLoader":
            return self._joined(self._package(node), values[1:] or ["templates"])
        if called in _SAME | {"joinpath", "join"}:
            begin, others = (owner, values) if isinstance(owner, _Place) else (first, values[1:])
            return self._joined(begin, others)
        if called == "dirname":
            return self._parent(first)
        if called in ("with_name", "with_suffix") and isinstance(owner, _Place):
            if not isinstance(first, str):
                return _Place(owner.path.parent, complete=False)
            return _Place(owner.path.with_name(first) if called == "with_name" else owner.path.with_suffix(first))
        if called in ("getfile", "getsourcefile") and self._located.file is not None:
            return _Place(self._located.file)
        return None

    @staticmethod
    def _joined(begin: _Place | str | None, parts: list[_Place | str | None]) -> _Place | str | None:
        if isinstance(begin, str) and all(isinstance(part, str) for part in parts):
            return os.path.join(begin, *(part for part in parts if isinstance(part, str)))
        if not isinstance(begin, _Place):
            return None
        for part in parts:
            begin = begin.join(part)
        return begin

    def _package(self, node: ast.Call) -> _Place | None:
        if not node.args:
            return self._outside.package(self._located.package)
        named = self.value(node.args[0])
        return self._outside.package(named or self._outside.module_of(self._located, node.args[0]))

"""Observation of an asset's function while it runs: what it uses beyond the code that its code version covers.

::

    entered.py       the code objects that are entered
    opened.py        the files that are opened, and the processes that are started
    project_files.py which of them belong to the project
    uncovered.py     names and digests of what the code version does not cover

Statements of a module's top level and of class bodies run when the module is imported. The code version decides which
of them count, so a module counts as uncovered by its import only if no part of it is covered.
"""

import functools
import inspect
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import CodeType
from typing import Any, Final

from ml_assets.code_version.coverage import Coverage
from ml_assets.code_version.entered import entering
from ml_assets.code_version.located import module_file
from ml_assets.code_version.modules import read_module
from ml_assets.code_version.opened import OpenedFiles, opening
from ml_assets.code_version.project_files import ProjectFiles
from ml_assets.code_version.references import WHOLE
from ml_assets.code_version.uncovered import joined_code_version, symbol_at, uncovered_files, uncovered_symbol
from ml_assets.code_version.version import Code
from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.provenance import Observed, Uncovered

__all__ = ["ObservedCall"]

_BODY: Final = "<module>"
_IN_BODY: Final = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
_OTHER_PROCESSES: Final = "code that ran in other Python processes, which the function started"

_only_one = threading.Lock()


class ObservedCall:
    """One call of an asset's function, observed.

    Args:
        function: the asset's function.
        code: its code version, and what that covers.
        apart: folders inside the project that hold no part of it, such as the content store.
    """

    def __init__(self, function: Callable[..., Any], code: Code, apart: Collection[Path] = ()) -> None:
        self._code_version, self._covered = code.version, code.covered or Coverage()
        self._project = ProjectFiles(function, apart)
        self._entered = entering(self._project, self._covers)
        self._files = OpenedFiles(self._project.roots, self._entered.loaded)
        self._unseen: list[str] = []
        self._started_ns = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Observe the block. Only one block of a process is observed at a time."""
        if not _only_one.acquire(blocking=False):
            self._unseen.append("everything, because another step ran in the same process at the same time")
            yield
            return
        processes = _processes_made()
        with ExitStack() as stack:
            stack.callback(_only_one.release)
            stack.enter_context(opening(self._files))
            stack.enter_context(self._entered.observing())
            self._started_ns = time.time_ns()
            yield
        if self._files.forked or _processes_made() != processes:
            self._unseen.append(_OTHER_PROCESSES)

    def observed(self) -> Observed:
        """Return what the function used and its code version does not cover, in a stable order.

        An error is recorded, because the function may have computed for days.
        """
        try:
            return self._compared()
        except Exception as error:
            reason = f"the comparison, which failed with {type(error).__name__}: {error}"
            return Observed(code_version=None, unseen=(*self._unseen, reason))

    def _compared(self) -> Observed:
        symbols, files = self._symbols()
        found: list[Uncovered] = []
        for file, names in sorted(symbols.items()):
            module = self._module_names[file]
            found += [uncovered_symbol(module, name, file) for name in sorted({WHOLE} if WHOLE in names else names)]
        read, changed = self._read()
        found += uncovered_files(self._project, files | read, changed)
        return Observed(
            code_version=joined_code_version(self._code_version, found),
            uncovered=tuple(found),
            unseen=(*self._unseen, *self._entered.unseen),
        )

    def _covers(self, code: CodeType) -> bool:
        file, is_body = Path(code.co_filename), _is_body(code)
        name = _BODY if is_body else code.co_qualname
        return self._covered.covers_code(file, name, code.co_firstlineno)

    def _symbols(self) -> tuple[dict[Path, set[str]], set[str]]:
        """Return the uncovered symbols by the file of their module, and the files of code that is in no module."""
        symbols: dict[Path, set[str]] = {}
        scripts: set[str] = set()
        for code in self._entered.found.values():
            file = Path(code.co_filename)
            if self._covers(code) or (_is_body(code) and _is_empty(file)):
                continue
            if file not in self._module_names:
                scripts.add(str(file))
            else:
                name = WHOLE if _is_body(code) else _symbol_of(code)
                symbols.setdefault(file, set()).add(name)
        for module in self._files.modules:
            started = module_file(module)
            if started is not None and self._project.owns_code(str(started)) and not self._covers_program(started):
                self._module_names[started] = module
                symbols.setdefault(started, set()).add(WHOLE)
        return symbols, scripts

    @functools.cached_property
    def _module_names(self) -> dict[Path, str]:
        """The names of first-party modules by file; without the main program, which has another name elsewhere."""
        names: dict[Path, str] = {file: module.name for file, module in self._covered.modules.items()}
        for name, namespace in self._project.modules():
            if name != "__main__":
                names.setdefault(Path(namespace["__file__"]), name)
        return names

    def _read(self) -> tuple[set[str], set[str]]:
        """Return the uncovered files that the function read, and those of them that have changed since.

        A file that changed during the call without being opened for reading before is the function's own output.
        """
        read: set[str] = set()
        for name in self._files.read:
            file = Path(name)
            covered = self._covers_program(file) if name.endswith(".py") else self._covered.covers_file(file)
            if covered or not self._project.owns_file(name) or not file.is_file():
                continue
            if name in self._files.written or file.stat().st_ctime_ns < self._started_ns:
                read.add(name)
        return read, read & self._files.written

    def _covers_program(self, file: Path) -> bool:
        """Return True if all of a Python file counts."""
        module = self._covered.modules.get(file)
        if module is None or module.symbols is None:
            return module is not None
        syntax = read_module(file)
        return {each.lines for each in (*syntax.statements, *syntax.main)} <= set(module.lines)


def _is_body(code: CodeType) -> bool:
    """Return True for the code of a module or class body, or of a comprehension in it."""
    if "<locals>" in code.co_qualname:
        return False
    return not code.co_flags & inspect.CO_OPTIMIZED or code.co_qualname in _IN_BODY


def _is_empty(file: Path) -> bool:
    """Return True for a module that only imports others, such as the `__init__` of many packages."""
    try:
        module = read_module(file)
    except DefinitionError:
        return False
    return not (module.definitions or module.acting)


def _symbol_of(code: CodeType) -> str:
    try:
        return symbol_at(Path(code.co_filename), code.co_qualname, code.co_firstlineno)
    except DefinitionError:  # The file has changed since it was loaded.
        return code.co_qualname.partition(".")[0]


def _processes_made() -> str:
    """Return the number of process objects that `multiprocessing` has made, as its counter prints it."""
    module = sys.modules.get("multiprocessing.process")
    return str(getattr(module, "_process_counter", "count(1)"))

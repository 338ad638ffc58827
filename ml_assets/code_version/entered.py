"""The first-party code objects that are entered during a block, in every thread of the process.

Python 3.12 and later report each code object once (`sys.monitoring`, with each location disabled after its first
event).

Python 3.11 has no such events. Tracing or profiling would cost every call, and code rewritten with a marker would reach
libraries that compile bytecode, such as Numba. There the interpreter's own counter is read: a code object counts its
first eight entries (``co_warmup``), after which it is optimized. Reading the counters before and after the block costs
nothing in between. Code that was already optimized gets an equal copy, which counts from the start.
"""

import ctypes
import functools
import gc
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Final

from ml_assets.code_version.project_files import ProjectFiles

__all__ = ["EnteredCode", "entering"]

_IS_MONITORED: Final = sys.version_info >= (3, 12)
_TOOL: Final = "ml_assets"
_WARMUP_OFFSET: Final = 52
"""Offset of the 16-bit field ``co_warmup`` in a code object of CPython 3.11, whose layout is final."""
_COLD: Final = -8
_OPTIMIZED: Final = 0
_AROUND_FUNCTIONS: Final = (
    *(CellType, MethodType, classmethod, property, staticmethod),
    *(functools.cached_property, functools.partial, functools.partialmethod),
)
"""Objects that mostly stand between a name and a function."""
_PLAIN: Final = (ModuleType, str, bytes, int, float, complex, type(None), CodeType)
_MOST_OTHERS: Final = 5_000
"""Other objects that are searched for functions, the nearest first."""
_LARGEST_CONTAINER: Final = 1_000


class EnteredCode:
    """The code objects entered so far.

    Attributes:
        unseen: why some code was not observed; empty if all of it was.
    """

    def __init__(self, project: ProjectFiles) -> None:
        self._project = project
        self.found: dict[int, CodeType] = {}
        self.unseen: list[str] = []

    def add(self, code: CodeType) -> None:
        """Add a code object, by identity: comparing code objects would hash their bytecode."""
        self.found[id(code)] = code

    def loaded(self, code: object) -> None:
        """Take note of the code of a module that is about to run."""

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Observe the block."""
        self.unseen.append("this interpreter does not report which functions run")
        yield


def entering(project: ProjectFiles, is_covered: Callable[[CodeType], bool]) -> EnteredCode:
    """Return an observer for this interpreter.

    Args:
        project: determines the first-party code.
        is_covered: returns True for code that need not be observed.
    """
    if _IS_MONITORED:
        return _Monitored(project)
    return _Counted(project, is_covered) if _counts_entries() else EnteredCode(project)


class _Monitored(EnteredCode):
    @contextmanager
    def observing(self) -> Iterator[None]:
        monitoring = sys.monitoring  # type: ignore[attr-defined,unused-ignore] # since Python 3.12
        is_own, add, disable = self._project.owns_code, self.add, monitoring.DISABLE

        def started(code: CodeType, _: int) -> object:
            if is_own(code.co_filename):
                add(code)
            return disable

        # Debuggers, coverage and profilers have reserved ids.
        tool = next((each for each in (4, 3) if monitoring.get_tool(each) is None), None)
        if tool is None:
            self.unseen.append("other tools use all free ids of sys.monitoring, so no function was observed")
            yield
            return
        monitoring.use_tool_id(tool, _TOOL)
        # A generator that began before the block is resumed, not started.
        events = (monitoring.events.PY_START, monitoring.events.PY_RESUME)
        for event in events:
            monitoring.register_callback(tool, event, started)
        # Locations that an earlier block disabled would not report again.
        monitoring.restart_events()
        monitoring.set_events(tool, sum(events))
        try:
            yield
        finally:
            monitoring.set_events(tool, monitoring.events.NO_EVENTS)
            for event in events:
                monitoring.register_callback(tool, event, None)
            monitoring.free_tool_id(tool)


class _Counted(EnteredCode):
    def __init__(self, project: ProjectFiles, is_covered: Callable[[CodeType], bool]) -> None:
        super().__init__(project)
        self._is_covered = is_covered
        self._before: dict[int, tuple[CodeType, int]] = {}

    def loaded(self, code: object) -> None:
        if isinstance(code, CodeType) and self._project.owns_code(code.co_filename):
            self._take(code)

    @contextmanager
    def observing(self) -> Iterator[None]:
        try:
            functions = list(_functions(self._project))
            for function in functions:
                self._take(function.__code__)
            self._renew(functions)
        except Exception as error:  # An unusual object must not fail the step.
            self.unseen.append(f"functions from before the call, because of {type(error).__name__}: {error}")
        try:
            yield
        finally:
            for code, before in list(self._before.values()):
                if _entries(code) != before:
                    self.add(code)

    def _take(self, code: CodeType) -> None:
        """Remember the counters of a code object and of all code inside it."""
        if id(code) not in self._before:
            self._before[id(code)] = (code, _entries(code))
            for inner in _inner(code):
                self._take(inner)

    def _renew(self, functions: Iterable[FunctionType]) -> None:
        """Replace code whose counter has ended by an equal copy, unless it is covered."""
        ended = {
            key for key, (code, count) in self._before.items() if count == _OPTIMIZED and not self._is_covered(code)
        }
        if not ended:
            return
        copies: dict[int, CodeType] = {}
        for function in functions:
            if any(id(code) in ended for code in _tree(function.__code__)):
                _copy(function.__code__, copies)
        for function in functions:
            copy = copies.get(id(function.__code__))
            if copy is not None:
                function.__code__ = copy
                self._take(copy)


def _functions(project: ProjectFiles) -> Iterator[FunctionType]:
    """Return the first-party functions that exist, as far as they can be reached from first-party modules.

    A search of all objects of the process would take a tenth of a second.
    """
    modules = list(project.modules())
    names = {name for name, _ in modules}
    ahead: deque[object] = deque(value for _, namespace in modules for value in list(namespace.values()))
    seen: set[int] = set()
    others = 0
    while ahead:
        each = ahead.popleft()
        # An object may lie about its class, or load something when it is asked for it.
        kind = type(each)
        if id(each) in seen or issubclass(kind, _PLAIN):
            continue
        seen.add(id(each))
        if kind is FunctionType and isinstance(each, FunctionType):
            if project.owns_code(each.__code__.co_filename):
                yield each
            ahead.extend((*(each.__closure__ or ()), *(each.__defaults__ or ()), *vars(each).values()))
            ahead.extend((each.__kwdefaults__ or {}).values())
        elif issubclass(kind, type):
            inside = type.__getattribute__(each, "__dict__")
            ahead.extend(inside.values() if inside.get("__module__") in names else ())
        elif issubclass(kind, _AROUND_FUNCTIONS):
            ahead.extend(gc.get_referents(each))
        elif others < _MOST_OTHERS:
            others += 1
            inside = gc.get_referents(each)
            ahead.extend(inside if len(inside) <= _LARGEST_CONTAINER else ())


def _entries(code: CodeType) -> int:
    return ctypes.c_short.from_address(id(code) + _WARMUP_OFFSET).value


def _inner(code: CodeType) -> Iterator[CodeType]:
    return (constant for constant in code.co_consts if isinstance(constant, CodeType))


def _tree(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in _inner(code):
        yield from _tree(inner)


def _copy(code: CodeType, copies: dict[int, CodeType]) -> CodeType:
    """Return an equal copy of a code object with copies of all code inside it; each is made only once."""
    copy = copies.get(id(code))
    if copy is None:
        constants = tuple(_copy(each, copies) if isinstance(each, CodeType) else each for each in code.co_consts)
        copy = copies[id(code)] = code.replace(co_consts=constants)
    return copy


def _counts_entries() -> bool:
    """Return True if code objects of this interpreter have the counter where it is expected."""
    if sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 11):
        return False

    def entered() -> None:
        """Do nothing."""

    code = entered.__code__.replace()
    entered.__code__ = code
    counts = [_entries(code)]
    for _ in range(2):
        entered()
        counts.append(_entries(code))
    return counts == [_COLD, _COLD + 1, _COLD + 2]

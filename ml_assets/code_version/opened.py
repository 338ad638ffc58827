"""The files that are opened, and the processes that are started, during a block, in every thread of the process.

Python's audit events report them, whichever library opens the file, if it does so through Python. Files that C or C++
code opens by itself, and the files of other processes, are not reported.

An audit hook cannot be removed. One hook is installed by the first observed step of a process. It does nothing while no
block is observed.
"""

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import CodeType
from typing import Any, Final

__all__ = ["OpenedFiles", "opening"]

_PYTHON: Final = re.compile(r"python[\d.]*")
_CREATING: Final = os.O_TRUNC | os.O_EXCL
_SOURCE_READERS: Final = frozenset(
    {
        "_frozen_importlib_external",
        "importlib._bootstrap_external",
        "linecache",
        "pkgutil",
        "runpy",
        "tokenize",
        "zipimport",
    }
)
"""Modules that read source files to run or show them."""

_observed: "OpenedFiles | None" = None
_is_installed = False


class OpenedFiles:
    """The project's files opened so far.

    Args:
        roots: folders of the project, each with a separator at its end.
        loading: called with the code of each module before it runs.

    Attributes:
        read: absolute paths of files that were opened for reading, or passed to another program.
        written: those that were created or emptied first.
        modules: modules that other Python processes were started with (``python -m``).
        forked: True if the process was forked, or started another Python process.
    """

    def __init__(self, roots: tuple[str, ...], loading: Callable[[CodeType], None]) -> None:
        self._roots, self._loading = roots, loading
        self.read: set[str] = set()
        self.written: set[str] = set()
        self.modules: set[str] = set()
        self.forked = False

    def opened(self, event: tuple[Any, ...]) -> None:
        """Note an opened file: path, mode (None for `os.open`) and flags."""
        path, mode, flags = event
        name = self._own(path)
        if name is None:
            return
        if isinstance(mode, str):
            creates, reads = mode[:1] in "wx", mode[:1] == "r"
        else:
            creates, reads = bool(flags & _CREATING), not flags & os.O_WRONLY
        if creates:
            self.written.add(name)
        elif reads and name not in self.written and not (name.endswith(".py") and _reader() in _SOURCE_READERS):
            self.read.add(name)

    def loaded(self, path: object) -> None:
        """Note a native library, a database, or a file that another program gets."""
        name = self._own(path)
        if name is not None and name not in self.written and Path(name).is_file():
            self.read.add(name)

    def executed(self, event: tuple[Any, ...]) -> None:
        """Pass on the code that is about to run."""
        self._loading(event[0])

    def started(self, event: tuple[Any, ...]) -> None:
        """Note the project's files in a command, and the module of ``python -m``."""
        executable, given, folder = event[0], event[1], event[2] if len(event) > 2 else None
        command = [*_words([executable]), *_words(given)]
        if any(_PYTHON.fullmatch(Path(word).name) for word in command):
            self.forked = True
            self.modules.update(after for word, after in pairwise(command) if word == "-m")
        around = os.fsdecode(folder) if isinstance(folder, str | bytes | os.PathLike) else ""
        for word in command:
            self.loaded(Path(around, word))

    def forks(self, _: tuple[Any, ...]) -> None:
        """Note a fork."""
        self.forked = True

    def _own(self, path: object) -> str | None:
        """Return the absolute path of a file in the project; None for any other."""
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        name = os.path.abspath(os.fsdecode(path))
        return name if name.startswith(self._roots) else None


_HANDLERS: Final[dict[str, Callable[[OpenedFiles, tuple[Any, ...]], None]]] = {
    "open": OpenedFiles.opened,
    "exec": OpenedFiles.executed,
    "import": lambda files, event: files.loaded(event[1]),
    "ctypes.dlopen": lambda files, event: files.loaded(event[0]),
    "sqlite3.connect": lambda files, event: files.loaded(event[0]),
    "subprocess.Popen": OpenedFiles.started,
    "os.posix_spawn": OpenedFiles.started,
    "os.exec": OpenedFiles.started,
    "os.system": lambda files, event: files.started(("", *event)),
    "os.fork": OpenedFiles.forks,
    "os.forkpty": OpenedFiles.forks,
}


@contextmanager
def opening(files: OpenedFiles) -> Iterator[None]:
    """Observe the block."""
    global _observed, _is_installed
    if not _is_installed:
        _is_installed = True
        sys.addaudithook(_hook)
    _observed = files
    try:
        yield
    finally:
        _observed = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    files = _observed
    if files is not None and event in _HANDLERS:
        try:
            _HANDLERS[event](files, arguments)
        except Exception:
            return  # An exception would end the operation that is reported.


def _words(command: object) -> list[str]:
    """Return the words of a command, including those of a command line for a shell."""
    given = command if isinstance(command, list | tuple) else [command]
    texts = [os.fsdecode(word) for word in given if isinstance(word, str | bytes | os.PathLike)]
    return [*texts, *(word for text in texts if any(sign in text for sign in " \n;&|<>") for word in _split(text))]


def _split(line: str) -> list[str]:
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    try:
        return list(words)
    except ValueError:  # It is no command line, such as the text of a program.
        return line.split()


def _reader() -> str:
    """Return the name of the module that opens a file."""
    frame = sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__"))

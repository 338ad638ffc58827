"""Files of the project that are read in a block are seen, however they are opened."""

import ctypes
import importlib.resources
import linecache
import os
import runpy
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ml_assets.code_version.opened import OpenedFiles, opening


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.sql", "b.py", "c.db"):
        (tmp_path / name).write_text("")
    return tmp_path


def seen(folder: Path, act: Callable[[Path], object]) -> OpenedFiles:
    files = OpenedFiles((f"{folder}{os.sep}",), lambda code: None)
    with opening(files):
        act(folder)
    return files


def descriptor(path: Path, flags: int) -> None:
    os.close(os.open(path, flags))


def appended(folder: Path) -> None:
    with (folder / "a.sql").open("a") as file:
        file.write("x")


def failing(act: Callable[..., object], *arguments: str) -> None:
    with pytest.raises(OSError, match=r"(?i)no such file|file too short"):
        act(*arguments)


def from_within(folder: Path) -> None:
    before = Path.cwd()
    os.chdir(folder)
    try:
        Path("a.sql").read_text()
    finally:
        os.chdir(before)


READS: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "text": (lambda f: (f / "a.sql").read_text(), {"a.sql"}),
    "name as bytes": (lambda f: open(os.fsencode(f / "a.sql"), "rb").close(), {"a.sql"}),
    "for update": (lambda f: (f / "a.sql").open("r+").close(), {"a.sql"}),
    "descriptor": (lambda f: descriptor(f / "a.sql", os.O_RDONLY), {"a.sql"}),
    "relative path": (from_within, {"a.sql"}),
    "path with dots": (lambda f: (f / ".." / f.name / "a.sql").read_text(), {"a.sql"}),
    "resource": (lambda f: importlib.resources.files("json").joinpath("__init__.py").read_text(), set()),
    "source as data": (lambda f: (f / "b.py").read_text(), {"b.py"}),
    "source that is run": (lambda f: runpy.run_path(str(f / "b.py")), set()),
    "source that is shown": (lambda f: linecache.getlines(str(f / "b.py")), set()),
    "database": (lambda f: sqlite3.connect(f / "c.db").close(), {"c.db"}),
    "library": (lambda f: failing(ctypes.CDLL, str(f / "a.sql")), {"a.sql"}),
    "argument of a program": (lambda f: subprocess.run(["true", f / "a.sql"], check=True), {"a.sql"}),
    "argument below a folder": (lambda f: subprocess.run(["true", "a.sql"], cwd=f, check=True), {"a.sql"}),
    "argument in a shell": (lambda f: os.system(f"true {f}/a.sql"), {"a.sql"}),
    "argument of a shell": (lambda f: subprocess.run(f"true {f}/a.sql; true", shell=True, check=True), {"a.sql"}),
    "missing file": (lambda f: failing((f / "no").read_text), {"no"}),
    "appended": (appended, set()),
    "emptied": (lambda f: descriptor(f / "a.sql", os.O_WRONLY | os.O_TRUNC), set()),
    "written, then read": (lambda f: [(f / "new").write_text("x"), (f / "new").read_text()], set()),
    "read, then written": (lambda f: [(f / "a.sql").read_text(), (f / "a.sql").write_text("x")], {"a.sql"}),
    "another folder": (lambda f: Path(__file__).read_text(), set()),
}


@pytest.mark.parametrize("case", READS)
def test_files_are_seen(folder: Path, case: str) -> None:
    act, expected = READS[case]
    assert seen(folder, act).read == {str(folder / name) for name in expected}


def test_files_that_are_written_are_known(folder: Path) -> None:
    files = seen(folder, lambda f: [(f / "a.sql").read_text(), (f / "a.sql").write_text("x")])
    assert files.written == {str(folder / "a.sql")}


def test_python_programs_are_known_with_their_module(folder: Path) -> None:
    files = seen(folder, lambda f: subprocess.run([sys.executable, "-m", "this"], check=True, capture_output=True))
    assert (files.modules, files.forked) == ({"this"}, True)
    files = seen(folder, lambda f: os.system(f"cd {f} && {sys.executable} -m this >/dev/null"))
    assert (files.modules, files.forked) == ({"this"}, True)
    assert not seen(folder, lambda f: subprocess.run(["true"], check=True)).forked


def test_a_fork_is_known(folder: Path) -> None:
    def fork(_: Path) -> None:
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)

    assert seen(folder, fork).forked


def test_nothing_is_seen_after_the_block(folder: Path) -> None:
    files = seen(folder, lambda f: None)
    (folder / "a.sql").read_text()
    assert files.read == set()


def test_an_unexpected_event_does_not_disturb_the_program(folder: Path) -> None:
    def act(_: Path) -> None:
        sys.audit("open")
        sys.audit("import", 1)
        sys.audit("subprocess.Popen", None, None)

    assert seen(folder, act).read == set()

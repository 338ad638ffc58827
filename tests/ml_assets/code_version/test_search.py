import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ml_assets.code_version.version import code_version
from tests.ml_assets.code_version.changes import CHANGES, Change


class Project:
    """A folder with small modules, which are imported anew after each edit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known = set(sys.modules)

    def write(self, program: str) -> None:
        """Write the files of a program; see `changes`."""
        first, *others = program.lstrip("\n").split("\n== ")
        for part in (f"a.py\n{first}", *others):
            name, _, text = part.partition("\n")
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")

    def version(self) -> str:
        """Import ``a`` and return the code version of its function ``f``."""
        self.forget()
        importlib.invalidate_caches()
        function: Callable[..., Any] = importlib.import_module("a").f
        return code_version(function)

    def forget(self) -> None:
        """Drop the modules of the folder."""
        for name in sys.modules.keys() - self._known:
            if str(getattr(sys.modules[name], "__file__", None) or getattr(sys.modules[name], "__path__", "")).count(
                str(self.folder)
            ):
                del sys.modules[name]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Project(tmp_path)
    yield made
    made.forget()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name.replace(" ", "_"))
def test_version_changes_if_and_only_if_a_result_may(project: Project, change: Change) -> None:
    assert change.program.count(change.old) == 1, "the text to replace is not unique"
    project.write(change.program)
    before = project.version()
    assert project.version() == before
    project.write(change.program.replace(change.old, change.new))
    assert (project.version() != before) is change.changed

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ml_assets.code_version.version import code_version

TABLE = Path(__file__).with_name("changes.txt")


@dataclass(frozen=True)
class Change:
    """A replacement of a text in the files of a small program; see ``changes.txt``."""

    name: str
    old: str
    new: str
    files: dict[str, str]
    changed: bool

    @classmethod
    def parse(cls, block: str) -> "Change":
        head, *parts = re.split(r"^--- ", block, flags=re.MULTILINE)
        title, *replaced = head.splitlines()
        name, _, expected = title.rpartition(": ")
        assert expected in ("changed", "same"), title
        old, new = ("\n".join(line[2:] for line in replaced if line.startswith(sign)) for sign in "-+")
        files = dict(part.split("\n", 1) for part in parts)
        assert sum(text.count(old) for text in files.values()) == 1, f"{title}: the text to replace is not unique"
        return cls(name, old, new, files, expected == "changed")

    @property
    def after(self) -> dict[str, str]:
        return {name: text.replace(self.old, self.new) for name, text in self.files.items()}


CHANGES = [Change.parse(re.sub(r"^={20} .*\n", "", block, flags=re.M)) for block in TABLE.read_text().split("### ")[1:]]


class Project:
    """A folder with small modules, which are imported anew after each edit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known = set(sys.modules)

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def function(self) -> Callable[..., Any]:
        """Import ``a`` anew and return its function ``f``."""
        self.forget()
        importlib.invalidate_caches()
        function: Callable[..., Any] = importlib.import_module("a").f
        return function

    def forget(self) -> None:
        """Drop the modules of the folder."""
        for name in sys.modules.keys() - self._known:
            found = vars(sys.modules[name])
            if str(self.folder) in f"{found.get('__file__')} {found.get('__path__')}":
                del sys.modules[name]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Project(tmp_path)
    yield made
    made.forget()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_version_changes_if_and_only_if_a_result_may(project: Project, change: Change) -> None:
    project.write(change.files)
    before = code_version(project.function())
    project.write(change.after)
    assert (code_version(project.function()) != before) is change.changed

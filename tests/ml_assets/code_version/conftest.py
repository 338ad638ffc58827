"""A small project on the import path, as files of its own."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

WriteProject = Callable[..., ModuleType]


@pytest.fixture
def write_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteProject]:
    """Write files of a project, by path, and return its imported module ``shop.asset``."""
    known = set(sys.modules)

    def write(**files: str) -> ModuleType:
        for name, text in {"shop/__init__.py": "", **files}.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module("shop.asset")

    monkeypatch.syspath_prepend(str(tmp_path))
    yield write
    for name in set(sys.modules) - known:
        if name.partition(".")[0] == "shop":
            del sys.modules[name]

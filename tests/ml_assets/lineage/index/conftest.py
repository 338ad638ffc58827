"""An index of a small log, for tests that query or damage it."""

from pathlib import Path

import pytest

from ml_assets.lineage.index.databases import SqliteDatabase
from ml_assets.lineage.index.index import LineageIndex
from tests.ml_assets.lineage.index.indexed import require_equal, whole_graph
from tests.ml_assets.lineage.index.made_up import small_log


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lineage.db"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def index(file: Path, said: list[str]) -> LineageIndex:
    """The up-to-date index of a small log, in a file."""
    index = LineageIndex(small_log(), SqliteDatabase(file), said.append)
    require_equal(whole_graph(index), small_log().graph())
    assert said == []
    return index

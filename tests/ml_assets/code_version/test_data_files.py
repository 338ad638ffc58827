import logging
from pathlib import Path

import pytest

from ml_assets.code_version import data_files
from ml_assets.code_version.version import coverage
from tests.ml_assets.code_version.test_search import Project, project

__all__ = ["project"]

READS = "from pathlib import Path\ndef f(name): return (Path(__file__).parent / 'data' / name).read_text()\n"


def test_covered_files_have_absolute_paths(project: Project) -> None:
    project.write({"a.py": READS, "data/x.csv": "1", "data/deep/y.csv": "2", "data/z.py": "", "other.csv": "3"})
    folder = project.folder / "data"
    assert coverage(project.function()).files == {folder / "x.csv", folder / "deep/y.csv"}


def test_files_around_the_project_are_not_searched_below(project: Project) -> None:
    code = READS.replace(" / 'data'", "")
    project.write({"a.py": code, "x.csv": "1", "var/y.csv": "2", ".env": "3"})
    assert coverage(project.function()).files == {project.folder / "x.csv"}


@pytest.mark.parametrize(("limit", "value"), [("_MOST_FILES", 2), ("_MOST_BYTES", 3)])
def test_a_large_folder_is_bounded_and_named(
    project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, limit: str, value: int
) -> None:
    monkeypatch.setattr(data_files, limit, value)
    project.write({"a.py": READS, "data/1": "a", "data/2": "ab", "data/3": "abc"})
    with caplog.at_level(logging.WARNING):
        found = coverage(project.function()).files
    assert found == {project.folder / "data" / name for name in ("1", "2")}
    assert f"Only the first 2 files below {project.folder / 'data'} count" in caplog.text


def test_a_native_library_is_covered(project: Project) -> None:
    project.write({"a.py": "def f():\n    import fast\n    return fast.x\n", "fast.abi3.so": "code"})
    assert coverage(project.function()).files == {Path(project.folder / "fast.abi3.so")}

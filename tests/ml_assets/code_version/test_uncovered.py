"""Digests follow what runs: not layout and comments, but each statement of a symbol, and the bytes of files."""

from pathlib import Path
from typing import Any

import pytest

from ml_assets.code_version import uncovered
from ml_assets.code_version.project_files import ProjectFiles
from ml_assets.code_version.uncovered import joined_code_version, present, uncovered_files, uncovered_symbol
from ml_assets.resources.provenance import Uncovered, UncoveredKind
from tests.ml_assets.code_version.conftest import WriteProject

SOURCE = "import os\nX = 1\ndef f():\n    return X\n\ndef g():\n    return 2\nos.umask(18)\n"


def digests(file: Path, text: str) -> dict[str, str | None]:
    file.write_text(text)
    names = ("f", "g", "*", "<statements>", "absent")
    return {name: uncovered_symbol("m", name, file).digest for name in names}


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (("def f():", "def f():  # a comment\n"), set()),
        (("return X", "return -X"), {"f", "*"}),
        (("return 2", "return 3"), {"g", "*"}),
        (("X = 1", "X = 2"), {"*"}),
        (("import os", "import shutil as os"), {"*"}),
        (("umask(18)", "umask(19)"), {"<statements>", "*"}),
        (("def f():", "@os.fspath\ndef f():"), {"f", "<statements>", "*"}),
    ],
)
def test_a_digest_follows_the_statements_of_its_symbol(tmp_path: Path, change: Any, changed: set[str]) -> None:
    before = digests(tmp_path / "before.py", SOURCE)
    after = digests(tmp_path / "after.py", SOURCE.replace(*change))
    assert {name for name in before if before[name] != after[name]} == changed
    assert before["absent"] is None


def test_a_file_that_is_no_python_has_no_digest(tmp_path: Path) -> None:
    assert set(digests(tmp_path / "broken.py", "def (").values()) == {None}


def test_many_files_of_a_folder_are_named_as_the_folder(write_project: WriteProject, tmp_path: Path) -> None:
    module = write_project(**{"shop/asset.py": "def f(): pass\n", "shop/one/0.txt": "0"})
    many = tmp_path / "shop" / "many"
    many.mkdir()
    for number in range(21):
        (many / f"{number}.txt").write_text(str(number))
    files = [str(file) for file in sorted((tmp_path / "shop").rglob("*.txt"))]
    found = uncovered_files(ProjectFiles(module.f), files, set())
    assert [(item.kind, item.name) for item in found] == [
        (UncoveredKind.FOLDER, "shop/many"),
        (UncoveredKind.FILE, "shop/one/0.txt"),
    ]
    assert present(module.f, found) == tuple(found)
    (many / "3.txt").write_text("another")
    folder, file = present(module.f, found)
    assert folder.digest not in (None, found[0].digest)
    assert file == found[1]


def test_what_is_gone_changed_meanwhile_or_large_has_no_digest(
    write_project: WriteProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = write_project(**{"shop/asset.py": "def f(): pass\n", "shop/a.txt": "a", "shop/other.py": "X = 1\n"})
    file = tmp_path / "shop" / "a.txt"
    project = ProjectFiles(module.f)
    (known,) = uncovered_files(project, [str(file)], set())
    (changing,) = uncovered_files(project, [str(file)], {str(file)})
    assert (known.digest is None, changing.digest) == (False, None)
    code = uncovered_symbol("shop.other", "X", tmp_path / "shop" / "other.py")
    assert present(module.f, [known, code]) == (known, code)
    monkeypatch.setattr(uncovered, "_LARGEST_BYTES", 0)
    assert [item.digest for item in present(module.f, [known])] == [None]
    monkeypatch.undo()
    file.unlink()
    (tmp_path / "shop" / "other.py").unlink()
    assert [item.digest for item in present(module.f, [known, code])] == [None, None]


def test_the_joined_code_version_follows_the_version_and_every_digest() -> None:
    def item(name: str, digest: str | None) -> Uncovered:
        return Uncovered(kind=UncoveredKind.FILE, name=name, digest=digest)

    first, second = item("a", "1"), item("b", "2")
    joined = joined_code_version("v", [first, second])
    assert joined_code_version("v", []) == "v"
    assert joined == joined_code_version("v", [second, first])
    others = [("w", [first, second]), ("v", [first]), ("v", [first, item("b", "3")]), ("v", [first, item("c", "2")])]
    assert len({joined, "v", *(joined_code_version(*other) for other in others)}) == 6
    assert joined_code_version("v", [first, item("b", None)]) is None

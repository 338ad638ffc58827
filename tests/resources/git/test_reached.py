"""What the record says of the commits of an asset's code."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ml_assets.resources.git.reached import content_ids, read_reached_source
from ml_assets.resources.git.source import code_digest
from ml_assets.resources.provenance import Source
from tests.resources.git.test_source import commit_all, git, home, repository  # noqa: F401


def reached(*files: Path) -> Source:
    return read_reached_source(files[0], content_ids(files))


@pytest.fixture
def module(repository: Path) -> Path:  # noqa: F811
    return repository / "package" / "module.py"


def test_code_of_one_clean_repository_is_its_commit(module: Path, repository: Path) -> None:  # noqa: F811
    found = reached(module, repository / "other.py")
    assert found == Source(commit=git(repository, "rev-parse", "HEAD"), dirty=False)


def _ignore(module: Path) -> Path:
    (module.parents[1] / "build").mkdir()
    file = module.parents[1] / "build" / "made.py"
    file.write_text("x = 1\n")
    return file


def _untracked(module: Path) -> Path:
    file = module.parent / "new.py"
    file.write_text("x = 1\n")
    return file


def _staged(module: Path) -> Path:
    file = _untracked(module)
    git(module.parents[1], "add", str(file))
    return file


def _edited(module: Path) -> Path:
    module.write_text("x = 2\n")
    return module


def _assumed(module: Path) -> Path:
    git(module.parents[1], "update-index", "--assume-unchanged", "package/module.py")
    return _edited(module)


def _skipped(module: Path) -> Path:
    git(module.parents[1], "update-index", "--skip-worktree", "package/module.py")
    return _edited(module)


def _outside(module: Path) -> Path:
    file = module.parents[2] / "loose.py"
    file.write_text("x = 1\n")
    return file


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_ignore, "is ignored by git"),
        (_untracked, "is in no commit"),
        (_staged, "is in no commit"),
        (_edited, "differs from the commit"),
        (_assumed, "differs from the commit, and is marked as assume-unchanged"),
        (_skipped, "differs from the commit, and is marked as skip-worktree"),
        (_outside, "is in no git repository"),
    ],
)
def test_file_in_no_commit_is_named_with_the_reason(module: Path, change: Callable[[Path], Path], reason: str) -> None:
    file = change(module)
    found = reached(module, file)
    assert found.dirty
    assert found.uncommitted == (f"{file} {reason}",)
    before = found.diff_digest
    file.write_text("x = 3\n")
    assert reached(module, file).diff_digest not in (None, before)


def test_code_that_was_loaded_before_it_was_committed_is_not_the_commit(module: Path, repository: Path) -> None:  # noqa: F811
    loaded = content_ids([module])
    module.write_text("x = 2\n")
    commit_all(repository)
    found = read_reached_source(module, loaded)
    assert (found.dirty, found.uncommitted) == (True, (f"{module} was changed after it was loaded",))
    assert reached(module).dirty is False


def test_code_that_was_loaded_from_the_commit_may_change_afterwards(module: Path) -> None:
    loaded = content_ids([module])
    module.write_text("x = 2\n")
    found = read_reached_source(module, loaded)
    # The checkout has a difference, and the code that runs has none.
    assert (found.dirty, found.uncommitted) == (True, ())


def test_every_repository_of_the_code_is_recorded(module: Path, repository: Path, tmp_path: Path) -> None:  # noqa: F811
    second = tmp_path / "second"
    git(tmp_path, "clone", "-q", str(repository), str(second))
    file = second / "other.py"
    (tmp_path / "link.py").symlink_to(module)
    found = reached(module, file, tmp_path / "link.py")
    commit = git(second, "rev-parse", "HEAD")
    assert found.others == (Source(commit=commit, dirty=False, repository=str(repository)),)
    assert (found.dirty, found.uncommitted) == (False, ())
    file.write_text("y = 2\n")
    found = reached(module, file)
    assert (found.dirty, found.others[0].dirty) == (True, True)
    assert found.uncommitted == (f"{file} differs from the commit",)


def test_filters_and_line_ends_of_git_are_no_differences(repository: Path) -> None:  # noqa: F811
    (repository / ".gitattributes").write_text("*.txt text eol=crlf\n*.up filter=up\n")
    git(repository, "config", "filter.up.clean", "tr a-z A-Z")
    files = [repository / "query.txt", repository / "name.up"]
    files[0].write_bytes(b"select\r\n")
    files[1].write_text("name\n")
    commit_all(repository)
    assert git(repository, "show", "HEAD:name.up") == "NAME"
    assert reached(repository / "other.py", *files).dirty is False
    files[0].write_bytes(b"select 2\r\n")
    assert reached(repository / "other.py", *files).uncommitted == (f"{files[0]} differs from the commit",)


def test_names_that_git_could_take_for_patterns_are_names(repository: Path) -> None:  # noqa: F811
    files = [repository / name for name in (":(top)a.py", "[ab].py", "näme\n.py", '"quoted".py')]
    for file in files:
        file.write_text("x = 1\n")
    assert len(reached(*files).uncommitted) == 4
    commit_all(repository)
    assert reached(*files).dirty is False


def test_submodules_worktrees_and_repositories_by_sha256(repository: Path, tmp_path: Path) -> None:  # noqa: F811
    git(repository, "worktree", "add", "-q", str(tmp_path / "tree"))
    assert reached(tmp_path / "tree" / "other.py").dirty is False
    outer = tmp_path / "outer"
    git(tmp_path, "init", "-q", "--object-format=sha256", "outer")
    (outer / "main.py").write_text("x = 1\n")
    commit_all(outer)
    assert reached(outer / "main.py").dirty is False
    _edited(outer / "main.py")
    assert reached(outer / "main.py").uncommitted
    git(repository, "submodule", "--quiet", "add", str(tmp_path / "tree"), "inner")
    commit_all(repository)
    found = reached(repository / "other.py", repository / "inner" / "other.py")
    assert (found.dirty, len(found.others), found.uncommitted) == (False, 1, ())


def test_an_image_covers_the_folders_of_its_source_file(tmp_path: Path) -> None:
    for folder in ("ml_assets", "extra"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "module.py").write_text("x = 1\n")
    code = {"ml_assets": code_digest(tmp_path / "ml_assets")}
    (tmp_path / "source.json").write_text(
        f'{{"commit": "{"0" * 40}", "dirty": false, "code": {str(code).replace(chr(39), chr(34))}}}'
    )
    covered, other = tmp_path / "ml_assets" / "module.py", tmp_path / "extra" / "module.py"
    assert reached(covered) == Source(commit="0" * 40, dirty=False)
    assert reached(covered, other).uncommitted == (f"{other} is not covered by {tmp_path / 'source.json'}",)


def test_without_a_repository_nothing_is_claimed(tmp_path: Path) -> None:
    (tmp_path / "module.py").touch()
    assert reached(tmp_path / "module.py", tmp_path / "missing.py") == Source()


def test_untracked_data_costs_no_more_than_git_status(repository: Path) -> None:  # noqa: F811
    data = repository / "data"
    data.mkdir()
    for number in range(300):
        (data / str(number)).write_bytes(b"")
    os.truncate(data / "0", 1 << 33)
    module = repository / "other.py"
    began = time.perf_counter()
    subprocess.run(["git", "-C", str(repository), "status"], capture_output=True, check=True)
    git_status = time.perf_counter() - began
    began = time.perf_counter()
    assert reached(module).dirty
    # Reading the eight gigabytes would take seconds.
    assert time.perf_counter() - began < 1 + 10 * git_status

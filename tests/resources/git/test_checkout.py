"""A commit in its own folder, from a real repository."""

import subprocess
from pathlib import Path

import pytest

from ml_assets.resources.errors import SourceError
from ml_assets.resources.git.checkout import checked_out, repository_of
from ml_assets.resources.git.source import read_source


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two commits of a file, the first of which is on no branch, and an uncommitted change."""
    folder = tmp_path / "repository"
    (folder / "inside").mkdir(parents=True)
    _git(folder, "init", "--quiet")
    for text in ("then", "now"):
        (folder / "inside" / "file").write_text(text)
        _git(folder, "add", ".")
        _git(folder, "commit", "--quiet", "--message", text, *(["--amend"] if text == "now" else []))
    (folder / "inside" / "file").write_text("changed")
    return folder


def test_commit_is_there_whole_and_clean_and_gone_afterwards(repository: Path) -> None:
    past = _git(repository, "rev-parse", "HEAD@{1}")
    before = sorted(str(path) for path in repository.rglob("*"))
    with checked_out(repository, past) as copy, checked_out(repository, past) as other:
        assert copy != other
        assert (copy / "inside" / "file").read_text() == "then"
        source = read_source(copy / "inside")
        assert (source.commit, source.dirty) == (past, False)
    assert not copy.exists()
    assert sorted(str(path) for path in repository.rglob("*")) == before
    assert (repository / "inside" / "file").read_text() == "changed"


def test_commit_that_is_not_there_is_named(repository: Path) -> None:
    with (
        pytest.raises(SourceError, match=f"does not have commit {'0' * 40}. Next: fetch it with git"),
        checked_out(repository, "0" * 40),
    ):
        pass


def test_repository_of_a_folder_is_its_top(repository: Path, tmp_path: Path) -> None:
    assert repository_of(repository / "inside") == repository
    with pytest.raises(SourceError, match="not a git repository"):
        repository_of(tmp_path)

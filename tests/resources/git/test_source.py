import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ml_assets.resources.errors import SourceError
from ml_assets.resources.git.source import code_digest, read_source
from ml_assets.resources.provenance import Source

IDENTITY = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always"]


def git(folder: Path, *arguments: str) -> str:
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", *IDENTITY, "-C", str(folder), *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def commit_all(folder: Path) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "All")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, so that no user's configuration has an effect."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def repository(tmp_path: Path, home: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "module.py").write_text("x = 1\n")
    (folder / "other.py").write_text("y = 1\n")
    (folder / ".gitignore").write_text("build/\n")
    git(folder, "init", "-q")
    commit_all(folder)
    return folder


def test_a_clean_checkout_is_its_commit(repository: Path) -> None:
    git(repository, "remote", "add", "origin", "https://me:secret@example.org/team/project.git?token=secret")
    (repository / "build").mkdir()
    (repository / "build" / "ignored").touch()
    expected = Source(
        commit=git(repository, "rev-parse", "HEAD"),
        dirty=False,
        repository="https://example.org/team/project.git",
    )
    assert read_source(repository / "package" / "module.py") == expected
    assert read_source(repository / "package") == expected


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("git@example.org:team/project.git", "git@example.org:team/project.git"),
        ("ssh://git:secret@example.org:22/project", "ssh://git@example.org:22/project"),
        ("https://token@example.org/project", "https://example.org/project"),
        ("/srv/project.git", "/srv/project.git"),
    ],
)
def test_an_address_is_kept_without_its_secrets(repository: Path, address: str, kept: str) -> None:
    git(repository, "remote", "add", "origin", address)
    assert read_source(repository).repository == kept


def _edit(folder: Path) -> None:
    (folder / "other.py").write_text("y = 2\n")


def _stage(folder: Path) -> None:
    (folder / "other.py").write_text("y = 3\n")
    git(folder, "add", "other.py")


def _delete(folder: Path) -> None:
    (folder / "other.py").unlink()


def _make_executable(folder: Path) -> None:
    (folder / "other.py").chmod(0o755)


def _add(folder: Path) -> None:
    (folder / "new folder").mkdir()
    (folder / "new folder" / "nëw\n.py").write_text("z = 1\n")


def _add_other_content(folder: Path) -> None:
    (folder / "new folder").mkdir()
    (folder / "new folder" / "nëw\n.py").write_text("z = 2\n")


def _link(folder: Path) -> None:
    (folder / "link").symlink_to("nowhere")


def _rename(folder: Path) -> None:
    git(folder, "mv", "other.py", "renamed.py")


def _nest(folder: Path) -> None:
    (folder / "nested").mkdir()
    git(folder / "nested", "init", "-q")
    (folder / "nested" / "file").write_text("1")


CHANGES = [_edit, _stage, _delete, _make_executable, _add, _add_other_content, _link, _rename, _nest]


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_difference_has_the_same_digest_in_another_clone(
    repository: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    clone = tmp_path / "elsewhere" / "clone"
    clone.parent.mkdir()
    git(tmp_path, "clone", "-q", str(repository), str(clone))
    change(repository)
    found = read_source(repository)
    assert found.dirty
    assert found.diff_digest
    assert read_source(clone).diff_digest is None
    change(clone)
    assert read_source(clone).diff_digest == found.diff_digest


def test_different_differences_have_different_digests(repository: Path, tmp_path: Path) -> None:
    digests = set()
    for number, change in enumerate(CHANGES):
        copy = tmp_path / str(number)
        shutil.copytree(repository, copy)
        change(copy)
        digests.add(read_source(copy).diff_digest)
    # The content of an untracked file is not read.
    assert len(digests) == len(CHANGES) - 1


def test_an_edit_between_two_reads_is_seen(repository: Path) -> None:
    assert read_source(repository).dirty is False
    _edit(repository)
    first = read_source(repository)
    (repository / "other.py").write_text("y = 4\n")
    second = read_source(repository)
    assert first.dirty
    assert second.dirty
    assert first.diff_digest != second.diff_digest


def test_reading_writes_nothing_into_the_repository(repository: Path) -> None:
    (repository / "other.py").touch()
    _add(repository)
    index = (repository / ".git" / "index").read_bytes()
    before = {path: path.lstat().st_mtime_ns for path in repository.rglob("*")}
    read_source(repository)
    assert {path: path.lstat().st_mtime_ns for path in repository.rglob("*")} == before
    assert (repository / ".git" / "index").read_bytes() == index


def test_git_variables_of_the_user_do_not_matter(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_source(repository)
    for name in (
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PAGER",
        "GIT_EXTERNAL_DIFF",
    ):
        monkeypatch.setenv(name, str(tmp_path / "absent"))
    assert read_source(repository) == expected


def test_monitors_and_settings_of_the_user_do_not_matter(repository: Path, home: Path) -> None:
    spy = home / "spy"
    spy.write_text(f"#!/bin/sh\ntouch {home}/called\n")
    spy.chmod(0o755)
    _add(repository)
    expected = read_source(repository)
    (home / ".gitconfig").write_text(
        f"[core]\n\tfsmonitor = {spy}\n\tpager = {spy}\n[status]\n\tshowUntrackedFiles = no\n\trelativePaths = true\n"
        "[diff]\n\tignoreSubmodules = all\n\trenames = true\n[color]\n\tui = always\n"
    )
    assert read_source(repository / "package") == expected
    assert not (home / "called").exists()


def test_a_repository_of_somebody_else_is_read(repository: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to somebody else")
    for path in (repository, *repository.rglob("*")):
        os.chown(path, 12345, 12345)
    assert read_source(repository).dirty is False


def test_a_repository_without_a_commit_has_none(tmp_path: Path, home: Path) -> None:
    git(tmp_path, "init", "-q", "empty")
    assert read_source(tmp_path / "empty") == Source(commit=None, dirty=False)
    (tmp_path / "empty" / "file").touch()
    assert read_source(tmp_path / "empty").dirty


def test_a_change_inside_a_submodule_counts(repository: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    git(tmp_path, "init", "-q", "outer")
    git(outer, "submodule", "--quiet", "add", str(repository), "inner")
    commit_all(outer)
    assert read_source(outer).dirty is False
    digests = set()
    for text in ("y = 2\n", "y = 3\n"):
        (outer / "inner" / "other.py").write_text(text)
        assert read_source(outer).dirty
        digests.add(read_source(outer).diff_digest)
    commit_all(outer / "inner")
    digests.add(read_source(outer).diff_digest)
    assert len(digests) == 3
    assert None not in digests


def test_a_linked_worktree_is_a_checkout_too(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "tree"))
    assert read_source(tmp_path / "tree").commit == git(repository, "rev-parse", "HEAD")


def test_an_image_says_what_it_was_built_from(tmp_path: Path) -> None:
    (tmp_path / "ml_assets").mkdir()
    baked = Source(commit="0" * 40, dirty=True, diff_digest="sha256:" + "1" * 64)
    (tmp_path / "source.json").write_text(baked.model_dump_json())
    assert read_source(tmp_path / "ml_assets" / "datasets.py") == baked
    (tmp_path / "source.json").write_text('{"commit": 3')
    with pytest.raises(SourceError, match=r"source\.json"):
        read_source(tmp_path)


def test_code_that_came_over_an_images_is_dirty(tmp_path: Path) -> None:
    package = tmp_path / "ml_assets"
    (package / "__pycache__").mkdir(parents=True)
    (package / "module.py").write_text("x = 1\n")
    built = Source(commit="0" * 40, dirty=False)
    baked = built.model_dump() | {"code": {"ml_assets": code_digest(package)}}
    (tmp_path / "source.json").write_text(json.dumps(baked))
    (package / "__pycache__" / "module.pyc").write_bytes(b"bytecode")
    assert read_source(package / "module.py") == built
    (package / "module.py").write_text("x = 2\n")
    changed = read_source(package / "module.py")
    (package / "added.py").touch()
    added = read_source(package / "module.py")
    assert (changed.commit, changed.dirty, added.dirty) == (built.commit, True, True)
    assert len({changed.diff_digest, added.diff_digest, None}) == 3
    (package / "added.py").unlink()
    (package / "module.py").write_text("x = 1\n")
    assert read_source(package) == built


def test_without_a_repository_nothing_is_claimed(tmp_path: Path) -> None:
    assert read_source(tmp_path) == Source()


def test_a_repository_that_cannot_be_read_is_an_error(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / ".git" / "HEAD").write_text("nonsense")
    with pytest.raises(SourceError, match="git status"):
        read_source(repository)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="install git"):
        read_source(repository)

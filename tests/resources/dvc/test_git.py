"""Content that users track with real git and real ``dvc``."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ml_assets.resources.dvc.git import store_of, tracked_version
from ml_assets.resources.errors import InputError, SettingsError


class _Repository:
    """A git and DVC repository whose default remote is the relative directory ``../remote``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = os.environ | {
            "DVC_SITE_CACHE_DIR": str(folder.parent / "site"),
            "DVC_GLOBAL_CONFIG_DIR": str(folder.parent / "site"),
            "DVC_NO_ANALYTICS": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }

    def make(self) -> None:
        self.folder.mkdir()
        self.run("git", "init", "--quiet", "--initial-branch", "main")
        self.run("git", "config", "user.name", "Test")
        self.run("git", "config", "user.email", "test@localhost")
        self.dvc("init", "--quiet")
        self.dvc("remote", "add", "--default", "store", "../remote")
        self.commit()

    def run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.folder, env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def dvc(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def commit(self) -> str:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "change")
        return self.run("git", "rev-parse", "HEAD")

    def track(self, content: bytes) -> str:
        (self.folder / "raw").mkdir(exist_ok=True)
        (self.folder / "raw" / "table.csv").write_bytes(content)
        self.dvc("add", "--quiet", "raw/table.csv")
        self.dvc("push", "--quiet")
        return self.commit()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> _Repository:
    """A repository to copy, because each call of ``dvc`` costs a second."""
    made = _Repository(tmp_path_factory.mktemp("empty") / "repository")
    made.make()
    return made


@pytest.fixture
def repository(empty: _Repository, tmp_path: Path) -> _Repository:
    shutil.copytree(empty.folder, tmp_path / "repository")
    return _Repository(tmp_path / "repository")


def test_each_revision_has_its_own_version_and_content(repository: _Repository, tmp_path: Path) -> None:
    commits = [repository.track(b"one"), repository.track(b"twelve")]
    (repository.folder / "raw" / "table.csv.dvc").write_text("changed and not committed")
    old = tracked_version(repository.folder, "raw/table.csv.dvc", "HEAD~1")
    new = tracked_version(repository.folder, "raw/table.csv.dvc")
    assert [old.commit, new.commit] == commits
    assert (new.size, new.files, new.path) == (6, 1, "raw/table.csv")
    store = store_of(repository.folder, None, str(tmp_path / "cache"))
    assert store.fetch(old.version).read_bytes() == b"one"
    assert store.fetch(new.version).read_bytes() == b"twelve"
    assert (repository.folder / "raw" / "table.csv.dvc").read_text() == "changed and not committed"


def test_directory_is_read_from_a_folder_in_the_repository(repository: _Repository, tmp_path: Path) -> None:
    for name in ("a", "b/c"):
        (repository.folder / "raw" / "many" / name).parent.mkdir(parents=True, exist_ok=True)
        (repository.folder / "raw" / "many" / name).write_text(name)
    repository.dvc("add", "--quiet", "raw/many")
    repository.dvc("push", "--quiet")
    repository.commit()
    found = tracked_version(repository.folder / "raw", "many.dvc", "main")
    assert (found.size, found.files, found.path) == (4, 2, "many")
    tree = store_of(repository.folder / "raw", "store", str(tmp_path / "cache")).fetch(found.version)
    assert (tree / "b" / "c").read_text() == "b/c"


def test_what_git_does_not_have_is_told(repository: _Repository, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"raw/none\.dvc at HEAD .* does not exist"):
        tracked_version(repository.folder, "raw/none.dvc")
    with pytest.raises(InputError, match="no commit 'none'"):
        tracked_version(repository.folder, "raw/none.dvc", "none")
    with pytest.raises(InputError, match="no commit '--all'"):
        tracked_version(repository.folder, "raw/none.dvc", "--all")
    with pytest.raises(InputError, match="cannot be read as a git repository"):
        tracked_version(tmp_path, "raw/none.dvc")
    with pytest.raises(InputError, match="cannot be read as a git repository"):
        tracked_version(tmp_path / "none", "raw/none.dvc")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("outs:\n- path: x\n", "it has no md5"),
        ("outs:\n- md5: d41d8cd98f00b204e9800998ecf8427e\n  path: x\n", "DVC 2"),
        ("outs:\n- path: x\n  hash: md5\n  cloud:\n    store:\n      version_id: v\n", "the cloud's versions"),
        (
            "deps:\n- path: x\n  repo:\n    url: /other\nouts:\n- md5: d41d8cd98f00b204e9800998ecf8427e\n  path: x\n",
            "another repository",
        ),
        ("outs: []\n", "not a .dvc file"),
        ("- 1\n", "not a .dvc file"),
        ("a: b: c\n", "not a .dvc file"),
        ("stages:\n  train:\n    cmd: x\n", "not a .dvc file"),
        ("", "not a .dvc file"),
        ("outs:\n- md5: short\n  hash: md5\n  path: x\n", "it has no md5"),
    ],
)
def test_file_without_a_version_is_told(text: str, reason: str, repository: _Repository) -> None:
    (repository.folder / "x.dvc").write_text(text)
    repository.run("git", "add", "--force", "x.dvc")
    repository.run("git", "commit", "--quiet", "--message", "x")
    with pytest.raises(InputError, match=reason):
        tracked_version(repository.folder, "x.dvc")


def test_remote_options_come_from_all_of_dvcs_configuration(repository: _Repository, tmp_path: Path) -> None:
    repository.dvc("remote", "add", "cloud", "s3://bucket/path")
    repository.dvc("remote", "modify", "cloud", "endpointurl", "http://127.0.0.1:9")
    repository.dvc("remote", "modify", "--local", "cloud", "secret_access_key", "secret")
    store = store_of(repository.folder, "cloud", str(tmp_path / "cache"))
    assert store.remote == "s3://bucket/path"
    assert store.options.items() >= {"endpointurl": "http://127.0.0.1:9", "secret_access_key": "secret"}.items()


def test_remote_that_cannot_be_used_is_told(repository: _Repository, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="remote 'none' doesn't exist"):
        store_of(repository.folder, "none", str(tmp_path / "cache"))
    with pytest.raises(SettingsError, match="not a DVC repository"):
        store_of(tmp_path, None, str(tmp_path / "cache"))
    repository.dvc("remote", "add", "versions", "s3://bucket/path")
    repository.dvc("remote", "modify", "versions", "version_aware", "true")
    with pytest.raises(SettingsError, match="cloud's versions"):
        store_of(repository.folder, "versions", str(tmp_path / "cache"))
    repository.dvc("remote", "default", "--unset")
    with pytest.raises(SettingsError, match="no default remote"):
        store_of(repository.folder, None, str(tmp_path / "cache"))

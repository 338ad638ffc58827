"""Lists of checksums, which `md5sum` reads too."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from ml_assets.backup.checksums import damaged_files, read_checksums, write_checksums

NAMES = ["plain", "deep/er/with space", "back\\slash", "new\nline", "\u00fc", "not utf-8 \udcff"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(name, errors="surrogateescape")
    return tmp_path / "tree"


def sums(folder: Path) -> dict[str, str]:
    return {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in NAMES}


def test_list_comes_back_and_md5sum_accepts_it(folder: Path, tmp_path: Path) -> None:
    digest = write_checksums(tmp_path / "tree.md5", sums(folder))
    assert read_checksums(tmp_path / "tree.md5", digest) == sums(folder)
    command = ["md5sum", "--check", "--strict", "--quiet", str(tmp_path / "tree.md5")]
    assert subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0
    (folder / "new\nline").write_text("altered")
    assert subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 1


def test_list_that_was_altered_is_refused(folder: Path, tmp_path: Path) -> None:
    digest = write_checksums(tmp_path / "tree.md5", sums(folder))
    (tmp_path / "tree.md5").write_bytes((tmp_path / "tree.md5").read_bytes()[:-40])
    with pytest.raises(ValueError, match="it was altered"):
        read_checksums(tmp_path / "tree.md5", digest)
    (tmp_path / "tree.md5").write_text("garbage\n")
    with pytest.raises(ValueError, match="it has the line"):
        read_checksums(tmp_path / "tree.md5")


def test_each_damaged_file_is_named(folder: Path) -> None:
    expected = sums(folder) | {"../outside": "0" * 32}
    (folder / "plain").write_text("PLAIN")
    (folder / "\u00fc").unlink()
    told: list[tuple[int, int]] = []
    found = dict(damaged_files(folder, expected, lambda done, whole: told.append((done, whole))))
    assert found == {
        "plain": "it was altered",
        "\u00fc": "it is missing",
        "../outside": "its name is not inside the backup",
    }
    assert told[-1] == (len(expected), len(expected))

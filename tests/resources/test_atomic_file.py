"""A file is written completely or left unchanged."""

from pathlib import Path

import pytest

from ml_assets.resources.atomic_file import replacing, write_atomically


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("content", ["é\r\n", "é\r\n".encode()])
def test_content_is_what_was_given(tmp_path: Path, content: str | bytes, durable: bool) -> None:
    file = tmp_path / "file"
    write_atomically(file, content, durable=durable)
    assert file.read_bytes() == "é\r\n".encode()
    assert list(tmp_path.iterdir()) == [file]


def test_new_file_has_the_usual_permissions_and_an_existing_one_keeps_its_own(tmp_path: Path) -> None:
    file, usual = tmp_path / "file", tmp_path / "usual"
    usual.touch()
    write_atomically(file, "first")
    assert file.stat().st_mode == usual.stat().st_mode
    file.chmod(0o604)
    write_atomically(file, "second")
    assert file.stat().st_mode & 0o777 == 0o604


def test_reader_sees_the_old_content_until_all_of_the_new_is_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    with replacing(file) as unfinished:
        unfinished.write_text("ne")
        assert file.read_text() == "old"
        unfinished.write_text("new")
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")

    def write_half() -> None:
        with replacing(file) as unfinished:
            unfinished.write_text("ne")
            raise RuntimeError("half of it")

    with pytest.raises(RuntimeError, match="half"):
        write_half()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_folder_that_is_missing_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", "text")


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with replacing(file) as first, replacing(file) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert file.read_text() == "first"

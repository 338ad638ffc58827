"""Receipts notice every modification of a verified object."""

import os
from pathlib import Path

from ml_assets.resources.dvc.deposit import STAMP_NS
from ml_assets.resources.dvc.receipts import Receipts

VALUE = "ab" * 16


def stamped(file: Path, content: bytes = b"content") -> str:
    file.write_bytes(content)
    os.utime(file, ns=(STAMP_NS, STAMP_NS))
    return str(file)


def test_only_the_unmodified_file_is_covered(tmp_path: Path) -> None:
    cache, path = tmp_path / "cache", stamped(tmp_path / "file")
    assert not Receipts(cache).cover(VALUE, path)
    Receipts(cache).add([(VALUE, path)])
    assert Receipts(cache).cover(VALUE, path)
    assert not Receipts(cache).cover("ab" + "0" * 30, path)
    stamped(tmp_path / "file", b"CONTENT")
    assert not Receipts(cache).cover(VALUE, path)
    assert not Receipts(cache).cover(VALUE, str(tmp_path / "nothing"))


def test_file_may_have_several_copies(tmp_path: Path) -> None:
    paths = [stamped(tmp_path / str(number)) for number in range(5)]
    for path in paths:
        Receipts(tmp_path / "cache").add([(VALUE, path)])
    assert [Receipts(tmp_path / "cache").cover(VALUE, path) for path in paths] == [False, True, True, True, True]


def test_lost_or_damaged_receipts_cover_nothing(tmp_path: Path) -> None:
    cache, path = tmp_path / "cache", stamped(tmp_path / "file")
    Receipts(cache).add([(VALUE, path)])
    [shard] = (cache / "receipts").iterdir()
    for content in ("", "[]", "{", '{"x": 3}', f'{{"{VALUE}": 3}}'):
        shard.write_text(content)
        assert not Receipts(cache).cover(VALUE, path)
    Receipts(cache).add([(VALUE, path)])
    Receipts(cache).remove([VALUE])
    assert not Receipts(cache).cover(VALUE, path)

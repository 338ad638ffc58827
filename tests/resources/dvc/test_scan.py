"""Listings of directories: every field is checked, because others may have written them."""

import hashlib
import json
from typing import Any

import pytest

from ml_assets.resources.dvc.scan import is_inside, listing, read_listing, salvaged_hashes

MD5 = "0123456789abcdef" * 2


def test_listing_comes_back() -> None:
    hashes = {"a": MD5, "deep/er/\u00fc\udcff\n": MD5, "deep/b": "f" * 32, "..a/...": MD5}
    assert read_listing(listing(hashes)) == hashes
    assert read_listing(b"[]") == {}


@pytest.mark.parametrize("md5", ["../../../victim", "", MD5.upper(), MD5 + ".dir", MD5[1:], MD5 + "\n", None, 3, [MD5]])
def test_hash_that_is_no_md5_is_refused(md5: Any) -> None:
    with pytest.raises(ValueError, match="is not an MD5"):
        read_listing(json.dumps([{"md5": md5, "relpath": "a"}]).encode())


@pytest.mark.parametrize(
    "relpath",
    [
        "/etc/passwd",
        "../up",
        "a/../../up",
        "a//b",
        "a/",
        "",
        ".",
        "a/.",
        "a\0b",
        "x" * 256,
        "\ud800",
        None,
        3,
        ["a"],
        {},
    ],
)
def test_path_that_is_not_inside_is_refused(relpath: Any) -> None:
    with pytest.raises(ValueError, match="not inside"):
        read_listing(json.dumps([{"md5": MD5, "relpath": relpath}]).encode())
    assert not isinstance(relpath, str) or not is_inside(relpath)


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"{}", b"null", b"3", b'"a"', b"[1]", b"[[]]", b"[null]", b"[{}]", b"\xff", b"[" * 100_000],
)
def test_content_that_is_no_listing_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_listing(content)


@pytest.mark.parametrize(("first", "second"), [("a", "a"), ("a", "a/b"), ("a/b/c", "a"), ("a/b", "a/b/c/d")])
def test_paths_that_cannot_exist_together_are_refused(first: str, second: str) -> None:
    with pytest.raises(ValueError, match=r"twice|as a file and as a folder"):
        read_listing(json.dumps([{"md5": MD5, "relpath": each} for each in (first, second)]).encode())


@pytest.mark.parametrize(
    ("content", "is_complete"),
    [(b"", False), (b"\0" * 9, False), (b'[{"md5": "%s' % MD5.encode(), False), (b"garbage", True), (b"no " * 9, True)],
)
def test_damaged_listing_still_tells_its_hashes(content: bytes, is_complete: bool) -> None:
    assert salvaged_hashes(content, "f" * 32 + ".dir") == ({MD5} if MD5.encode() in content else set(), is_complete)
    stored = hashlib.md5(content).hexdigest() + ".dir"
    assert salvaged_hashes(content, stored)[1]

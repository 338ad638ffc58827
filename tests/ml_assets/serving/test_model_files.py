import hashlib
from pathlib import Path

import pytest

from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import ModelUnavailable
from ml_assets.resources.identity import Digest
from ml_assets.serving.model_files import SERVED, cached, directory_listing, read_directory
from tests.ml_assets.serving.models import write_model


def test_digest_of_a_directory_is_the_one_that_dvc_computes(model_directory: Path, tmp_path: Path) -> None:
    (model_directory / "é").mkdir(exist_ok=True)
    (model_directory / "é" / "a b.txt").write_text("nested, with a name that is not ASCII")
    store = DvcStore(cache=str(tmp_path / "cache"), remote=str(tmp_path / "remote"))
    assert read_directory(model_directory).digest == Digest.parse(store.put(model_directory).version)


def test_only_what_is_served_is_read(tmp_path: Path) -> None:
    version = write_model(tmp_path / "model", listed=True)
    (tmp_path / "model" / "model.skops").unlink()
    content = read_directory(tmp_path / "model", Digest.parse(version))
    assert set(content.files) == set(SERVED)


def test_directory_that_has_another_digest_is_refused(model_directory: Path) -> None:
    with pytest.raises(ModelUnavailable, match="data version is md5:0"):
        read_directory(model_directory, Digest("md5", "0" * 32 + ".dir"))


def test_file_that_is_not_the_one_listed_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, listed=True)
    (tmp_path / "model.onnx").write_bytes(b"another graph")
    with pytest.raises(ModelUnavailable, match=r"model\.onnx has the MD5 .* is recorded"):
        read_directory(tmp_path)


@pytest.mark.parametrize(
    ("listing", "said"),
    [
        (b"[]", "has no model.onnx"),
        (b"{", "listing.json is malformed: Expecting property name"),
        (b'[{"md5": 1}]', "listing.json is malformed: 'relpath'"),
    ],
)
def test_listing_without_a_model_is_refused(listing: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "listing.json").write_bytes(listing)
    with pytest.raises(ModelUnavailable, match=said):
        read_directory(tmp_path)


def test_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=str(tmp_path / "none")):
        read_directory(tmp_path / "none")


def test_what_was_fetched_once_is_kept(tmp_path: Path) -> None:
    fetched = []

    def fetch(name: str, md5: str) -> bytes:
        fetched.append(name)
        return b"content"

    md5 = hashlib.md5(b"content").hexdigest()
    for _ in range(2):
        assert cached(tmp_path, fetch)("model.onnx", md5) == b"content"
    assert fetched == ["model.onnx"]


def test_what_went_bad_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    md5 = hashlib.md5(b"content").hexdigest()
    get = cached(tmp_path, lambda name, md5: b"content")
    get("model.onnx", md5)
    [file] = [path for path in tmp_path.rglob("*") if path.is_file()]
    file.write_bytes(b"rotten")
    assert get("model.onnx", md5) == b"content"
    assert file.read_bytes() == b"content"


def test_cache_that_cannot_be_written_to_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert cached(tmp_path / "file", lambda name, md5: b"content")("model.onnx", "0" * 32) == b"content"


def test_listing_does_not_depend_on_the_order_of_files(tmp_path: Path) -> None:
    for folder, names in (("one", "ab"), ("two", "ba")):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text(name)
    assert directory_listing(tmp_path / "one") == directory_listing(tmp_path / "two")

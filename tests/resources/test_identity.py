import re
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.resources.identity import AssetPartition, Digest, ImageReference, ModelUri

MD5 = "d41d8cd98f00b204e9800998ecf8427e"
SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

digests = st.one_of(
    st.from_regex(r"md5:[0-9a-f]{32}(\.dir)?", fullmatch=True), st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
)


@settings(deadline=None)
@given(digests)
def test_digest_is_written_as_it_is_read(text: str) -> None:
    assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (MD5, "algorithm:value"),
        (f"sha1:{MD5}", "must be one of md5, sha256"),
        (f"md5:{MD5[:-1]}", "32 hexadecimal digits"),
        (f"md5:{MD5.upper()}", "32 hexadecimal digits"),
        (f"md5:{MD5}\n", "32 hexadecimal digits"),
        (f"sha256:{MD5}", "64 hexadecimal digits"),
        (f"sha256:{SHA256}.dir", "only an md5 digest"),
        ("", "algorithm:value"),
    ],
)
def test_what_is_no_digest_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        Digest.parse(text)


def test_digest_of_bytes_is_their_sha256() -> None:
    assert Digest.of_bytes(b"") == Digest("sha256", SHA256)


def test_directory_is_known_by_its_mark() -> None:
    directory, file = Digest("md5", f"{MD5}.dir"), Digest("md5", MD5)
    assert (directory.is_directory, file.is_directory) == (True, False)
    assert directory != file
    assert directory.hex == file.hex == MD5
    assert directory.short == MD5[:12]


def test_values_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Digest("md5", MD5).value = "x"  # type: ignore[misc]


@pytest.mark.parametrize("registry", ["registry.example", "localhost:5000", "127.0.0.1:5000"])
@pytest.mark.parametrize("repository", ["train", "library/python", "a/b-c/d__e.f"])
def test_image_reference_is_written_as_it_is_read(registry: str, repository: str) -> None:
    text = f"{registry}/{repository}@sha256:{SHA256}"
    found = ImageReference.parse(text)
    assert (found.registry, found.repository, found.digest.hex) == (registry, repository, SHA256)
    assert str(found) == text


@pytest.mark.parametrize(
    "text",
    [
        "registry.example/train:latest",
        f"registry.example/train:latest@sha256:{SHA256}",
        f"train@sha256:{SHA256}",
        f"registry.example/Train@sha256:{SHA256}",
        f"registry.example/train@md5:{MD5}",
        f"registry.example/@sha256:{SHA256}",
        f"/train@sha256:{SHA256}",
    ],
)
def test_image_by_tag_or_without_registry_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # each of the parts has its own message
        ImageReference.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flights", AssetPartition("flights")),
        ("warehouse/flights@2013-01-01", AssetPartition("warehouse/flights", "2013-01-01")),
        ("flights@a|b", AssetPartition("flights", "a|b")),
        ("flights@a@b", AssetPartition("flights", "a@b")),
    ],
)
def test_asset_partition_is_written_as_it_is_read(text: str, expected: AssetPartition) -> None:
    assert AssetPartition.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize("text", ["", "@x", "flights@"])
def test_what_names_no_asset_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="key or key@partition"):
        AssetPartition.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models:/flight-delay/12", ModelUri("flight-delay", version="12")),
        ("models:/a b/12", ModelUri("a b", version="12")),
        ("models:/flight delay@champion", ModelUri("flight delay", alias="champion")),
        ("models:/a@b/3", ModelUri("a@b", version="3")),
    ],
)
def test_model_uri_is_written_as_it_is_read(text: str, expected: ModelUri) -> None:
    assert ModelUri.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "delay/1",
        "models:/delay",
        "models:/delay/latest",
        "models:/a/b/3",
        "models:/@a",
        "models:/a@",
        "models:/a@b@c",
    ],
)
def test_what_names_no_registered_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="written models:/name/version or models:/name@alias"):
        ModelUri.parse(text)


def test_model_uri_has_a_version_or_an_alias() -> None:
    with pytest.raises(ValueError, match="a version or an alias"):
        ModelUri("delay")
    with pytest.raises(ValueError, match="a version or an alias"):
        ModelUri("delay", "1", "champion")

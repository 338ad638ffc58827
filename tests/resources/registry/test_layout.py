"""Images copied from one real registry to another through files."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_assets.resources.errors import BackupError, RegistryError
from ml_assets.resources.identity import Digest, ImageReference
from ml_assets.resources.registry.client import RegistryClient
from ml_assets.resources.registry.layout import ImageLayout
from tests.conftest import require_program
from tests.oci_registry import OciRegistry

REPOSITORY = "ml/train"


@pytest.fixture
def other_registry(tmp_path: Path) -> Iterator[OciRegistry]:
    """The registry to restore to."""
    program = require_program("docker-registry", "docker-registry")
    with OciRegistry.started(program, tmp_path / "other") as registry:
        yield registry


@pytest.fixture
def layout(oci_registry: OciRegistry, tmp_path: Path) -> ImageLayout:
    client = RegistryClient(docker_config=tmp_path / "no-config.json")
    return ImageLayout(tmp_path / "layout", client, oci_registry.host, REPOSITORY)


def at(registry: OciRegistry, tmp_path: Path) -> ImageLayout:
    """Return the layout in the same folder, for the same repository of another registry."""
    client = RegistryClient(docker_config=tmp_path / "no-config.json")
    return ImageLayout(tmp_path / "layout", client, registry.host, REPOSITORY)


def index_of_two(registry: OciRegistry, tag: str) -> str:
    platforms = {
        "linux/amd64": registry.push_image(REPOSITORY, "amd64"),
        "linux/arm64": registry.push_image(REPOSITORY, "arm64", architecture="arm64"),
    }
    return registry.push_index(REPOSITORY, tag, platforms)


def test_images_come_back_with_their_digests_under_their_tags(
    oci_registry: OciRegistry, other_registry: OciRegistry, layout: ImageLayout, tmp_path: Path
) -> None:
    index = index_of_two(oci_registry, "latest")
    oci_registry.push_image(REPOSITORY, "of-somebody-else", labels={"not": "ours"})
    oci_registry.push_image(REPOSITORY, index.replace(":", "-") + ".sig", labels={"signs": index})
    assert layout.save([Digest.parse(index)]) == []
    at(other_registry, tmp_path).restore()
    client = RegistryClient(docker_config=tmp_path / "no-config.json")
    found = client.find(f"{other_registry.host}/{REPOSITORY}:latest")
    assert found is not None
    assert str(found.reference.digest) == index
    assert set(found.platforms) == {"linux/amd64", "linux/arm64"}
    assert set(client.tags(other_registry.host, REPOSITORY)) == {"latest", index.replace(":", "-") + ".sig"}
    platform = client.resolve(f"{other_registry.host}/{REPOSITORY}:latest", "linux/arm64").reference
    assert client.configuration(platform).platform == "linux/arm64"


def test_image_whose_tag_was_overwritten_is_saved_by_its_digest(
    oci_registry: OciRegistry, other_registry: OciRegistry, layout: ImageLayout, tmp_path: Path
) -> None:
    old = oci_registry.push_image(REPOSITORY, "v1", labels={"build": "1"})
    oci_registry.push_image(REPOSITORY, "v1", labels={"build": "2"})
    assert layout.save([Digest.parse(old)]) == []
    assert len(layout) == 1
    at(other_registry, tmp_path).restore()
    client = RegistryClient(docker_config=tmp_path / "no-config.json")
    assert client.labels(ImageReference(other_registry.host, REPOSITORY, Digest.parse(old))) == {"build": "1"}


def test_image_that_is_gone_is_named_and_the_rest_is_saved(oci_registry: OciRegistry, layout: ImageLayout) -> None:
    there, gone = Digest.parse(oci_registry.push_image(REPOSITORY, "v1")), Digest.of_bytes(b"gone")
    assert layout.save([gone, there]) == [gone]
    assert len(layout) == 1


def test_repository_that_is_not_there_has_no_images(layout: ImageLayout) -> None:
    assert layout.save([]) == []
    assert len(layout) == 0


def test_what_is_there_is_not_copied_again(oci_registry: OciRegistry, layout: ImageLayout, tmp_path: Path) -> None:
    digest = oci_registry.push_image(REPOSITORY, "v1")
    layout.save([Digest.parse(digest)])
    blobs = {file: file.stat().st_mtime_ns for file in (tmp_path / "layout" / "blobs").rglob("*") if file.is_file()}
    assert any(file.name == digest.removeprefix("sha256:") for file in blobs)
    layout.save([Digest.parse(digest)])
    assert {file: file.stat().st_mtime_ns for file in blobs} == blobs


def test_altered_layer_is_neither_saved_nor_restored(
    oci_registry: OciRegistry, other_registry: OciRegistry, layout: ImageLayout, tmp_path: Path
) -> None:
    digest = oci_registry.push_image(REPOSITORY, "v1")
    layout.save([Digest.parse(digest)])
    blobs = tmp_path / "layout" / "blobs" / "sha256"
    layer = json.loads((blobs / digest.removeprefix("sha256:")).read_bytes())["layers"][0]["digest"]
    (blobs / layer.removeprefix("sha256:")).write_bytes(b"something else")
    with pytest.raises(RegistryError, match="does not match the digest"):
        at(other_registry, tmp_path).restore()
    (blobs / layer.removeprefix("sha256:")).unlink()
    oci_registry.blob_file(layer).write_bytes(b"something else")
    with pytest.raises(RegistryError, match="does not match the digest"):
        layout.save([Digest.parse(digest)])
    assert not (blobs / layer.removeprefix("sha256:")).exists()


@pytest.mark.parametrize("content", [None, "{", '{"manifests": [{"digest": "sha256:00"}]}', '{"manifests": 3}'])
def test_folder_that_is_no_layout_is_refused(content: str | None, layout: ImageLayout, tmp_path: Path) -> None:
    (tmp_path / "layout").mkdir()
    if content is not None:
        (tmp_path / "layout" / "index.json").write_text(content)
    with pytest.raises(BackupError, match="cannot be read as an OCI image layout"):
        layout.restore()

"""Names under which runtimes report an image, compared with a real registry."""

from pathlib import Path

import pytest
import requests

from ml_assets.executors.image_check import image_check
from ml_assets.placement import Placement
from ml_assets.resources.registry.client import RegistryClient
from tests.oci_registry import OciRegistry

STRANGER = "sha256:" + "0" * 64


@pytest.fixture
def digests(oci_registry: OciRegistry) -> dict[str, str]:
    """An index, its manifests for two platforms, and the configuration of the first."""
    found = {
        "linux/amd64": oci_registry.push_image("ml/train", "amd64"),
        "linux/arm64": oci_registry.push_image("ml/train", "arm64", architecture="arm64"),
    }
    index = oci_registry.push_index("ml/train", "latest", found)
    manifest = requests.get(
        f"http://{oci_registry.host}/v2/ml/train/manifests/{found['linux/amd64']}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
        timeout=20,
    ).json()
    return found | {"index": index, "configuration": manifest["config"]["digest"]}


@pytest.fixture
def client(tmp_path: Path) -> RegistryClient:
    return RegistryClient(docker_config=tmp_path / "no-config.json", timeout=20)


def placement(image: str, index: str | None = None) -> Placement:
    return Placement(step="s", image=image, index_digest=index, pool="cpu", cpus=1, memory="1Gi")


@pytest.mark.parametrize("asked", ["index", "linux/amd64"])
@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("{host}/ml/train@{digest}", "linux/amd64"),
        ("docker-pullable://{host}/ml/train@{digest}", "linux/amd64"),
        ("{digest}", "configuration"),
    ],
)
def test_same_image_under_another_name_is_the_same(
    oci_registry: OciRegistry, client: RegistryClient, digests: dict[str, str], asked: str, said: str, name: str
) -> None:
    where = placement(f"{oci_registry.host}/ml/train@{digests[asked]}")
    assert image_check(client)(said.format(host=oci_registry.host, digest=digests[name]), where) is True


def test_index_that_was_recorded_is_known_without_the_registry(client: RegistryClient) -> None:
    where = placement(f"127.0.0.1:1/ml/train@{STRANGER}", index="sha256:" + "1" * 64)
    check = image_check(client)
    assert check(STRANGER, where) is True
    assert check("sha256:" + "1" * 64, where) is True


def test_other_image_is_told(oci_registry: OciRegistry, client: RegistryClient, digests: dict[str, str]) -> None:
    where = placement(f"{oci_registry.host}/ml/train@{digests['index']}")
    assert image_check(client)(f"{oci_registry.host}/ml/train@{STRANGER}", where) is False


def test_other_platform_of_one_manifest_is_another_image(
    oci_registry: OciRegistry, client: RegistryClient, digests: dict[str, str]
) -> None:
    where = placement(f"{oci_registry.host}/ml/train@{digests['linux/amd64']}")
    assert image_check(client)(digests["linux/arm64"], where) is False


def test_nothing_is_claimed_where_nobody_says(client: RegistryClient) -> None:
    where = placement(f"127.0.0.1:1/ml/train@{STRANGER}")
    assert image_check(client)("sha256:" + "2" * 64, where) is None
    assert image_check(client)("python:3.11", where) is None

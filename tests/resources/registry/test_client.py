"""Reads from a real registry; the servers in this file only send answers that a real one never would."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ml_assets.resources.errors import RegistryError
from ml_assets.resources.identity import Digest, ImageReference
from ml_assets.resources.registry.client import RegistryClient
from tests.oci_registry import INDEX, MANIFEST, OciRegistry


@pytest.fixture
def client(tmp_path: Path) -> RegistryClient:
    return RegistryClient(docker_config=tmp_path / "no-config.json", timeout=20)


@pytest.fixture
def index(oci_registry: OciRegistry) -> dict[str, str]:
    """An index of two platforms and an attestation, as BuildKit pushes it."""
    digests = {
        "linux/amd64": oci_registry.push_image("ml/train", "amd64"),
        "linux/arm64/v8": oci_registry.push_image("ml/train", "arm64", architecture="arm64", variant="v8"),
        "unknown/unknown": oci_registry.push_image("ml/train", "attestation", architecture="unknown"),
    }
    return digests | {"index": oci_registry.push_index("ml/train", "latest", digests)}


def test_tag_of_an_index_resolves_to_the_platforms_manifest_and_keeps_the_index(
    oci_registry: OciRegistry, client: RegistryClient, index: dict[str, str]
) -> None:
    resolved = client.resolve(f"{oci_registry.host}/ml/train:latest", "linux/arm64")
    assert str(resolved.reference) == f"{oci_registry.host}/ml/train@{index['linux/arm64/v8']}"
    assert str(resolved.index_digest) == index["index"]
    assert resolved.platform == "linux/arm64"


def test_registry_is_reached_where_settings_say_and_keeps_its_name(oci_registry: OciRegistry, tmp_path: Path) -> None:
    name = "127.0.0.1:1"
    client = RegistryClient(docker_config=tmp_path / "no-config.json", reached_at={name: oci_registry.host})
    digest = oci_registry.push_image("ml/train", "v1")
    assert str(client.resolve(f"{name}/ml/train:v1").reference) == f"{name}/ml/train@{digest}"


def test_tag_of_one_manifest_has_no_index(oci_registry: OciRegistry, client: RegistryClient) -> None:
    digest = oci_registry.push_image("ml/train", "v1")
    resolved = client.resolve(f"{oci_registry.host}/ml/train:v1")
    assert str(resolved.reference.digest) == digest
    assert resolved.index_digest is None


def test_name_by_digest_resolves_after_its_tag_was_overwritten(
    oci_registry: OciRegistry, client: RegistryClient
) -> None:
    first = oci_registry.push_image("ml/train", "v1", labels={"build": "1"})
    second = oci_registry.push_image("ml/train", "v1", labels={"build": "2"})
    assert str(client.resolve(f"{oci_registry.host}/ml/train:v1").reference.digest) == second
    assert str(client.resolve(f"{oci_registry.host}/ml/train@{first}").reference.digest) == first


def test_platforms_leave_attestations_out(
    oci_registry: OciRegistry, client: RegistryClient, index: dict[str, str]
) -> None:
    published = client.find(f"{oci_registry.host}/ml/train:latest")
    assert published is not None
    assert published.is_index
    assert set(published.platforms) == {"linux/amd64", "linux/arm64"}


def test_missing_platform_is_refused_and_names_those_that_exist(
    oci_registry: OciRegistry, client: RegistryClient, index: dict[str, str]
) -> None:
    with pytest.raises(RegistryError, match="does not support linux/s390x; its platforms: linux/amd64, linux/arm64"):
        client.resolve(f"{oci_registry.host}/ml/train:latest", "linux/s390x")


def test_single_manifest_of_another_platform_is_refused(oci_registry: OciRegistry, client: RegistryClient) -> None:
    oci_registry.push_image("ml/train", "arm", architecture="arm64")
    with pytest.raises(RegistryError, match="does not support linux/amd64"):
        client.resolve(f"{oci_registry.host}/ml/train:arm")


def test_configuration_has_labels_platform_and_a_digest_of_its_own(
    oci_registry: OciRegistry, client: RegistryClient
) -> None:
    labels = {"org.opencontainers.image.revision": "abc"}
    oci_registry.push_image("ml/train", "v1", labels=labels)
    reference = client.resolve(f"{oci_registry.host}/ml/train:v1").reference
    configuration = client.configuration(reference)
    assert configuration.labels == labels
    assert configuration.platform == "linux/amd64"
    assert oci_registry.blob_file(str(configuration.digest)).exists()
    assert configuration.digest != reference.digest


def test_image_without_labels_has_none(oci_registry: OciRegistry, client: RegistryClient) -> None:
    oci_registry.push_image("ml/train", "v1")
    assert client.labels(client.resolve(f"{oci_registry.host}/ml/train:v1").reference) == {}


def test_missing_image_is_found_as_none_and_resolving_it_fails(
    oci_registry: OciRegistry, client: RegistryClient
) -> None:
    name = f"{oci_registry.host}/ml/none:v1"
    assert client.find(name) is None
    with pytest.raises(RegistryError, match=r"does not have .*ml/none:v1"):
        client.resolve(name)


def test_altered_manifest_is_refused(oci_registry: OciRegistry, client: RegistryClient) -> None:
    digest = oci_registry.push_image("ml/train", "v1")
    file = oci_registry.blob_file(digest)
    file.write_bytes(file.read_bytes().replace(b"schemaVersion", b"schemaversion"))
    with pytest.raises(RegistryError, match=f"expected {digest}"):
        client.find(f"{oci_registry.host}/ml/train:v1")


def test_altered_configuration_is_refused(oci_registry: OciRegistry, client: RegistryClient) -> None:
    oci_registry.push_image("ml/train", "v1", labels={"build": "1"})
    reference = client.resolve(f"{oci_registry.host}/ml/train:v1").reference
    file = oci_registry.blob_file(str(client.configuration(reference).digest))
    file.write_bytes(file.read_bytes().replace(b'"1"', b'"2"'))
    with pytest.raises(RegistryError, match="expected sha256:"):
        client.labels(reference)


def test_referrers_come_from_the_fallback_tag_where_the_api_is_missing(
    oci_registry: OciRegistry, client: RegistryClient
) -> None:
    digest = oci_registry.push_image("ml/train", "v1")
    signature = oci_registry.push_image("ml/train", "signature", artifactType="application/x-signature")
    sbom = oci_registry.push_image("ml/train", "sbom", artifactType="application/x-sbom")
    entries = [_descriptor(signature, "application/x-signature"), _descriptor(sbom, "application/x-sbom")]
    oci_registry.push_manifest(
        "ml/train", digest.replace(":", "-"), {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    )
    reference = ImageReference.parse(f"{oci_registry.host}/ml/train@{digest}")
    assert [str(each.digest) for each in client.referrers(reference)] == [signature, sbom]
    assert [str(each.digest) for each in client.referrers(reference, "application/x-sbom")] == [sbom]


def test_image_that_nothing_refers_to_has_no_referrers(oci_registry: OciRegistry, client: RegistryClient) -> None:
    digest = oci_registry.push_image("ml/train", "v1")
    assert client.referrers(ImageReference.parse(f"{oci_registry.host}/ml/train@{digest}")) == ()


def test_referrers_api_is_read_to_its_last_page(client: RegistryClient) -> None:
    subject = Digest.of_bytes(b"subject")
    pages = {
        f"/v2/ml/train/referrers/{subject}": ("1", f'</v2/ml/train/referrers/{subject}?page=2>; rel="next"'),
        f"/v2/ml/train/referrers/{subject}?page=2": ("2", ""),
    }

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        name, link = pages[path]
        entry = _descriptor(str(Digest.of_bytes(name.encode())), "application/x-sbom")
        return 200, {"Content-Type": INDEX, "Link": link}, json.dumps({"manifests": [entry]}).encode()

    with _server(answer) as host:
        found = client.referrers(ImageReference(host, "ml/train", subject))
    assert [each.digest for each in found] == [Digest.of_bytes(b"1"), Digest.of_bytes(b"2")]


@pytest.mark.parametrize(
    "name",
    ["train:v1", "library/python:3", "127.0.0.1:5000/ml/train", "127.0.0.1:5000/ML:v1", "127.0.0.1:5000/a@sha256:0"],
)
def test_name_without_host_tag_or_digest_is_refused(client: RegistryClient, name: str) -> None:
    with pytest.raises(RegistryError, match="is not an image name"):
        client.find(name)


def test_registry_that_does_not_run_is_named_with_what_to_do(client: RegistryClient) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as unused:
        port = unused.server_port
    with pytest.raises(RegistryError, match=f"the registry 127.0.0.1:{port} did not answer.*Next: check that it runs"):
        client.find(f"127.0.0.1:{port}/ml/train:v1")


def test_registry_that_answers_too_slowly_is_given_up(tmp_path: Path) -> None:
    release = threading.Event()

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        release.wait(60)
        return 200, {}, b""

    with _server(answer) as host:
        with pytest.raises(RegistryError, match="did not answer"):
            RegistryClient(docker_config=tmp_path / "none", timeout=0.05).find(f"{host}/ml/train:v1")
        release.set()


def test_proxy_settings_do_not_apply_to_loopback_addresses(
    oci_registry: OciRegistry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = oci_registry.push_image("ml/train", "v1")
    for variable in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert str(client.resolve(f"{oci_registry.host}/ml/train:v1").reference.digest) == digest


@pytest.mark.parametrize(
    ("body", "headers", "what"),
    [
        (b"<html>log in</html>", {}, "is not a valid answer of an OCI registry"),
        (b'{"schemaVersion": 1, "fsLayers": []}', {}, "neither an image manifest nor an index"),
        (b'{"manifests": []}', {"Docker-Content-Digest": "sha256:" + "0" * 64}, "expected sha256:0"),
        (b'{"manifests": []}', {"Docker-Content-Digest": "md5:" + "0" * 32}, "expected md5:0"),
        (b" " * (9 * 1024 * 1024), {}, "more than"),
    ],
)
def test_answer_that_is_no_manifest_is_refused(
    client: RegistryClient, body: bytes, headers: dict[str, str], what: str
) -> None:
    with _server(lambda path: (200, headers, body)) as host, pytest.raises(RegistryError, match=what):
        client.find(f"{host}/ml/train:v1")


def test_sha512_announced_by_the_registry_is_checked_too(client: RegistryClient) -> None:
    body = b'{"manifests": []}'
    headers = {"Docker-Content-Digest": f"sha512:{hashlib.sha512(body).hexdigest()}"}
    with _server(lambda path: (200, headers, body)) as host:
        found = client.find(f"{host}/ml/train:v1")
    assert found is not None
    assert found.reference.digest == Digest.of_bytes(body)


def test_limit_on_requests_says_how_long_to_wait(client: RegistryClient) -> None:
    body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}).encode()
    with (
        _server(lambda path: (429, {"Retry-After": "30"}, body)) as host,
        pytest.raises(RegistryError, match=r"TOOMANYREQUESTS: slow down.*run again after 30 seconds"),
    ):
        client.find(f"{host}/ml/train:v1")


def test_gateway_error_is_asked_again(client: RegistryClient) -> None:
    answers = iter([(503, b""), (200, b'{"manifests": []}')])

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        status, body = next(answers)
        return status, {}, body

    with _server(answer) as host:
        assert client.find(f"{host}/ml/train:v1") is not None


def _descriptor(digest: str, artifact_type: str) -> dict[str, object]:
    return {"mediaType": MANIFEST, "digest": digest, "size": 1, "artifactType": artifact_type}


@contextmanager
def _server(answer: Callable[[str], tuple[int, dict[str, str], bytes]]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answer(self.path)
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:  # the client has closed the connection early
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()

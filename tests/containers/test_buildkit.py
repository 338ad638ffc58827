"""BuildKit on a real engine that pushes to a real registry."""

import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from ml_assets.resources.identity import Digest, ImageReference
from ml_assets.resources.image_builders.base_images import LOCK_FILE
from ml_assets.resources.image_builders.buildkit import BuildKit, BuildOptions
from ml_assets.resources.image_builders.buildx import Buildx
from ml_assets.resources.image_builders.interface import BuiltImage, ImageBuilder, ImageSpec
from ml_assets.resources.provenance import ImageLabels
from ml_assets.resources.registry.client import RegistryClient
from tests.containers.ground import Ground
from tests.containers.small_project import DOCKERFILE, Project, git, run_in
from tests.contracts.image_builder import ImageBuilderContract


class TestBuildKit(ImageBuilderContract):
    """The suite of all builders. The base image's digest exists in no registry, so nothing may be pulled."""

    @pytest.fixture(autouse=True)
    def _ground(self, ground: Ground) -> None:
        self.ground = ground
        self.prefix = f"tests/{uuid4().hex}"

    @pytest.fixture
    def spec(self, root: Path) -> ImageSpec:
        from tests.contracts.image_builder import write_project

        spec = write_project(root)
        (root / "Dockerfile").write_text(
            "ARG BASE_IMAGE\nFROM scratch AS environment\nFROM environment\nCOPY app /app\n"
        )
        return spec

    def make_builder(self, root: Path) -> ImageBuilder:
        registry = self.ground.registry
        options = BuildOptions(registry=registry, base_registry=registry, prefix=self.prefix, plain_http=(registry,))
        return BuildKit(root, RegistryClient(plain_http=[registry]), Buildx(), options)

    def test_build_key_is_the_same_in_another_checkout(self, spec: ImageSpec, root: Path, tmp_path: Path) -> None:
        other = tmp_path / "another" / "checkout"
        shutil.copytree(root, other)
        assert self.make_builder(root).build_key(spec) == self.make_builder(other).build_key(spec)


def test_image_is_what_the_registry_holds_and_runs_by_its_digest(project: Project) -> None:
    built, log = project.build()
    assert built.built
    assert built.image is not None
    assert built.image.repository == f"{project.options.prefix}/small"
    assert run_in(built.image, "cat", "/app/main.py", "/installed") == "print('hello')\nalpha==1.0\n"
    assert "COPY app /app" in log
    assert str(built.image.digest) in built.explanation


def test_image_says_what_it_is(project: Project) -> None:
    git(project.root, "init", "--quiet")
    git(project.root, "add", ".")
    git(project.root, "commit", "--quiet", "--message", "all")
    commit = git(project.root, "rev-parse", "HEAD")
    built, _ = project.build()
    assert built.image is not None
    labels = project.client.labels(built.image)
    lock = Digest.of_bytes((project.root / "uv.lock").read_bytes())
    assert labels[ImageLabels.ENVIRONMENT] == str(built.environment_digest)
    assert labels[ImageLabels.BUILD_KEY] == str(built.build_key)
    assert labels[ImageLabels.LOCK] == str(lock)
    assert labels["org.opencontainers.image.revision"] == commit
    assert labels["org.opencontainers.image.version"] == "1.2.3"
    assert labels["org.opencontainers.image.created"] == "1970-01-01T00:00:00Z"
    assert labels["org.opencontainers.image.base.digest"] in (project.root / LOCK_FILE).read_text()
    assert run_in(built.image, "cat", "/app/environment_digest").strip() == str(built.environment_digest)


def test_what_the_registry_holds_is_found_without_any_engine(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = project.build()
    monkeypatch.setenv("PATH", "/nowhere")
    again, log = project.build()
    assert not again.built
    assert (again.image, again.environment_digest) == (first.image, first.environment_digest)
    assert "already in the registry" in log


def test_code_changes_the_image_and_not_the_environment(project: Project) -> None:
    before, _ = project.build()
    (project.root / "app" / "main.py").write_text("print('bye')\n")
    after, _ = project.build()
    assert after.built
    assert after.image != before.image
    assert after.environment_digest == before.environment_digest


@pytest.mark.parametrize(
    ("file", "old", "new", "same"),
    [
        ("uv.lock", "# of others", "# of somebody else", True),
        ("pyproject.toml", "1.2.3", "1.2.4", True),
        ("Dockerfile", "COPY app /app", "COPY app /opt/app\nCOPY app /app", True),
        ("uv.lock", "alpha==1.0", "alpha==1.1", False),
        ("Dockerfile", "> /installed", "> /elsewhere", False),
    ],
    ids=["lock of others", "project's settings", "code stage", "dependency", "environment stage"],
)
def test_environment_digest_follows_what_the_environment_is_made_from(
    project: Project, file: str, old: str, new: str, same: bool
) -> None:
    before, _ = project.build()
    path = project.root / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    after, _ = project.build()
    assert after.build_key != before.build_key
    assert (after.environment_digest == before.environment_digest) is same


def test_environment_digest_follows_the_arguments_that_it_uses(project: Project) -> None:
    before, _ = project.build()
    project.spec = replace(project.spec, arguments={"ACCELERATOR": "cuda", "OTHER": "x"})
    changed, _ = project.build()
    project.spec = replace(project.spec, arguments={"ACCELERATOR": "cpu", "OTHER": "x"})
    unused, _ = project.build()
    assert changed.environment_digest != before.environment_digest
    assert unused.environment_digest == before.environment_digest


def test_environment_digest_is_the_same_in_another_checkout(project: Project, tmp_path: Path) -> None:
    first, _ = project.build()
    other = replace(
        project, root=tmp_path / "elsewhere", options=replace(project.options, prefix="tests/" + uuid4().hex)
    )
    shutil.copytree(project.root, other.root)
    (other.root / "Dockerfile").write_text(DOCKERFILE + f"LABEL only={uuid4().hex}\n")
    second, _ = other.build()
    assert second.built
    assert second.environment_digest == first.environment_digest


def test_image_of_uncommitted_files_is_made_again_once_they_are_committed(project: Project) -> None:
    git(project.root, "init", "--quiet")
    git(project.root, "add", ".")
    git(project.root, "commit", "--quiet", "--message", "all")
    (project.root / "app" / "main.py").write_text("print('bye')\n")
    before, _ = project.build()
    again, _ = project.build()
    git(project.root, "commit", "--quiet", "--all", "--message", "bye")
    after, _ = project.build()
    assert not again.built
    assert after.built
    assert after.build_key == before.build_key
    assert before.image is not None
    assert after.image is not None
    revisions = [
        project.client.labels(each)["org.opencontainers.image.revision"] for each in (before.image, after.image)
    ]
    assert revisions[0].endswith("-dirty")
    assert revisions[1] == git(project.root, "rev-parse", "HEAD")


def test_image_of_files_that_were_in_no_repository_is_made_again_once_they_are(project: Project) -> None:
    before, _ = project.build()
    git(project.root, "init", "--quiet")
    git(project.root, "add", ".")
    git(project.root, "commit", "--quiet", "--message", "all")
    after, _ = project.build()
    again, _ = project.build()
    assert after.built
    assert not again.built
    assert after.build_key == before.build_key
    assert after.image is not None
    revision = project.client.labels(after.image)["org.opencontainers.image.revision"]
    assert revision == git(project.root, "rev-parse", "HEAD")


def test_secret_is_seen_by_the_build_and_by_nothing_after_it(project: Project, tmp_path: Path) -> None:
    secret = tmp_path / "index_url"
    secret.write_text("https://somebody:s3cr3t-token@index.example/simple\n")
    path = project.root / "Dockerfile"
    read = f"RUN --mount=type=secret,id=index_url echo {uuid4().hex}; cd /run/secrets; wc -c < index_url; cat index_url"
    path.write_text(path.read_text().replace("COPY app /app", f"{read}\nCOPY app /app"))
    built, log = project.build(project.builder(secrets={"index_url": secret}))
    assert built.image is not None
    assert str(len(secret.read_text())) in log
    assert "***" in log
    assert "s3cr3t-token" not in log
    shown = subprocess.run(
        ["docker", "image", "history", "--no-trunc", str(built.image)], capture_output=True, text=True, check=True
    )
    assert "s3cr3t-token" not in shown.stdout
    assert run_in(built.image, "sh", "-c", "ls /run/secrets 2>/dev/null || true") == ""


def test_proxy_reaches_the_build_and_not_the_image(project: Project) -> None:
    path = project.root / "Dockerfile"
    path.write_text(path.read_text().replace("COPY app /app", f"RUN echo {uuid4().hex} proxy=$no_proxy\nCOPY app /app"))
    built, log = project.build(project.builder(proxies={"no_proxy": "registry.example"}))
    assert built.image is not None
    assert "proxy=registry.example" in log
    assert "registry.example" not in run_in(built.image, "env")


def test_credentials_of_dockers_configuration_are_used(project: Project, protected: tuple[str, Path]) -> None:
    host, config = protected
    project.client = RegistryClient(plain_http=[project.registry], docker_config=config)
    built, _ = project.build(project.builder(Buildx(docker_config=config), registry=host))
    assert built.image is not None
    assert built.image.registry == host


def test_two_builds_of_the_same_key_at_once_are_harmless(project: Project) -> None:
    results: list[BuiltImage] = []
    threads = [threading.Thread(target=lambda: results.append(project.build()[0])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert results[0].environment_digest == results[1].environment_digest
    for built in results:
        assert built.image is not None
        assert project.client.labels(built.image)[ImageLabels.BUILD_KEY] == str(built.build_key)


def test_provenance_is_attached_where_the_engine_can(project: Project) -> None:
    """Only an engine's containerd image store keeps attestations; otherwise the build reports that they are missing."""
    built, log = project.build()
    assert built.image is not None
    can = Buildx().builder().attestations
    assert (built.index_digest is not None) is can
    assert ("without attestations" in log) is not can


SCANNER = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS environment
FROM environment AS code
ENTRYPOINT ["/bin/sh", "-c", "echo \\"$STATEMENT\\" > $BUILDKIT_SCAN_DESTINATION/sbom.spdx.json"]
ENV STATEMENT='{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document", \\
    "predicate": {}}'
"""


def test_provenance_and_sbom_are_attached_and_are_no_platform(
    project: Project, containerd_engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", containerd_engine)
    # Stands in for a scanner from another registry: it implements BuildKit's protocol and reports nothing.
    scanner = replace(project, root=tmp_path / "scanner", spec=replace(project.spec, name="scanner", sources=()))
    shutil.copytree(project.root, scanner.root)
    (scanner.root / "Dockerfile").write_text(SCANNER)
    made, _ = scanner.build(scanner.builder(attestations=False))
    assert made.index_digest is None
    built, log = project.build(project.builder(sbom_scanner=str(made.image)))
    assert "without attestations" not in log
    assert built.image is not None
    assert built.index_digest not in (None, built.image.digest)
    index = _manifest(built.image, str(built.index_digest))
    platforms = [entry for entry in index["manifests"] if entry["platform"]["os"] != "unknown"]
    assert [entry["digest"] for entry in platforms] == [str(built.image.digest)]
    provenance, sbom = sorted(_attached(built), key=lambda kind: "spdx" in kind)
    assert provenance.startswith("https://slsa.dev/provenance/")
    assert sbom == "https://spdx.dev/Document"
    again, _ = project.build()
    assert (again.image, again.index_digest, again.built) == (built.image, built.index_digest, False)


def test_no_sbom_is_made_where_no_scanner_is_named(
    project: Project, containerd_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", containerd_engine)
    built, _ = project.build()
    (provenance,) = _attached(built)
    assert provenance.startswith("https://slsa.dev/provenance/")


def test_image_for_two_platforms_is_known_by_the_first_and_its_index(
    project: Project, containerd_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", containerd_engine)
    (project.root / "Dockerfile").write_text("FROM scratch AS environment\nFROM environment AS code\nCOPY app /app\n")
    both = ("linux/arm64", "linux/amd64")
    built, _ = project.build(project.builder(platforms=both))
    assert built.image is not None
    published = project.client.find(f"{built.image.registry}/{built.image.repository}@{built.index_digest}")
    assert published is not None
    assert set(published.platforms) == set(both)
    assert published.platforms["linux/arm64"] == built.image.digest
    alone, _ = project.build()
    assert alone.built
    assert alone.environment_digest == built.environment_digest


def _attached(built: BuiltImage) -> list[str]:
    """Return the kind of each attestation of an image."""
    assert built.image is not None
    index = _manifest(built.image, str(built.index_digest))
    (attached,) = [entry for entry in index["manifests"] if entry["platform"]["os"] == "unknown"]
    layers = _manifest(built.image, attached["digest"])["layers"]
    return [layer["annotations"]["in-toto.io/predicate-type"] for layer in layers]


def _manifest(image: ImageReference, digest: str) -> dict[str, Any]:
    headers = {"Accept": "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"}
    answer = requests.get(
        f"http://{image.registry}/v2/{image.repository}/manifests/{digest}", headers=headers, timeout=30
    )
    answer.raise_for_status()
    content: dict[str, Any] = answer.json()
    return content

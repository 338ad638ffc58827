"""BuildKit at an address, as in a cluster: buildx's driver ``remote``, through a relay to an engine's BuildKit."""

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from ml_assets.resources.errors import EngineUnreachable, ImageError, SettingsError
from ml_assets.resources.identity import ImageReference
from ml_assets.resources.image_builders.buildkit import BuildKit, BuildOptions
from ml_assets.resources.image_builders.buildx import Buildx
from ml_assets.resources.image_builders.interface import ImageBuilder
from ml_assets.resources.registry.client import RegistryClient
from tests.containers import test_buildkit
from tests.containers.buildkit_relay import buildkit_relay
from tests.containers.ground import Ground
from tests.containers.small_project import Project, run_in
from tests.ports import free_port

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def remote(buildkitd: str) -> Iterator[Buildx]:
    """A builder that buildx does not know yet; it is removed afterwards."""
    buildx = Buildx(name=f"tests-{uuid4().hex}", driver="remote", endpoint=buildkitd)
    yield buildx
    subprocess.run(["docker", "buildx", "rm", str(buildx.name)], capture_output=True, check=False)


class TestRemoteBuildKit(test_buildkit.TestBuildKit):
    @pytest.fixture(autouse=True)
    def _remote(self, remote: Buildx) -> None:
        self.remote = remote

    def make_builder(self, root: Path) -> ImageBuilder:
        registry = self.ground.registry
        options = BuildOptions(registry=registry, base_registry=registry, prefix=self.prefix, plain_http=(registry,))
        return BuildKit(root, RegistryClient(plain_http=[registry]), self.remote, options)


def test_image_is_pushed_with_all_that_buildkit_can_and_then_found(project: Project, remote: Buildx) -> None:
    built, log = project.build(project.builder(remote))
    assert built.built
    assert built.image is not None
    assert "without" not in built.explanation
    assert "COPY app /app" in log
    assert run_in(built.image, "cat", "/app/main.py", "/installed") == "print('hello')\nalpha==1.0\n"
    index = _read(built.image, str(built.index_digest), _INDEX)
    platforms = [entry["digest"] for entry in index["manifests"] if entry["platform"]["os"] == "linux"]
    assert platforms == [str(built.image.digest)]
    assert [entry for entry in index["manifests"] if entry["platform"]["os"] == "unknown"]
    again, _ = project.build(project.builder(remote))
    assert (again.built, again.image, again.index_digest) == (False, built.image, built.index_digest)


def test_times_in_layers_are_fixed(project: Project, remote: Buildx) -> None:
    built, _ = project.build(project.builder(remote))
    assert built.image is not None
    assert run_in(built.image, "stat", "--format", "%Y", "/installed", "/app/main.py").split() == ["0", "0"]


def test_environment_digest_is_that_of_any_other_builder(project: Project, remote: Buildx) -> None:
    here, _ = project.build()
    project.options = replace(project.options, prefix=f"{project.options.prefix}-remote")
    there, _ = project.build(project.builder(remote))
    assert there.built
    assert there.environment_digest == here.environment_digest


def test_bundle_of_certificates_reaches_the_build_as_a_secret(project: Project, remote: Buildx, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(f"-----BEGIN CERTIFICATE-----\n{uuid4().hex}\n-----END CERTIFICATE-----\n")
    path = project.root / "Dockerfile"
    read = "RUN --mount=type=secret,id=ca_bundle sha256sum /run/secrets/ca_bundle"
    path.write_text(path.read_text().replace("COPY app /app", f"{read}\nCOPY app /app"))
    built, log = project.build(project.builder(remote, secrets={"ca_bundle": bundle}))
    assert hashlib.sha256(bundle.read_bytes()).hexdigest() in log
    assert built.image is not None
    assert run_in(built.image, "sh", "-c", "ls /run/secrets 2>/dev/null || true") == ""


def test_registry_gets_the_cache_of_layers_where_it_is_wanted(project: Project, remote: Buildx) -> None:
    path = project.root / "Dockerfile"
    path.write_text(path.read_text().replace("> /installed", "> /installed; echo ran as $((40 + 2))"))
    _, first = project.build(project.builder(remote, registry_cache=True))
    (project.root / "app" / "main.py").write_text("print('bye')\n")
    subprocess.run(["docker", "buildx", "prune", "--builder", str(remote.name), "--all", "--force"], check=True)
    _, log = project.build(project.builder(remote, registry_cache=True))
    assert "ran as 42" in first
    assert "[environment 2/2] RUN" in log
    assert "ran as 42" not in log


def test_nothing_is_written_beside_the_credentials_of_a_registry(
    project: Project, remote: Buildx, protected: tuple[str, Path]
) -> None:
    host, config = protected
    project.client = RegistryClient(plain_http=[project.registry], docker_config=config)
    built, _ = project.build(project.builder(replace(remote, docker_config=config), registry=host))
    assert built.image is not None
    assert built.image.registry == host
    assert list(config.parent.iterdir()) == [config]


def test_endpoint_that_nobody_listens_at_is_told_before_the_build(project: Project, ground: Ground) -> None:
    with ExitStack() as stack:
        nobody = f"tcp://{ground.host}:{free_port(ground.host)}"
        buildx = Buildx(name=f"tests-{uuid4().hex}", driver="remote", endpoint=nobody)
        stack.callback(subprocess.run, ["docker", "buildx", "rm", str(buildx.name)], capture_output=True, check=False)
        lines: list[str] = []
        with pytest.raises(EngineUnreachable, match=rf"no BuildKit is at {nobody}.*images\.endpoint"):
            project.builder(buildx).build(project.spec, lines.append)
        assert lines == []


def test_connection_that_is_lost_during_a_build_is_told(
    project: Project, remote: Buildx, ground: Ground, containerd_engine: str
) -> None:
    path = project.root / "Dockerfile"
    path.write_text(
        path.read_text().replace("COPY app /app", f"RUN echo begun {uuid4().hex}; sleep 600\nCOPY app /app")
    )
    with ExitStack() as relay:
        address = relay.enter_context(buildkit_relay(ground.host, Path(containerd_engine.removeprefix("unix://"))))

        def cut(line: str) -> None:
            if line.startswith("  begun"):
                relay.close()

        with pytest.raises(EngineUnreachable, match="did not answer"):
            project.builder(replace(remote, endpoint=address)).build(project.spec, cut)


def test_builder_that_buildx_knows_elsewhere_is_told(project: Project, remote: Buildx) -> None:
    project.build(project.builder(remote))
    (project.root / "app" / "main.py").write_text("print('bye')\n")
    with pytest.raises(ImageError, match=f"docker buildx rm {remote.name}"):
        project.build(project.builder(replace(remote, endpoint="tcp://192.0.2.1:1234")))


def test_remote_builder_without_an_endpoint_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"images\.endpoint"):
        Buildx(name="far", driver="remote")


def _read(image: ImageReference, digest: str, kind: str) -> dict[str, list[dict[str, dict[str, str]]]]:
    address = f"http://{image.registry}/v2/{image.repository}/manifests/{digest}"
    answer = requests.get(address, headers={"Accept": kind}, timeout=30)
    answer.raise_for_status()
    content: dict[str, list[dict[str, dict[str, str]]]] = answer.json()
    return content

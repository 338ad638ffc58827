"""Fixtures of image build tests: a small project and a registry with a password."""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from ml_assets.resources.image_builders.base_images import LOCK_FILE, update_base_images
from ml_assets.resources.image_builders.buildkit import BuildOptions
from ml_assets.resources.image_builders.interface import ImageSpec
from ml_assets.resources.registry.client import RegistryClient
from tests.conftest import require_program
from tests.containers.ground import Ground
from tests.containers.small_project import DOCKERFILE, Project
from tests.oci_registry import OciRegistry
from tests.resources.registry.test_session import PASSWORD, PASSWORD_FILE, USER


@pytest.fixture(scope="session")
def base(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Lock of base images, as the registry resolves the tests' base image."""
    lock = tmp_path_factory.mktemp("lock") / LOCK_FILE
    _, _, name = ground.base_image.partition("/")
    repository, _, tag = name.rpartition(":")
    images = {"python": {"repository": repository, "tag": tag, "answer": None}}
    lock.write_text(json.dumps({"schema_version": 1, "images": images}))
    (update,) = update_base_images(lock, ground.registry, RegistryClient(plain_http=[ground.registry]))
    assert update.error is None
    return lock.read_text()


@pytest.fixture
def project(ground: Ground, base: str, tmp_path: Path) -> Iterator[Project]:
    """A small project with its own repository; its images are removed from the engine afterwards."""
    root = tmp_path / "project"
    (root / "app").mkdir(parents=True)
    (root / "app" / "main.py").write_text("print('hello')\n")
    (root / "uv.lock").write_text("# of others\nalpha==1.0\n")
    (root / "pyproject.toml").write_text('[project]\nname = "p"\nversion = "1.2.3"\n')
    (root / "Dockerfile").write_text(DOCKERFILE)
    (root / LOCK_FILE).write_text(base)
    prefix = f"tests/{uuid4().hex}"
    yield Project(
        root,
        ImageSpec(
            name="small",
            dockerfile="Dockerfile",
            sources=("app", "pyproject.toml"),
            bases={"BASE_IMAGE": "python"},
            arguments={"ACCELERATOR": "cpu"},
            target="code",
        ),
        ground.registry,
        RegistryClient(plain_http=[ground.registry]),
        BuildOptions(
            registry=ground.registry,
            base_registry=ground.registry,
            prefix=prefix,
            plain_http=(ground.registry,),
        ),
    )
    command = ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", f"{ground.registry}/{prefix}/*"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if names:
        subprocess.run(["docker", "image", "rm", *names], capture_output=True, check=False)


@pytest.fixture
def protected(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A registry with a password, and a Docker configuration that contains it."""
    program = require_program("docker-registry", "docker-registry")
    passwords, config = tmp_path / "htpasswd", tmp_path / "docker" / "config.json"
    passwords.write_text(PASSWORD_FILE)
    settings = {"auth": {"htpasswd": {"realm": "test", "path": str(passwords)}}}
    with OciRegistry.started(program, tmp_path / "registry", settings=settings) as registry:
        credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        config.parent.mkdir()
        config.write_text(json.dumps({"auths": {registry.host: {"auth": credentials}}}))
        yield registry.host, config

"""The same inputs give the same image: on another day, in another checkout, with an empty build cache."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from ml_assets.resources.image_builders.buildx import Buildx
from ml_assets.resources.image_builders.interface import BuiltImage
from tests.containers.small_project import Project

A_DAY, ANOTHER_DAY = 1_000_000_000, 1_600_000_000
"""Seconds since 1970, later than the timestamp that images get."""


@pytest.fixture
def remote(buildkitd: str) -> Iterator[Buildx]:
    buildx = Buildx(name=f"tests-{uuid4().hex}", driver="remote", endpoint=buildkitd)
    yield buildx
    subprocess.run(["docker", "buildx", "rm", str(buildx.name)], capture_output=True, check=False)


@pytest.fixture
def build_on(project: Project, tmp_path: Path) -> Callable[[Buildx, int], BuiltImage]:
    """A function that builds the project from a checkout of a certain day, into its own repository."""
    path = project.root / "Dockerfile"
    path.write_text(path.read_text().replace("COPY app /app", "COPY app /app\nRUN mkdir /app/as-old-as-the-build"))

    def build(buildx: Buildx, day: int) -> BuiltImage:
        root = tmp_path / f"checkout-{uuid4().hex}"
        shutil.copytree(project.root, root)
        for file in (root, *root.rglob("*")):
            os.utime(file, (day, day))
        options = replace(project.options, prefix=f"tests/{uuid4().hex}")
        checkout = replace(project, root=root, options=options)
        built, _ = checkout.build(checkout.builder(buildx))
        assert built.built
        assert built.image is not None
        return built

    return build


def test_image_is_the_same_on_another_day_where_the_builder_fixes_times(
    build_on: Callable[[Buildx, int], BuiltImage], remote: Buildx
) -> None:
    first = build_on(remote, A_DAY)
    forget(remote)
    second = build_on(remote, ANOTHER_DAY)
    assert first.image is not None
    assert second.image is not None
    assert second.image.repository != first.image.repository
    assert second.image.digest == first.image.digest
    assert second.environment_digest == first.environment_digest
    # Only the attestation, and so the index, contains the build time.
    assert second.index_digest != first.index_digest


def test_environment_is_the_same_on_another_day_where_the_builder_cannot(
    build_on: Callable[[Buildx, int], BuiltImage], containerd_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counter-check: an engine's own driver does not fix times and makes other layers of the same files."""
    monkeypatch.setenv("DOCKER_HOST", containerd_engine)
    engine = Buildx(name="default")
    first = build_on(engine, A_DAY)
    forget(engine)
    second = build_on(engine, ANOTHER_DAY)
    assert first.image is not None
    assert second.image is not None
    assert second.image.digest != first.image.digest
    assert second.environment_digest == first.environment_digest
    assert second.build_key == first.build_key


def forget(buildx: Buildx) -> None:
    """Empty the builder's cache. Only these tests use its engine."""
    command = ["docker", "buildx", "prune", "--builder", str(buildx.name), "--all", "--force"]
    subprocess.run(command, check=True, capture_output=True)

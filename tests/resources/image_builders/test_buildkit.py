"""Pushes to a failing registry, with recorded output of ``docker buildx``; `tests/containers` builds real images."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from ml_assets.resources.errors import RegistryError
from ml_assets.resources.image_builders.buildkit import BuildKit, BuildOptions
from ml_assets.resources.image_builders.buildx import Builder, Buildx
from ml_assets.resources.image_builders.progress import BuildProgress
from ml_assets.resources.registry.client import RegistryClient
from tests.contracts.image_builder import write_project

FAILED = "#9 ERROR: unexpected status from HEAD request to http://127.0.0.1:5000/v2/small/manifests/key-1: {}"


class Recorded(Buildx):
    """Buildx whose builds print recorded lines, because these tests run without an engine."""

    builds: list[Sequence[str]]
    answers: list[str]

    def builder(self) -> Builder:
        return Builder("docker", attestations=False)

    def build(self, arguments: Sequence[str], progress: BuildProgress) -> int:
        self.builds.append(arguments)
        progress.take("#9 pushing 127.0.0.1:5000/small with docker")
        answer = self.answers.pop(0)
        if answer:
            progress.take(FAILED.format(answer))
        return int(bool(answer))


class Pushed(Exception):
    """The image was pushed, and the builder looks for it in the registry."""


class Registry(RegistryClient):
    """An empty registry."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def find(self, name: str) -> None:
        self.asked += 1
        if self.asked > 1:
            raise Pushed


def build(root: Path, *answers: str) -> tuple[list[Sequence[str]], Exception, list[str]]:
    """Return the builds, how the last one ended, and the log."""
    spec = write_project(root)
    buildx = Recorded()
    object.__setattr__(buildx, "builds", [])
    object.__setattr__(buildx, "answers", list(answers))
    log: list[str] = []
    options = BuildOptions(registry="127.0.0.1:5000", base_registry="127.0.0.1:5000")
    with pytest.raises((Pushed, RegistryError)) as ended:
        BuildKit(root, Registry(), buildx, options).build(spec, log.append)
    return buildx.builds, ended.value, log


@pytest.mark.parametrize("answer", ["500 Internal Server Error", "503 Service Unavailable"])
def test_push_is_repeated_once_if_the_registry_fails(tmp_path: Path, answer: str) -> None:
    builds, ended, log = build(tmp_path, answer, "")
    assert len(builds) == 2
    assert builds[0] == builds[1]
    assert isinstance(ended, Pushed)
    assert "train: the registry failed, pushing again" in log


def test_registry_that_goes_on_failing_is_told(tmp_path: Path) -> None:
    builds, ended, _ = build(tmp_path, "500 Internal Server Error", "500 Internal Server Error")
    assert len(builds) == 2
    assert isinstance(ended, RegistryError)
    assert "the image could not be pushed" in str(ended)


def test_push_that_is_refused_is_not_repeated(tmp_path: Path) -> None:
    builds, ended, _ = build(tmp_path, "403 Forbidden")
    assert len(builds) == 1
    assert isinstance(ended, RegistryError)

"""BuildKit in a container that buildx creates: the driver ``docker-container``."""

import json
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest

from ml_assets.resources.image_builders.buildx import Buildx
from tests.containers.buildkitd_image import buildkitd_image
from tests.containers.ground import Ground
from tests.containers.small_project import Project, run_in


@pytest.fixture
def made(ground: Ground, buildkitd: str) -> Iterator[Buildx]:
    """A builder that buildx does not know yet; it is removed afterwards with its container and volume."""
    buildx = Buildx(
        name=f"tests-{uuid4().hex}",
        driver="docker-container",
        driver_options={"image": buildkitd_image(ground, buildkitd), "env.MIRRORS": "one,two"},
        plain_http=(ground.registry,),
    )
    yield buildx
    subprocess.run(["docker", "buildx", "rm", str(buildx.name)], capture_output=True, check=False)


def test_image_is_built_by_a_container_that_buildx_makes(project: Project, made: Buildx, ground: Ground) -> None:
    built, log = project.build(project.builder(made))
    assert built.built
    assert built.image is not None
    assert "COPY app /app" in log
    assert "without" not in built.explanation
    assert run_in(built.image, "cat", "/app/main.py", "/installed") == "print('hello')\nalpha==1.0\n"
    container = f"buildx_buildkit_{made.name}0"
    shown = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True)
    (described,) = json.loads(shown.stdout)
    assert described["Config"]["Image"] == made.driver_options["image"]
    assert "MIRRORS=one,two" in described["Config"]["Env"]
    read = ["docker", "exec", container, "cat", "/etc/buildkit/buildkitd.toml"]
    configuration = subprocess.run(read, capture_output=True, text=True, check=True).stdout
    assert tomllib.loads(configuration)["registry"] == {ground.registry: {"http": True}}


def test_environment_digest_is_that_of_any_other_builder(project: Project, made: Buildx) -> None:
    here, _ = project.build()
    project.options = replace(project.options, prefix=f"{project.options.prefix}-container")
    there, _ = project.build(project.builder(made))
    assert there.built
    assert there.environment_digest == here.environment_digest

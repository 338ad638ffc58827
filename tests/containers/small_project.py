"""A small project whose images build quickly."""

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from ml_assets.resources.identity import ImageReference
from ml_assets.resources.image_builders.buildkit import BuildKit, BuildOptions
from ml_assets.resources.image_builders.buildx import Buildx
from ml_assets.resources.image_builders.interface import BuiltImage, ImageSpec
from ml_assets.resources.registry.client import RegistryClient

DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS resolved
COPY uv.lock pyproject.toml /lock/
RUN grep -v '^#' /lock/uv.lock > /lock/requirements.txt
FROM scratch AS locked
COPY --from=resolved /lock/requirements.txt /
FROM ${BASE_IMAGE} AS environment
ARG ACCELERATOR
RUN --mount=type=bind,from=locked,target=/lock cat /lock/requirements.txt > /installed
FROM environment AS code
COPY app /app
ARG ENVIRONMENT_DIGEST=
RUN echo "${ENVIRONMENT_DIGEST}" > /app/environment_digest
"""


@dataclass
class Project:
    """A small project with its own base image and the builder of its images."""

    root: Path
    spec: ImageSpec
    registry: str
    client: RegistryClient
    options: BuildOptions

    def builder(self, buildx: Buildx | None = None, **changes: object) -> BuildKit:
        return BuildKit(self.root, self.client, buildx or Buildx(), replace(self.options, **changes))  # type: ignore[arg-type]

    def build(self, builder: BuildKit | None = None) -> tuple[BuiltImage, str]:
        lines: list[str] = []
        built = (builder or self.builder()).build(self.spec, lines.append)
        return built, "\n".join(lines)


def run_in(image: ImageReference, *command: str) -> str:
    done = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", str(image), *command], capture_output=True, text=True, check=True
    )
    return done.stdout


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()

"""Stand-in for the image from which buildx's drivers ``kubernetes`` and ``docker-container`` start BuildKit."""

import hashlib
import subprocess
from pathlib import Path

from tests.containers.ground import Ground
from tests.containers.train_image import pinned

_DOCKERFILE = Path(__file__).with_name("Dockerfile.buildkitd")


def buildkitd_image(ground: Ground, buildkit: str) -> str:
    """Return the stand-in by digest, in the ground's registry.

    Args:
        ground: its base image contains Python, in which the stand-in is written.
        buildkit: address of the BuildKit that does the work, as ``tcp://host:port``.
    """
    arguments = {"BASE_IMAGE": ground.base_image, "BUILDKIT": buildkit.removeprefix("tcp://")}
    tag = hashlib.sha256(f"{arguments}".encode() + _DOCKERFILE.read_bytes()).hexdigest()[:20]
    name = f"{ground.registry}/ml-assets-tests/buildkitd:{tag}"
    command = ["docker", "buildx", "build", "--builder", "default", "--provenance=false", "--tag", name, "--push"]
    for argument in arguments.items():
        command += ["--build-arg", "=".join(argument)]
    with _DOCKERFILE.open("rb") as dockerfile:
        built = subprocess.run([*command, "-"], stdin=dockerfile, capture_output=True, timeout=600, check=False)
    assert built.returncode == 0, built.stderr.decode()[-6000:]
    return pinned(name)

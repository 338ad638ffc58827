"""Stand-ins for the third-party images in ``deployments``: PostgreSQL, a registry, an object storage."""

import hashlib
import os
import subprocess
from importlib.metadata import version
from pathlib import Path

from tests.containers.ground import Ground
from tests.containers.train_image import pinned

_DOCKERFILE = Path(__file__).with_name("Dockerfile.stand_ins")


def stand_in(ground: Ground, target: str) -> str:
    """Return a stand-in by digest, in the ground's registry; the same content is built once.

    Args:
        ground: its base image is the base of the stand-in.
        target: ``postgres``, ``registry`` or ``storage``.
    """
    arguments = {"BASE_IMAGE": ground.base_image, "MOTO": version("moto")}
    tag = hashlib.sha256(f"{arguments}".encode() + _DOCKERFILE.read_bytes()).hexdigest()[:20]
    name = f"{ground.registry}/ml-assets-tests/{target}:{tag}"
    try:
        return pinned(name)
    except FileNotFoundError:
        pass
    command = ["docker", "buildx", "build", "--builder", "default", "--provenance=false", "--network=host", "--push"]
    command += ["--allow", "network.host", "--target", target, "--tag", name]
    for argument in arguments.items():
        command += ["--build-arg", "=".join(argument)]
    if os.environ.get("SSL_CERT_FILE"):
        command += ["--secret", f"id=ca_bundle,src={os.environ['SSL_CERT_FILE']}"]
    with _DOCKERFILE.open("rb") as dockerfile:
        built = subprocess.run([*command, "-"], stdin=dockerfile, capture_output=True, timeout=900, check=False)
    assert built.returncode == 0, built.stderr.decode()[-6000:]
    return pinned(name)


def services_image(ground: Ground, commit: str) -> str:
    """Return the image of a deployment's services from this checkout, by digest, in the ground's registry.

    Args:
        ground: its base image is the base of the image.
        commit: commit of the code that the image records.
    """
    name = f"{ground.registry}/ml-assets-tests/services:{os.getpid()}"
    command = ["docker", "buildx", "build", "--builder", "default", "--provenance=false", "--network=host", "--push"]
    command += ["--allow", "network.host", "--file", "Dockerfile.train", "--target", "services", "--tag", name]
    for argument in (f"BASE_IMAGE={ground.base_image}", f"COMMIT={commit}", "DIRTY=false"):
        command += ["--build-arg", argument]
    if os.environ.get("SSL_CERT_FILE"):
        command += ["--secret", f"id=ca_bundle,src={os.environ['SSL_CERT_FILE']}"]
    root = Path(__file__).parents[2]
    built = subprocess.run([*command, "."], cwd=root, capture_output=True, timeout=1500, check=False)
    assert built.returncode == 0, built.stderr.decode()[-6000:]
    subprocess.run(["docker", "image", "rm", name], capture_output=True, check=False)
    return pinned(name)

"""Stands for the images of others that ``deployments/docker/compose.yaml`` names."""

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

from tests.containers.ground import Ground

_DOCKERFILE = Path(__file__).with_name("Dockerfile.compose")


def compose_images(ground: Ground) -> dict[str, str]:
    """The variables of the Compose file that name images of others, each with its stand-in, built on this engine."""
    return {f"{name.upper()}_IMAGE": _build(ground, name) for name in ("postgres", "registry", "storage")}


def _build(ground: Ground, target: str) -> str:
    name = f"ml-assets-tests/{target}:compose"
    command = ["docker", "buildx", "build", "--builder", "default", "--provenance=false", "--load", "--network=host"]
    command += ["--allow", "network.host", "--target", target, "--tag", name]
    command += ["--build-arg", f"BASE_IMAGE={ground.base_image}", "--build-arg", f"MOTO={version('moto')}"]
    if os.environ.get("SSL_CERT_FILE"):
        command += ["--secret", f"id=ca_bundle,src={os.environ['SSL_CERT_FILE']}"]
    with _DOCKERFILE.open("rb") as dockerfile:
        built = subprocess.run([*command, "-"], stdin=dockerfile, capture_output=True, timeout=900, check=False)
    assert built.returncode == 0, built.stderr.decode()[-6000:]
    return name

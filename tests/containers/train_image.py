"""Images for the tests' steps: the project's own train image, with the tests' code location on top."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from ml_assets.resources.image_builders.interface import BuiltImage, ImageSpec
from tests.containers.ground import Ground

PROJECT = Path(__file__).parents[2]
_FILES = ("pyproject.toml", "uv.lock", "README.md", "LICENSE", ".dockerignore")
_MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
    )
)


def train_image(ground: Ground, folder: Path) -> str:
    """Return the train image of this checkout, by digest; the project builds it unless the registry has it.

    Args:
        ground: place of the build and the push; its base image is used in the lock.
        folder: empty directory, for a copy of the image's sources.
    """
    if ground.train_image:
        return ground.train_image
    return str(train_build(ground, folder)().image)


def train_build(ground: Ground, folder: Path) -> Callable[[], BuiltImage]:
    """Return a function that builds the train image from a copy of this checkout, in its state at the time of the call.

    Args:
        ground: place of the build and the push; its base image is used in the lock.
        folder: empty directory, for the copy.
    """
    from ml_assets.flight_delays.assets import train_image as asset

    return project_build(ground, folder, cast(ImageSpec, asset()))


def project_build(ground: Ground, folder: Path, spec: ImageSpec) -> Callable[[], BuiltImage]:
    """Return a function that builds an image from a copy of this checkout; see `train_build`."""
    from ml_assets.resources.image_builders.base_images import LOCK_FILE, update_base_images
    from ml_assets.resources.settings import load_settings
    from ml_assets.target import Target

    for name in (*_FILES, *(file.name for file in PROJECT.glob("Dockerfile.*"))):
        shutil.copy(PROJECT / name, folder)
    for name in ("deployments", "resources", "ml_assets"):
        shutil.copytree(PROJECT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    repository, tag = ground.base_image.split("/", 1)[1].rsplit(":", 1)
    lock = {"schema_version": 1, "images": {"python": {"repository": repository, "tag": tag, "answer": None}}}
    (folder / LOCK_FILE).write_text(json.dumps(lock))
    target = Target(load_settings({"ML_ASSETS_TARGET": "docker", **image_variables(ground)}, folder))
    update_base_images(folder / LOCK_FILE, ground.base_image.split("/", 1)[0], target.registry_client)
    builder = target.image_builder
    return lambda: builder.build(spec, print)


def image_variables(ground: Ground) -> dict[str, str]:
    """Return the settings of builds on this ground: its registry and the access to package indexes."""
    found = {"REGISTRY": ground.registry, "PLAIN_HTTP": json.dumps([ground.registry]), "NETWORK": "host"}
    found["BUILDX"] = "default"  # the local engine, independent of the target's builder
    if os.environ.get("SSL_CERT_FILE"):
        found["SECRETS__CA_BUNDLE"] = os.environ["SSL_CERT_FILE"]
    return {f"ML_ASSETS__IMAGES__{key}": value for key, value in found.items()}


def code_image(ground: Ground, train: str, sources: Sequence[str]) -> str:
    """Return a train image plus some of the tests' files, by digest; the same content is built once.

    Args:
        ground: the image is pushed to its registry.
        train: the train image, by digest.
        sources: files, and folders with Python files, relative to the project's folder.
    """
    files = sorted({file for source in sources for file in _files(PROJECT / source)})
    content = hashlib.sha256(train.encode())
    for file in files:
        content.update(f"\0{file.relative_to(PROJECT)}\0".encode() + file.read_bytes())
    name = f"{ground.registry}/ml-assets-tests/code:{content.hexdigest()[:20]}"
    try:
        return pinned(name)
    except FileNotFoundError:
        pass
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        for file in files:
            target = context / "files" / file.relative_to(PROJECT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        (context / "Dockerfile").write_text(f"FROM {train}\nCOPY files /app\n")
        return _build(name, context)


def pinned(name: str) -> str:
    """Return the reference by digest of a tagged image.

    Raises:
        FileNotFoundError: the registry does not have the image.
    """
    repository, tag = name.rsplit(":", 1)
    host, path = repository.split("/", 1)
    request = urllib.request.Request(
        f"http://{host}/v2/{path}/manifests/{tag}", method="HEAD", headers={"Accept": _MANIFESTS}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return f"{repository}@{response.headers['Docker-Content-Digest']}"
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        raise FileNotFoundError(name) from error


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    return [file for file in source.rglob("*.py") if "__pycache__" not in file.parts]


def _build(name: str, context: Path) -> str:
    command = ["docker", "buildx", "build", "--progress", "plain", "--tag", name, "--push", str(context)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert built.returncode == 0, built.stderr[-6000:]
    return pinned(name)

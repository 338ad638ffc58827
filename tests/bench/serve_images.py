"""Compare the registry sizes of the serve image and of the image that ``mlflow models build-docker`` makes of a model.

One BuildKit builds both in full, from one base image of Python. MLflow's Dockerfile is unchanged. MLflow's image
contains the model; ours downloads it.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ml_assets.resources.image_builders.interface import ImageSpec
from ml_assets.resources.registry.client import RegistryClient
from tests.containers.ground import Ground
from tests.containers.train_image import project_build

__all__ = ["compressed_sizes"]

_MEGABYTE = 1e6


def compressed_sizes(model: Path, folder: Path) -> Mapping[str, Any] | None:
    """Return the compressed megabytes of both images, including the base.

    Without an engine, print the reason and return None.

    Args:
        model: directory of a model as MLflow saves it.
        folder: empty directory.
    """
    ground = Ground.given()
    if missing := ground.without_engine():
        print(f"images are not measured: {missing}", file=sys.stderr)
        return None
    client = RegistryClient(plain_http=[ground.registry])
    sizes = {
        "base": ground.base_image,
        "ours": _ours(ground, folder / "ours"),
        "mlflow_build_docker": _mlflow(ground, model, folder / "mlflow"),
    }
    megabytes = {
        what: sum(client.parts(client.resolve(name).reference).blobs.values()) / _MEGABYTE  # type: ignore[union-attr]
        for what, name in sizes.items()
    }
    return megabytes | {"ratio": megabytes["ours"] / megabytes["mlflow_build_docker"]}


def _ours(ground: Ground, folder: Path) -> str:
    from ml_assets.flight_delays.assets import serve_image as asset

    folder.mkdir()
    return str(project_build(ground, folder, cast(ImageSpec, asset()))().image)


def _mlflow(ground: Ground, model: Path, folder: Path) -> str:
    mlflow = [sys.executable, "-m", "mlflow", "models", "generate-dockerfile"]
    subprocess.run([*mlflow, "--model-uri", model, "--output-directory", folder], check=True, capture_output=True)
    (base,) = re.findall(r"^FROM (\S+)$", (folder / "Dockerfile").read_text(), re.M)
    name = f"{ground.registry}/ml-assets-tests/mlflow:bench"
    _push(name, folder, {base: _with_pip(ground, folder.with_name("base"))})
    return name


def _with_pip(ground: Ground, folder: Path) -> str:
    """Return the base image with a pip configured for this machine's indexes: MLflow's Dockerfile takes no secrets."""
    folder.mkdir()
    lines = [f"FROM {ground.base_image}"]
    lines += ["RUN command -v pip || python3 -m venv /opt/python", "ENV PATH=/opt/python/bin:$PATH"]
    if bundle := os.environ.get("SSL_CERT_FILE"):
        shutil.copy(bundle, folder / "bundle.pem")
        lines += ["COPY bundle.pem /etc/bundle.pem", "ENV PIP_CERT=/etc/bundle.pem SSL_CERT_FILE=/etc/bundle.pem"]
    if index := os.environ.get("PIP_INDEX_URL"):
        lines += [f"ENV PIP_INDEX_URL={index}"]
    (folder / "Dockerfile").write_text("\n".join(lines) + "\n")
    name = f"{ground.registry}/ml-assets-tests/base:bench"
    _push(name, folder, {})
    return name


def _push(name: str, context: Path, in_place_of: Mapping[str, str]) -> None:
    command: list[str | Path] = ["docker", "buildx", "build", "--progress", "plain", "--network", "host"]
    command += ["--provenance=false", "--tag", name, "--push"]
    for what, other in in_place_of.items():
        command += ["--build-context", f"{what}=docker-image://{other}"]
    built = subprocess.run([*command, context], capture_output=True, text=True, check=False)
    if built.returncode:
        sys.exit(f"error: {name} cannot be built\n{built.stderr[-4000:]}")

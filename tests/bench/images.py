"""Compare the train image's build with plain ``docker buildx build``: ``python -m tests.bench.images``.

Each side builds from its own base image, so that no layer is cached. Downloaded packages are in the build cache for
both. The second build follows a change of one line of code, the third follows no change. Each build pushes an image
to the registry.
"""

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from tests.bench.report import Measurement, write
from tests.containers.ground import Ground
from tests.containers.train_image import train_build

ROUNDS = 5
_CODE = "ml_assets/models.py"


def main() -> None:
    """Measure, print and write ``build/bench/images.json``."""
    ground = Ground.given()
    ground.require_engine()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sides = (_ours(ground, folder / "ours"), _plain(ground, folder / "plain"))
        cold = [_seconds(build) for build, _ in sides]
        changed: list[list[float]] = []
        unchanged: list[list[float]] = []
        for _ in range(ROUNDS):
            for _, checkout in sides:
                with (checkout / _CODE).open("a") as file:
                    file.write(f"# {uuid4().hex}\n")
            changed.append([_seconds(build) for build, _ in sides])
            unchanged.append([_seconds(build) for build, _ in sides])
    write(
        "images",
        [
            Measurement.of_medians("train image, no layer cached", [cold], "s"),
            Measurement.of_medians("train image after a change of the code", changed, "s"),
            Measurement.of_medians("train image, unchanged", unchanged, "s"),
        ],
    )


_Side = tuple[Callable[[], object], Path]


def _ours(ground: Ground, folder: Path) -> _Side:
    folder.mkdir()
    return train_build(replace(ground, base_image=_own_base(ground)), folder), folder


def _plain(ground: Ground, folder: Path) -> _Side:
    folder.mkdir()
    own = replace(ground, base_image=_own_base(ground))
    train_build(own, folder)  # called for its copy of the checkout
    secrets = {"ca_bundle": os.environ.get("SSL_CERT_FILE")}
    file = folder / "Dockerfile.train"
    command: list[str | Path] = ["docker", "buildx", "build", "--progress", "plain", "--file", file]
    command += ["--target", "code", "--network", "host", "--build-arg", f"BASE_IMAGE={own.base_image}"]
    command += [part for name, path in secrets.items() if path for part in ("--secret", f"id={name},src={path}")]
    command += ["--tag", f"{ground.registry}/ml-assets-tests/plain:bench", "--push", folder]
    return lambda: subprocess.run(command, check=True, capture_output=True), folder


def _own_base(ground: Ground) -> str:
    """Return a new image: the base image plus one file, so that no build has cached it."""
    name = f"{ground.registry}/ml-assets-tests/base:{uuid4().hex}"
    command = ["docker", "buildx", "build", "--quiet", "--tag", name, "--push", "-"]
    subprocess.run(
        command,
        input=f"FROM {ground.base_image}\nRUN echo {name} > /etc/base\n".encode(),
        check=True,
        capture_output=True,
    )
    return name


def _seconds(build: Callable[[], object]) -> float:
    started = time.perf_counter()
    with contextlib.redirect_stdout(None):
        build()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

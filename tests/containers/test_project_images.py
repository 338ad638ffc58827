"""The images of this project, built from its Dockerfiles."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest

from ml_assets.flight_delays.definitions import flight_delays
from ml_assets.images import image_specs
from ml_assets.resources.identity import ImageReference
from ml_assets.resources.image_builders.base_images import LOCK_FILE
from ml_assets.resources.image_builders.buildkit import BuildOptions
from ml_assets.resources.provenance import ImageLabels
from ml_assets.resources.registry.client import RegistryClient
from tests.conftest import unavailable
from tests.containers.ground import Ground
from tests.containers.small_project import Project, run_in

ROOT = Path(__file__).parents[2]


BUILDER_SOURCES = ("Dockerfile.train", "Dockerfile.serve", ".dockerignore", "uv.lock", LOCK_FILE)


PROJECT_FILES = (".dockerignore", "LICENSE", "README.md", "pyproject.toml", "uv.lock")


@pytest.fixture(scope="module")
def checkout(ground: Ground, base: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of this project, with a lock of base images that the tests' registry resolved."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("deployments", "ml_assets", "resources"):
        shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*(file.name for file in ROOT.glob("Dockerfile.*")), *PROJECT_FILES):
        shutil.copy(ROOT / name, root / name)
    (root / LOCK_FILE).write_text(base)
    given = {"ca_bundle": os.environ.get("SSL_CERT_FILE")}
    if address := os.environ.get("PIP_INDEX_URL"):
        file = tmp_path_factory.mktemp("secrets") / "index_url"
        file.write_text(address)
        given["index_url"] = str(file)
    options = BuildOptions(
        registry=ground.registry,
        base_registry=ground.registry,
        prefix="ml-assets-tests",
        plain_http=(ground.registry,),
        secrets={name: Path(file) for name, file in given.items() if file},
    )
    spec = image_specs(flight_delays())[dg.AssetKey(["images", "train"])]
    return Project(root, spec, ground.registry, RegistryClient(plain_http=[ground.registry]), options)


def test_train_image_runs_the_project_on_the_cpu_and_holds_no_gpu_runtime(checkout: Project) -> None:
    built, _ = checkout.build()
    assert built.image is not None
    program = (
        "import importlib.metadata, json, os, xgboost, ml_assets.definitions; "
        "print(json.dumps([os.getuid(), sorted(each.name for each in importlib.metadata.distributions())]))"
    )
    user, names = json.loads(run_in(built.image, "python", "-c", program))
    assert user == 10001
    assert {"dagster", "dvc", "mlflow", "ml-assets", "xgboost-cpu"} <= set(names)
    assert not [name for name in names if re.search("nvidia|cuda|cupy|pytest|ruff", name)]
    assert run_in(built.image, "cat", "environment_digest").strip() == str(built.environment_digest)


def test_commit_to_the_code_builds_the_code_alone(checkout: Project) -> None:
    before, _ = checkout.build()
    file = checkout.root / "resources" / "__init__.py"
    file.write_text(file.read_text() + f"# {uuid4().hex}\n")
    after, _ = checkout.build()
    assert after.built
    assert after.environment_digest == before.environment_digest
    assert before.image is not None
    assert after.image is not None
    assert _layers(after.image)[:3] == _layers(before.image)[:3]
    assert _layers(after.image) != _layers(before.image)


def test_builder_image_builds_other_images_without_an_engine_of_its_own(checkout: Project, ground: Ground) -> None:
    sources = (*checkout.spec.sources, *BUILDER_SOURCES)
    builder = replace(checkout, spec=replace(checkout.spec, name="builder", target="builder", sources=sources))
    built, _ = builder.build()
    socket = Path("/var/run/docker.sock")
    if not socket.exists():
        unavailable("the engine listens on no socket of this machine")
    variables = {
        "ML_ASSETS_TARGET": "local",
        "ML_ASSETS__IMAGES__BUILDER": "buildkit",
        "ML_ASSETS__IMAGES__REGISTRY": ground.registry,
        "ML_ASSETS__IMAGES__PLAIN_HTTP": json.dumps([ground.registry]),
        "ML_ASSETS__IMAGES__PREFIX": f"tests/{uuid4().hex}",
        "DAGSTER_HOME": "/tmp/home",
        "ML_ASSETS__DVC__CACHE": "/tmp/cache",
        "ML_ASSETS__DVC__REMOTE": "/tmp/remote",
        "ML_ASSETS__MLFLOW__TRACKING_URI": "sqlite:////tmp/mlflow.db",
    }
    secrets = {name: f"/tmp/{name}" for name in checkout.options.secrets}
    if secrets:
        variables["ML_ASSETS__IMAGES__SECRETS"] = (
            "{" + ", ".join(f"{name} = {json.dumps(file)}" for name, file in secrets.items()) + "}"
        )
    mounts = [f"{socket}:{socket}", *(f"{checkout.options.secrets[name]}:{file}:ro" for name, file in secrets.items())]
    done = subprocess.run(
        [
            *("docker", "run", "--rm", "--network", "host", "--group-add", str(socket.stat().st_gid)),
            *(part for name, value in variables.items() for part in ("--env", f"{name}={value}")),
            *(part for mount in mounts for part in ("--volume", mount)),
            *(str(built.image), "ml-assets", "images", "bootstrap", "serve", "--json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (made,) = json.loads(done.stdout)["images"]
    image = ImageReference.parse(made["image"])
    assert checkout.client.labels(image)[ImageLabels.ENVIRONMENT] == made["environment_digest"]
    program = "import ml_assets.serving.worker, importlib.util; print(importlib.util.find_spec('dagster'))"
    assert run_in(image, "python", "-c", program).strip() == "None"


def _layers(image: ImageReference) -> list[str]:
    subprocess.run(["docker", "pull", "--quiet", str(image)], capture_output=True, check=True)
    shown = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{json .RootFS.Layers}}", str(image)],
        capture_output=True,
        text=True,
        check=True,
    )
    layers: list[str] = json.loads(shown.stdout)
    return layers

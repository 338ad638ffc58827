"""Selection of a step's image after images are rebuilt: by digest, by environment and by code."""

import importlib.util
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest
from dagster._core.loader import LoadingContextForTest

from ml_assets.dagster_internals import CachingStaleStatusResolver, StaleStatus
from ml_assets.images import make_images
from ml_assets.resources.identity import ImageReference
from ml_assets.resources.image_builders.base_images import LOCK_FILE, update_base_images
from ml_assets.resources.provenance import ImageLabels, ProvenanceRecord
from ml_assets.resources.registry.client import RegistryClient
from tests.cluster.deployment import KubernetesDeployment
from tests.containers.fixtures import OpenKubernetes
from tests.containers.ground import Ground
from tests.contracts.container_executor import Story, overriding

MODULE = "tests.containers.steps_of_images"
FILE = Path("tests/containers/steps_of_images.py")
PROJECT = Path(__file__).parents[2]
STEPS = ("numbers", "doubled", "letters")
IN_LEFT = {"numbers", "doubled"}
FUNCTION, EDITED = 'print("these are numbers")', 'print("these are the numbers")'
DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${{BASE_IMAGE}} AS environment
COPY {name}.lock /environment.lock
FROM environment AS code
COPY tests /app/tests
ARG ENVIRONMENT_DIGEST=
USER root
RUN echo "${{ENVIRONMENT_DIGEST}}" > /app/environment_digest
USER 10001:10001
"""


@dataclass
class Checkout:
    """A project whose images are the train image plus little else; tests edit its code only in this folder."""

    root: Path
    deployment: KubernetesDeployment

    def make(self, *names: str) -> Mapping[str, ProvenanceRecord]:
        """Materialize images from the current files and return their records by name."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.root)
            records = make_images([self.definitions().get_repository_def()], self.deployment.instance, names, print)
        return {record.asset.rpartition("/")[2]: record for record in records}

    def definitions(self) -> dg.Definitions:
        """Return the code location as a code server would load it from the current files."""
        spec = importlib.util.spec_from_file_location(f"checkout_{uuid4().hex}", self.root / FILE)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loaded: dg.Definitions = module.defs()
        return loaded

    def edit(self, before: str, after: str) -> None:
        """Edit the code."""
        text = (self.root / FILE).read_text()
        assert before in text
        (self.root / FILE).write_text(text.replace(before, after))

    def add_dependency(self, image: str) -> None:
        """Change the dependencies of an image's environment."""
        with (self.root / f"{image}.lock").open("a") as lock:
            lock.write(f"{uuid4().hex}==1.0\n")

    def out_of_date(self) -> set[str]:
        """Return the steps' assets that Dagster shows as out of date."""
        graph = self.definitions().resolve_asset_graph()
        instance = self.deployment.instance
        resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        return {name for name in STEPS if resolver.get_status(dg.AssetKey(name)) is StaleStatus.STALE}


@pytest.fixture(scope="module")
def deployment(open_kubernetes: OpenKubernetes, image_with: Callable[..., str]) -> Iterator[KubernetesDeployment]:
    variables = {
        "ML_ASSETS__CONTAINERS__IMAGE": "images/right",
        "ML_ASSETS__IMAGES__PREFIX": f"tests/{uuid4().hex}",
    }
    with open_kubernetes(MODULE, image=image_with(MODULE), variables=variables) as opened:
        yield opened


@pytest.fixture
def checkout(deployment: KubernetesDeployment, base_lock: Path, tmp_path: Path) -> Checkout:
    for name in ("tests/__init__.py", "tests/containers/__init__.py", FILE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / name)
    shutil.copytree(PROJECT / "deployments", tmp_path / "deployments")
    (tmp_path / "uv.lock").touch()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "two-images"\nversion = "1"\n')
    for name in ("left", "right"):
        (tmp_path / f"Dockerfile.{name}").write_text(DOCKERFILE.format(name=name))
        (tmp_path / f"{name}.lock").write_text("alpha==1.0\n")
    shutil.copy(base_lock, tmp_path / LOCK_FILE)
    return Checkout(tmp_path, deployment)


@pytest.fixture(scope="module")
def base_lock(ground: Ground, train_image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lock whose only base image is the train image, as the registry resolves it."""
    name = f"ml-assets-tests/base:{uuid4().hex}"
    overwrite_tag(f"{ground.registry}/{name}", train_image)
    lock = tmp_path_factory.mktemp("lock") / LOCK_FILE
    repository, _, tag = name.partition(":")
    image = {"repository": repository, "tag": tag, "answer": None}
    lock.write_text(json.dumps({"schema_version": 1, "images": {"train": image}}))
    (update,) = update_base_images(lock, ground.registry, client(ground))
    assert update.error is None
    return lock


def test_overwritten_tag_changes_nothing(checkout: Checkout, deployment: KubernetesDeployment, ground: Ground) -> None:
    """Records and overrides contain digests, so overwriting a tag has no effect on them."""
    first = made_image(checkout.make("left")["left"])
    first_tag = tag_of(first, ground)
    assert ran_in(deployment, "numbers") == first
    checkout.add_dependency("left")
    second = made_image(checkout.make("left")["left"])
    second_tag = tag_of(second, ground)
    assert second != first
    overwrite_tag(first_tag, deployment.image)
    overwrite_tag(second_tag, deployment.image)
    assert client(ground).resolve(second_tag).reference != ImageReference.parse(second)
    assert ran_in(deployment, "numbers") == second
    assert ran_in(deployment, "numbers", image=first) == first


def test_changed_environment_makes_exactly_what_runs_in_it_out_of_date(
    checkout: Checkout, deployment: KubernetesDeployment
) -> None:
    before = checkout.make("left", "right")
    deployment.run(*STEPS)
    assert checkout.out_of_date() == set()
    checkout.add_dependency("left")
    after = checkout.make("left", "right")
    assert after["left"].data_version != before["left"].data_version
    assert after["right"].made_image == before["right"].made_image
    assert checkout.out_of_date() == IN_LEFT
    run = deployment.run("numbers", "doubled")
    assert checkout.out_of_date() == set()
    for record in Story(deployment, run.run_id).records().values():
        assert record.environment.environment_digest == after["left"].data_version
    deployment.run("numbers", run_config=overriding("numbers", image=made_image(before["left"])))
    assert checkout.out_of_date() == {"numbers"}, "it was pinned to the environment before"


def test_changed_function_makes_its_own_asset_alone_out_of_date(
    checkout: Checkout, deployment: KubernetesDeployment
) -> None:
    before = checkout.make("left", "right")
    deployment.run(*STEPS)
    assert checkout.out_of_date() == set()
    checkout.edit(FUNCTION, EDITED)
    assert checkout.out_of_date() == {"numbers"}
    after = checkout.make("left", "right")
    assert made_image(after["left"]) != made_image(before["left"]), "the code is in the image"
    assert after["left"].data_version == before["left"].data_version, "and not in its environment"
    assert checkout.out_of_date() == {"numbers"}


def test_other_code_in_the_image_is_refused_unless_the_image_is_pinned(
    checkout: Checkout, deployment: KubernetesDeployment
) -> None:
    """The code location has the project's code, but the image was built from an edited checkout."""
    checkout.edit(FUNCTION, EDITED)
    image = made_image(checkout.make("left")["left"])
    refused = deployment.run("numbers", status="FAILURE")
    story = Story(deployment, refused.run_id)
    failure = story.failure()
    assert failure["cls_name"] == "CodeMismatch"
    for words in ("numbers", image, "materialize images/left, then run the step again"):
        assert words in failure["message"]
    assert story.events(dg.DagsterEventType.STEP_START) == [], "no user code ran"
    pinned = deployment.run("numbers", run_config=overriding("numbers", image=image))
    assert "these are the numbers" in Story(deployment, pinned.run_id).log("numbers")
    assert ran_in(deployment, "doubled") == image, "its own code is the same"
    checkout.edit(EDITED, FUNCTION)
    assert checkout.out_of_date() == {"numbers"}, "the pinned run was one of other code"
    repaired = made_image(checkout.make("left")["left"])
    assert ran_in(deployment, "numbers") == repaired != image


def ran_in(deployment: KubernetesDeployment, asset: str, *, image: str | None = None) -> str:
    """Run an asset, optionally pinned to an image, and return the image that both the runtime and the record report."""
    run = deployment.run(asset, run_config=overriding(asset, image=image) if image else None)
    story = Story(deployment, run.run_id)
    ran = story.records()[asset].environment.image
    assert ran
    assert "The runtime runs the requested image" in story.said()
    return ran


def made_image(record: ProvenanceRecord) -> str:
    """Return the image in an image asset's record."""
    assert record.made_image
    return record.made_image


def tag_of(image: str, ground: Ground) -> str:
    """Return the tagged name of an image asset's image in the registry."""
    reference = ImageReference.parse(image)
    key = client(ground).labels(reference)[ImageLabels.BUILD_KEY]
    name = f"{reference.registry}/{reference.repository}:key-{key.rpartition(':')[2]}"
    assert client(ground).resolve(name).reference == reference
    return name


def overwrite_tag(name: str, image: str) -> None:
    """Point a tagged name at another image."""
    for command in (["pull", "--quiet", image], ["tag", image, name], ["push", "--quiet", name], ["rmi", name]):
        subprocess.run(["docker", *command], capture_output=True, check=True)


def client(ground: Ground) -> RegistryClient:
    """Return a client of the registry."""
    return RegistryClient(plain_http=[ground.registry])

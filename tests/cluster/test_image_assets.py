"""Image assets as steps on the cluster: the builder image contains clients but no engine, and BuildKit is remote."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast
from uuid import uuid4

import dagster as dg
import pytest

from ml_assets.executors.container_request import BUILDS_LABEL
from ml_assets.flight_delays.assets import builder_image as builder_asset
from ml_assets.resources.identity import ImageReference
from ml_assets.resources.image_builders.interface import ImageSpec
from ml_assets.resources.provenance import ImageLabels, ProvenanceRecord
from ml_assets.resources.registry.client import RegistryClient
from tests.cluster.deployment import KubernetesDeployment
from tests.containers.fixtures import OpenKubernetes
from tests.containers.ground import Ground
from tests.containers.small_project import run_in
from tests.containers.train_image import code_image, project_build
from tests.contracts.container_executor import Story

MODULE = "tests.cluster.small_image"
SOURCES = (
    "tests/__init__.py",
    "tests/cluster/__init__.py",
    "tests/cluster/small_image.py",
    "tests/cluster/Dockerfile.small",
)
ASSET, STEP = "images/small", "images__small"
SECRET, FOLDER = "image-builds", "/run/image-builds"
CERTIFICATES = f"-----BEGIN CERTIFICATE-----\n{uuid4().hex}\n-----END CERTIFICATE-----\n"


@dataclass(frozen=True)
class Build:
    """The results of one materialization of the image."""

    story: Story
    pod: dict[str, Any]
    record: ProvenanceRecord
    log: str


@pytest.fixture(scope="module")
def builder_image(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The project's builder image, with the code location on top."""
    build = project_build(ground, tmp_path_factory.mktemp("project"), cast(ImageSpec, builder_asset()))
    return code_image(ground, str(build().image), SOURCES)


@pytest.fixture(scope="module")
def deployment(
    open_kubernetes: OpenKubernetes, builder_image: str, buildkitd: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KubernetesDeployment]:
    """A deployment whose steps read what builds need from a Secret mounted read-only, as in production."""
    variables = {
        "ML_ASSETS__CONTAINERS__IMAGE": builder_image,
        "ML_ASSETS__CONTAINERS__BUILDER_IMAGE": builder_image,
        "ML_ASSETS__CONTAINERS__VOLUMES": f'[{{name="builds", secret={{secretName="{SECRET}"}}}}]',
        "ML_ASSETS__CONTAINERS__VOLUME_MOUNTS": f'[{{name="builds", mountPath="{FOLDER}", readOnly=true}}]',
        "ML_ASSETS__IMAGES__PREFIX": f"tests/{uuid4().hex}",
        "ML_ASSETS__IMAGES__BUILDX": "cluster",
        "ML_ASSETS__IMAGES__DRIVER": "remote",
        "ML_ASSETS__IMAGES__ENDPOINT": buildkitd,
        "ML_ASSETS__IMAGES__DOCKER_CONFIG": f"{FOLDER}/config.json",
        "ML_ASSETS__IMAGES__SECRETS__CA_BUNDLE": f"{FOLDER}/ca.pem",
    }
    folder = tmp_path_factory.mktemp("secret")
    (folder / "ca.pem").write_text(CERTIFICATES)
    (folder / "config.json").write_text(json.dumps({"auths": {}}))
    with open_kubernetes(MODULE, image=builder_image, variables=variables) as opened:
        opened.kubectl("create", "secret", "generic", SECRET, f"--from-file={folder}")
        yield opened


@pytest.fixture(scope="module")
def first(deployment: KubernetesDeployment) -> Build:
    return materialized(deployment)


def materialized(deployment: KubernetesDeployment) -> Build:
    """Materialize the image asset and read its step's pod while the pod exists."""
    run_id = deployment.launch(ASSET)
    pods: list[dict[str, Any]] = []
    deployment.wait_until(lambda: pods.extend(deployment.step_pods(run_id)) or pods, run_id)
    deployment.wait(run_id)
    story = Story(deployment, run_id)
    return Build(story, pods[0], story.records()[ASSET], "".join(deployment.logs(run_id, STEP)))


def test_pod_is_one_that_buildkitd_lets_in(first: Build) -> None:
    assert first.pod["metadata"]["labels"][BUILDS_LABEL] == "true"


def test_step_runs_in_the_builder_image_by_digest_on_the_cpu_pool(
    deployment: KubernetesDeployment, first: Build, builder_image: str
) -> None:
    (container,) = first.pod["spec"]["containers"]
    assert container["image"] == builder_image
    assert first.pod["spec"]["nodeSelector"] == {"pool": "cpu"}
    (placement,) = first.story.placements()
    assert (placement["image"], placement["pool"]) == (builder_image, "cpu")
    assert (first.record.environment.image, first.record.environment.pool) == (builder_image, "cpu")
    assert "The runtime runs the requested image" in first.story.said()


def test_pod_has_no_engine(first: Build) -> None:
    assert [volume for volume in first.pod["spec"]["volumes"] if "hostPath" in volume] == []
    assert not first.pod["spec"]["containers"][0].get("securityContext", {}).get("privileged")


def test_build_log_is_in_the_log_of_the_step(first: Build) -> None:
    assert "[code 1/2] COPY LICENSE /" in first.log
    assert "built and pushed" in first.log


def test_secret_of_the_pod_reaches_the_build(first: Build) -> None:
    assert hashlib.sha256(CERTIFICATES.encode()).hexdigest() in first.log


def test_registry_holds_the_image_that_the_record_names(ground: Ground, first: Build) -> None:
    record = first.record
    assert record.made_image
    image = ImageReference.parse(record.made_image)
    client = RegistryClient(plain_http=[ground.registry])
    assert client.labels(image)[ImageLabels.ENVIRONMENT] == record.data_version
    index = client.find(f"{image.registry}/{image.repository}@{record.made_index_digest}")
    assert index is not None
    assert list(index.platforms.values()) == [image.digest]
    assert run_in(image, "cat", "/environment_digest").strip() == record.data_version


def test_second_run_finds_the_image_in_the_registry(deployment: KubernetesDeployment, first: Build) -> None:
    second = materialized(deployment)
    assert "already in the registry" in second.log
    assert "COPY LICENSE" not in second.log
    for name in ("made_image", "made_index_digest", "data_version"):
        assert getattr(second.record, name) == getattr(first.record, name)
    (event,) = second.story.events(dg.DagsterEventType.ASSET_MATERIALIZATION)
    assert event.step_materialization_data.materialization.metadata["built"].value is False

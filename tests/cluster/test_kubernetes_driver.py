"""BuildKit in pods that buildx creates: the driver ``kubernetes``, configured by settings."""

import json
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ml_assets.resources.errors import EngineUnreachable, ImageError
from ml_assets.resources.image_builders.interface import BuiltImage, ImageBuilder
from ml_assets.resources.settings import load_settings
from ml_assets.target import Target
from tests.cluster.deployment import kubectl
from tests.containers.buildkitd_image import buildkitd_image
from tests.containers.deployment import PROJECT
from tests.containers.ground import Ground
from tests.containers.small_project import Project, run_in

SELECTOR = {"pool": "cpu", "kubernetes.io/os": "linux"}
MakeBuilder = Callable[..., ImageBuilder]


@pytest.fixture
def namespace(cluster: Ground) -> Iterator[str]:
    name = f"ml-assets-tests-builds-{uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def builder_name(namespace: str) -> Iterator[str]:
    """Name of a builder that does not exist in buildx yet; the builder is removed afterwards."""
    name = f"tests-{uuid4().hex[:12]}"
    yield name
    subprocess.run(["docker", "buildx", "rm", name], capture_output=True, check=False)


@pytest.fixture
def make_builder(cluster: Ground, project: Project, builder_name: str) -> MakeBuilder:
    """A function that makes the builder of the kubernetes target's settings, including their unused endpoint."""
    target = Path("deployments", "kubernetes")
    shutil.copytree(PROJECT / target, project.root / target)

    def make(**options: str) -> ImageBuilder:
        listed = ", ".join(f"{json.dumps(name)} = {json.dumps(value)}" for name, value in options.items())
        chosen = {
            "REGISTRY": cluster.registry,
            "PREFIX": project.options.prefix,
            "PLAIN_HTTP": json.dumps([cluster.registry]),
            "BUILDX": builder_name,
            "DRIVER": "kubernetes",
            "DRIVER_OPTIONS": f"{{{listed}}}",
            "NETWORK": "host",
        }
        variables = {f"ML_ASSETS__IMAGES__{name}": value for name, value in chosen.items()}
        return Target(load_settings({"ML_ASSETS_TARGET": "kubernetes", **variables}, project.root)).image_builder

    return make


def test_image_is_built_in_a_pod_of_the_namespace_asked_for(
    make_builder: MakeBuilder, project: Project, cluster: Ground, buildkitd: str, namespace: str, builder_name: str
) -> None:
    stand_in = buildkitd_image(cluster, buildkitd)
    selector = ",".join(f"{key}={value}" for key, value in SELECTOR.items())
    options = {"namespace": namespace, "image": stand_in, "nodeselector": selector, "requests.memory": "64Mi"}
    built, log = _build(make_builder(**options), project)
    assert built.built
    assert built.image is not None
    assert "COPY app /app" in log
    assert "without" not in built.explanation
    published = project.client.find(f"{built.image.registry}/{built.image.repository}:key-{built.build_key.hex}")
    assert published is not None
    assert published.reference.digest == built.index_digest
    assert published.platforms == {"linux/amd64": built.image.digest}
    assert run_in(built.image, "cat", "/app/main.py", "/installed") == "print('hello')\nalpha==1.0\n"

    (deployment,) = _listed(namespace, "deployments")
    assert deployment["metadata"]["name"] == f"{builder_name}0"
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == stand_in
    assert container["resources"]["requests"] == {"memory": "64Mi"}
    assert "--allow-insecure-entitlement=network.host" in container["args"], "images.network is host"
    assert pod["nodeSelector"] == SELECTOR
    (mount,) = [each for each in container["volumeMounts"] if each["mountPath"] == "/etc/buildkit"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == mount["name"]]
    (configuration,) = [
        each for each in _listed(namespace, "configmaps") if each["metadata"]["name"] == volume["configMap"]["name"]
    ]
    assert tomllib.loads(configuration["data"]["buildkitd.toml"])["registry"] == {cluster.registry: {"http": True}}

    again, _ = _build(make_builder(**options), project)
    assert (again.built, again.image) == (False, built.image)


def test_namespace_that_does_not_exist_is_told(make_builder: MakeBuilder, project: Project, namespace: str) -> None:
    with pytest.raises(EngineUnreachable, match=rf"{namespace}-none.*images\.driver_options"):
        _build(make_builder(namespace=f"{namespace}-none"), project)


def test_option_that_the_driver_does_not_know_is_told(make_builder: MakeBuilder, project: Project) -> None:
    with pytest.raises(ImageError, match="colour"):
        _build(make_builder(colour="blue"), project)


def _build(builder: ImageBuilder, project: Project) -> tuple[BuiltImage, str]:
    lines: list[str] = []
    built = builder.build(project.spec, lines.append)
    return built, "\n".join(lines)


def _listed(namespace: str, kind: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(kubectl("--namespace", namespace, "get", kind, "--output", "json"))[
        "items"
    ]
    return items

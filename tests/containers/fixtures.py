"""Fixtures of tests that need an engine or a cluster; expensive objects are created once per session.

A test module opens a deployment of its own code location with `open_docker` or `open_kubernetes`, usually in a
fixture of module scope::

    @pytest.fixture(scope="module")
    def deployment(open_kubernetes: OpenKubernetes) -> Iterator[KubernetesDeployment]:
        with open_kubernetes("tests.containers.steps") as opened:
            yield opened
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import pytest

from tests.containers.ground import Ground
from tests.containers.servers import Servers

if TYPE_CHECKING:
    from tests.cluster.deployment import KubernetesDeployment
    from tests.containers.deployment import DockerDeployment

_COMMON_SOURCES = ("tests/__init__.py", "tests/containers/__init__.py", "tests/cluster/__init__.py")

_Opened = TypeVar("_Opened", covariant=True)


class Opener(Protocol[_Opened]):
    """Opens a deployment of one module's definitions."""

    def __call__(
        self,
        module: str,
        *,
        sources: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        image: str | None = None,
    ) -> AbstractContextManager[_Opened]:
        """Run a deployment until the block ends.

        Args:
            module: module of the code location.
            sources: additional files or folders of the tests that the module imports, relative to the project's folder.
            variables: override the fixtures' variables in every process, including pods and containers.
            image: image of the code location by digest; by default the train image with the module on top.
        """


OpenDocker = Opener["DockerDeployment"]
OpenKubernetes = Opener["KubernetesDeployment"]


@pytest.fixture(scope="session")
def ground() -> Ground:
    """Engine and registry; without them, tests are skipped."""
    given = Ground.given()
    given.require_engine()
    return given


@pytest.fixture(scope="session")
def cluster(ground: Ground) -> Ground:
    """Engine, registry and cluster; without them, tests are skipped."""
    ground.require_cluster()
    return ground


@pytest.fixture(scope="session")
def containerd_engine(ground: Ground) -> Iterator[str]:
    """Address, as for ``DOCKER_HOST``, of a second Docker engine that stores attestations."""
    from tests.containers.engine import containerd_engine

    with containerd_engine(ground.registry) as socket:
        yield f"unix://{socket}"


@pytest.fixture(scope="session")
def buildkitd(ground: Ground, containerd_engine: str) -> Iterator[str]:
    """Address of BuildKit for this machine and for pods, as ``tcp://host:port``; a relay stands in for the daemon."""
    from tests.containers.buildkit_relay import buildkit_relay

    with buildkit_relay(ground.host, Path(containerd_engine.removeprefix("unix://"))) as address:
        yield address


@pytest.fixture(scope="session")
def running_servers(ground: Ground) -> Iterator[Servers]:
    """PostgreSQL, object storage and MLflow."""
    from tests.containers.servers import servers

    with servers(ground.host) as found:
        yield found


@pytest.fixture(scope="session")
def train_image(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The train image of this checkout, by digest."""
    from tests.containers import train_image as images

    return images.train_image(ground, tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def image_with(ground: Ground, train_image: str) -> Callable[..., str]:
    """A function that builds a code location's image by digest: the train image plus a test module and its files."""
    from tests.containers.train_image import code_image

    def make(module: str, sources: Sequence[str] = ()) -> str:
        own = f"{module.replace('.', '/')}.py"
        return code_image(ground, train_image, (*_COMMON_SOURCES, own, *sources))

    return make


@pytest.fixture(scope="session")
def open_docker(
    ground: Ground,
    running_servers: Servers,
    image_with: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> "OpenDocker":
    """A function that opens a deployment on the Docker engine."""
    from tests.containers.deployment import docker_deployment

    def open_one(
        module: str,
        *,
        sources: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        image: str | None = None,
    ) -> AbstractContextManager["DockerDeployment"]:
        used = image or image_with(module, sources)
        folder = tmp_path_factory.mktemp("docker")
        return docker_deployment(ground, running_servers, used, module, folder, variables)

    return open_one


@pytest.fixture(scope="session")
def open_kubernetes(
    cluster: Ground,
    running_servers: Servers,
    image_with: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> "OpenKubernetes":
    """A function that opens a deployment on the cluster."""
    from tests.cluster.deployment import kubernetes_deployment

    def open_one(
        module: str,
        *,
        sources: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        image: str | None = None,
    ) -> AbstractContextManager["KubernetesDeployment"]:
        used = image or image_with(module, sources)
        folder = tmp_path_factory.mktemp("kubernetes")
        return kubernetes_deployment(cluster, running_servers, used, module, folder, variables)

    return open_one

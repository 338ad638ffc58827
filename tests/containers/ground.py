"""Where containers run: the engine, the registry and the cluster that tests are given, read in one place.

- ``DOCKER_HOST``: the Docker engine, as Docker's own client takes it.
- ``KUBECONFIG``: the cluster. Its three kinds of node are told apart by the label ``pool``; see ``kube``.
- ``ML_ASSETS_TESTS_REGISTRY``: registry that the engine, the nodes and this process reach under the same name.
- ``ML_ASSETS_TESTS_HOST``: address of this machine that containers and pods reach.
- ``ML_ASSETS_TESTS_BASE_IMAGE``: Python's image, which project images are built on.
- ``ML_ASSETS_TESTS_TRAIN_IMAGE``: reference of a train image that was built already; built from ``Dockerfile.train``
  when left out.

The defaults are those of ``tests/cluster/kube``.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Self

from tests.conftest import unavailable
from tests.containers.servers import answers

BRING_UP = "make test-containers brings it up on Debian"


@dataclass(frozen=True)
class Ground:
    """What containers run on."""

    host: str
    registry: str
    base_image: str
    train_image: str | None

    @classmethod
    def given(cls) -> Self:
        """What variables say."""
        registry = os.environ.get("ML_ASSETS_TESTS_REGISTRY", "10.250.0.1:5000")
        return cls(
            host=os.environ.get("ML_ASSETS_TESTS_HOST", "10.250.0.1"),
            registry=registry,
            base_image=os.environ.get("ML_ASSETS_TESTS_BASE_IMAGE", f"{registry}/library/python:3.11-slim-bookworm"),
            train_image=os.environ.get("ML_ASSETS_TESTS_TRAIN_IMAGE"),
        )

    def without_engine(self) -> str | None:
        """What is missing of an engine and a registry; None if nothing is."""
        if not shutil.which("docker") or not _succeeds("docker", "info"):
            return f"no Docker engine answers; {BRING_UP}"
        if not answers(f"http://{self.registry}/v2/"):
            return f"no registry answers at {self.registry}; {BRING_UP}"
        return None

    def require_engine(self) -> None:
        """Skip, or fail where all tests have to run, unless there are an engine and a registry."""
        if missing := self.without_engine():
            unavailable(missing)

    def require_cluster(self) -> None:
        """Skip, or fail where all tests have to run, unless there is a cluster."""
        if not shutil.which("kubectl"):
            unavailable(f"kubectl is not installed; {BRING_UP}")
        if not os.environ.get("KUBECONFIG"):
            unavailable(f"KUBECONFIG names no cluster; {BRING_UP}")
        if not _succeeds("kubectl", "--request-timeout=10s", "get", "nodes"):
            unavailable(f"the cluster of {os.environ['KUBECONFIG']} does not answer; {BRING_UP}")


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0

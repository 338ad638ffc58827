"""The ground on which containers run: the tests' engine, registry and cluster, configured by variables.

- ``DOCKER_HOST``: the Docker engine, as for Docker's own client.
- ``KUBECONFIG``: the cluster. The label ``pool`` distinguishes its three kinds of node; see ``kube``.
- ``ML_ASSETS_TESTS_REGISTRY``: registry with the same name for the engine, the nodes and this process.
- ``ML_ASSETS_TESTS_HOST``: address of this machine for containers and pods.
- ``ML_ASSETS_TESTS_BASE_IMAGE``: Python image on which project images are built.
- ``ML_ASSETS_TESTS_TRAIN_IMAGE``: reference of an existing train image; by default it is built from
  ``Dockerfile.train``.

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
    """The engine, registry and cluster on which containers run."""

    host: str
    registry: str
    base_image: str
    train_image: str | None

    @classmethod
    def given(cls) -> Self:
        """Return the ground that variables describe."""
        registry = os.environ.get("ML_ASSETS_TESTS_REGISTRY", "10.250.0.1:5000")
        return cls(
            host=os.environ.get("ML_ASSETS_TESTS_HOST", "10.250.0.1"),
            registry=registry,
            base_image=os.environ.get("ML_ASSETS_TESTS_BASE_IMAGE", f"{registry}/library/python:3.11-slim-bookworm"),
            train_image=os.environ.get("ML_ASSETS_TESTS_TRAIN_IMAGE"),
        )

    def without_engine(self) -> str | None:
        """Return what is missing: an engine or a registry; None if both are available."""
        if not shutil.which("docker") or not _succeeds("docker", "info"):
            return f"no Docker engine answers; {BRING_UP}"
        if not answers(f"http://{self.registry}/v2/"):
            return f"no registry answers at {self.registry}; {BRING_UP}"
        return None

    def require_engine(self) -> None:
        """Require an engine and a registry: otherwise skip the test, or fail it if all tests must run."""
        if missing := self.without_engine():
            unavailable(missing)

    def require_cluster(self) -> None:
        """Require a cluster: otherwise skip the test, or fail it if all tests must run."""
        if not shutil.which("kubectl"):
            unavailable(f"kubectl is not installed; {BRING_UP}")
        if not os.environ.get("KUBECONFIG"):
            unavailable(f"KUBECONFIG names no cluster; {BRING_UP}")
        if not _succeeds("kubectl", "--request-timeout=10s", "get", "nodes"):
            unavailable(f"the cluster of {os.environ['KUBECONFIG']} does not answer; {BRING_UP}")


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0

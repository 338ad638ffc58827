"""The kubernetes target as ``kubectl apply -k`` deploys it, in its own namespace."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from tests.cluster.deployment import kubectl
from tests.containers.ground import Ground
from tests.containers.servers import running
from tests.containers.stand_ins import services_image, stand_in
from tests.containers.webserver import Webserver
from tests.ports import accepts, free_port

_TARGET = Path(__file__).parents[2] / "deployments" / "kubernetes"
_PROBED = ("code-location", "lineage", "metrics", "mlflow", "webserver", "webserver-read-only")
COMMIT = "c0" * 20


@dataclass(frozen=True)
class Kustomized:
    """A deployment of the overlay ``test``."""

    namespace: str
    image: str
    """Image of the services and of steps, by digest."""
    folder: Path
    ground: Ground
    buildkitd: str
    """Address of BuildKit for pods."""

    def apply(self) -> None:
        """Apply the overlay to the cluster."""
        variables = {
            "ML_ASSETS_IMAGE": self.image,
            "ML_ASSETS__IMAGES__PREFIX": f"tests/{self.namespace}",
            "ML_ASSETS__IMAGES__ENDPOINT": self.buildkitd,
            "ML_ASSETS__IMAGES__NETWORK": "host",
            "ML_ASSETS__IMAGES__REGISTRY_CACHE": "false",  # the relay's engine has the cache
            "ML_ASSETS__IMAGES__SECRETS__CA_BUNDLE": "/run/ml-assets-images/ca.pem",
            "ML_ASSETS__CONTAINERS__NAMESPACE": self.namespace,
            "ML_ASSETS__IMAGES__REGISTRY": self.ground.registry,
            "ML_ASSETS__IMAGES__PLAIN_HTTP": f'["{self.ground.registry}"]',
            "ML_ASSETS__POOLS__CPU__CPUS": "0.1",
            "ML_ASSETS__POOLS__CPU__MEMORY": "1Gi",
            # Lets tests run without waiting for the night.
            "ML_ASSETS__FLIGHT_DELAYS__NIGHTLY": "* * * * *",
            "ML_ASSETS__POOLS__GPU__CPUS": "0.1",
            "ML_ASSETS__POOLS__GPU__MEMORY": "1Gi",
            "ML_ASSETS__POOLS__GPU__SHARED_MEMORY": "64Mi",
            "ML_ASSETS__POOLS__GPU__CHECK_ACCELERATORS": "false",  # the accelerators are not real
        }
        literals = [f"{name}={value}" for name, value in variables.items()]
        others = {"postgres": self.postgres_image, "chrislusf/seaweedfs": stand_in(self.ground, "storage")}
        images = [
            dict(zip(("newName", "digest"), new.split("@"), strict=True), name=old) for old, new in others.items()
        ]
        overlay = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": self.namespace,
            "bases": [os.path.relpath(_TARGET / "overlays" / "test", self.folder.resolve())],
            "generatorOptions": {"disableNameSuffixHash": True},
            "configMapGenerator": [{"name": "ml-assets", "behavior": "merge", "literals": literals}],
            "images": images,
            "patchesStrategicMerge": [f"{name}.yaml" for name in _PROBED],
        }
        for name in _PROBED:
            (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(_patient(name)))
        (self.folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        kubectl("apply", "--kustomize", str(self.folder))

    def rolled_out(self, *deployments: str) -> None:
        """Wait until each deployment has the desired number of ready pods of its latest revision.

        Raises:
            AssertionError: a deployment does not become ready.
        """
        for name in deployments:
            try:
                self.kubectl("rollout", "status", f"deployment/{name}", "--timeout=1500s")
            except AssertionError:
                raise AssertionError(
                    self.kubectl("get", "pods", "--output=wide")
                    + self.kubectl("get", "events", "--sort-by=.lastTimestamp")[-6000:]
                    + self.kubectl("logs", f"deployment/{name}", "--all-containers", "--tail=60")
                ) from None

    @property
    def postgres_image(self) -> str:
        """Stand-in for PostgreSQL's image."""
        return stand_in(self.ground, "postgres")

    def run_job(self, what: str) -> str:
        """Return the output of a Job in the target's folder ``jobs``.

        Raises:
            AssertionError: the Job fails.
        """
        command = [str(_TARGET / "jobs" / "run"), what, self.namespace]
        environment = {**os.environ, "POSTGRES_IMAGE": self.postgres_image}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
        return done.stdout

    def trace(self, reference: str) -> dict[str, Any]:
        """Return the answer of ``ml-assets trace``."""
        answer: dict[str, Any] = json.loads(
            self.kubectl("exec", "deployment/lineage", "--", "ml-assets", "trace", reference, "--json")
        )
        return answer

    def kubectl(self, *arguments: str) -> str:
        """Return the output of ``kubectl`` in the namespace."""
        return kubectl("--namespace", self.namespace, *arguments)

    @contextmanager
    def forwarded(self, service: str, port: int = 3000) -> Iterator[str]:
        """Yield the address of a service, forwarded to a port of this machine."""
        own = free_port()
        command = ["kubectl", "--namespace", self.namespace, "port-forward", f"service/{service}", f"{own}:{port}"]
        with running(command, lambda: accepts("127.0.0.1", own), self.folder / f"{service}.log"):
            yield f"http://127.0.0.1:{own}"

    @contextmanager
    def webserver(self, service: str) -> Iterator[Webserver]:
        """Yield a client of a webserver that sends the UI's queries."""
        with self.forwarded(service) as address:
            yield Webserver(address)


@contextmanager
def kustomized(ground: Ground, folder: Path, buildkitd: str) -> Iterator[Kustomized]:
    """Run the overlay ``test`` with this ground's images until the block ends, then delete its namespace.

    Args:
        ground: engine and registry; the images are pushed to the registry.
        folder: empty directory, for an overlay on top of ``test``.
        buildkitd: address of BuildKit for pods.
    """
    namespace = f"ml-assets-tests-{uuid4().hex[:12]}"
    target = Kustomized(namespace, services_image(ground, COMMIT), folder, ground, buildkitd)
    kubectl("create", "namespace", namespace)
    try:
        bundle = os.environ.get("SSL_CERT_FILE", "/dev/null")
        target.kubectl("create", "secret", "generic", "ml-assets-images", f"--from-file=ca.pem={bundle}")
        target.apply()
        yield target
    finally:
        command = ["kubectl", "delete", "namespace", target.namespace, "--wait=false"]
        subprocess.run(command, capture_output=True, check=False)


def _patient(deployment: str) -> dict[str, Any]:
    """Return a patch that allows a service a slow start on a busy machine and detects readiness quickly."""
    probes = {
        "startupProbe": {"failureThreshold": 900, "timeoutSeconds": 10},
        "readinessProbe": {"periodSeconds": 2, "timeoutSeconds": 10},
        "livenessProbe": {"timeoutSeconds": 60},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": deployment},
        "spec": {"template": {"spec": {"containers": [{"name": deployment, **probes}]}}},
    }

"""The kubernetes target as ``kubectl apply -k`` brings it up, in a namespace of its own."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import yaml

from tests.cluster.deployment import kubectl
from tests.containers.ground import Ground
from tests.containers.servers import running
from tests.containers.stand_ins import services_image, stand_in
from tests.containers.webserver import Webserver
from tests.ports import accepts, free_port

PROJECT = Path(__file__).parents[2]
COMMIT = "c0" * 20


@dataclass(frozen=True)
class Kustomized:
    """The overlay ``test`` at work."""

    namespace: str
    image: str
    """Image of the services and of steps, by digest."""
    folder: Path

    def kubectl(self, *arguments: str) -> str:
        """What ``kubectl`` answers in the namespace."""
        return kubectl("--namespace", self.namespace, *arguments)

    @contextmanager
    def webserver(self, service: str) -> Iterator[Webserver]:
        """A webserver, through a port of this machine."""
        port = free_port()
        command = ["kubectl", "--namespace", self.namespace, "port-forward", f"service/{service}", f"{port}:3000"]
        with running(command, lambda: accepts("127.0.0.1", port), self.folder / f"{service}.log"):
            yield Webserver(f"http://127.0.0.1:{port}")


@contextmanager
def kustomized(ground: Ground, folder: Path) -> Iterator[Kustomized]:
    """The overlay ``test`` with this ground's images, until the block ends; its namespace goes with everything in it.

    Args:
        ground: its registry gets the images.
        folder: empty directory, for an overlay above ``test``.
    """
    namespace = f"ml-assets-tests-{uuid4().hex[:12]}"
    image = services_image(ground, COMMIT)
    variables = {
        "ML_ASSETS_IMAGE": image,
        "ML_ASSETS__CONTAINERS__NAMESPACE": namespace,
        "ML_ASSETS__IMAGES__REGISTRY": ground.registry,
        "ML_ASSETS__POOLS__CPU__CPUS": "0.1",
        "ML_ASSETS__POOLS__CPU__MEMORY": "1Gi",
        **{f"ML_ASSETS__PLACEMENT__{asset}__IMAGE": image for asset in ("FLIGHTS", "WEATHER", "DEPARTURES")},
    }
    literals = [f"{name}={value}" for name, value in variables.items()]
    others = {"postgres": stand_in(ground, "postgres"), "chrislusf/seaweedfs": stand_in(ground, "storage")}
    images = [dict(zip(("newName", "digest"), new.split("@"), strict=True), name=old) for old, new in others.items()]
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "bases": [os.path.relpath(PROJECT / "deployments" / "kubernetes" / "overlays" / "test", folder.resolve())],
        "generatorOptions": {"disableNameSuffixHash": True},
        "configMapGenerator": [{"name": "ml-assets", "behavior": "merge", "literals": literals}],
        "images": images,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    try:
        kubectl("apply", "--kustomize", str(folder))
        yield Kustomized(namespace, image, folder)
    finally:
        subprocess.run(["kubectl", "delete", "namespace", namespace, "--wait=false"], capture_output=True, check=False)

"""The kubernetes target on the tests' cluster, in its own namespace."""

import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.containers.deployment import PROJECT, Deployment, deployed, shared_variables
from tests.containers.ground import Ground
from tests.containers.servers import Servers

RUN_WORKER, STEP = "ml-assets", "ml-assets-step"
_NUMBERS = itertools.count(1)
_SECRETS = ("DAGSTER_POSTGRES_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_RULES = next(
    manifest["rules"]
    for manifest in yaml.safe_load_all((PROJECT / "deployments/kubernetes/base/rbac.yaml").read_text())
    if manifest["kind"] == "Role" and manifest["metadata"]["name"] == RUN_WORKER
)


@dataclass
class KubernetesDeployment(Deployment):
    """A deployment on a cluster."""

    namespace: str = "default"

    @cached_property
    def _pods_api(self) -> Any:
        import kubernetes

        from ml_assets.executors.kubernetes.engine import api_client

        return kubernetes.client.CoreV1Api(api_client(None))

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Return the output of ``kubectl`` in the deployment's namespace.

        Raises:
            AssertionError: ``kubectl`` fails.
        """
        return kubectl("--namespace", self.namespace, *arguments, given=given)

    def pods(self, selector: str = "") -> list[dict[str, Any]]:
        """Return the namespace's pods that match a label selector, including those that have ended."""
        # Tests poll this often; starting a program each time would keep a core busy.
        answer = self._pods_api.list_namespaced_pod(self.namespace, label_selector=selector, _preload_content=False)
        return list(json.loads(answer.data)["items"])

    def step_pods(self, run_id: str) -> list[dict[str, Any]]:
        """Return the pods of a run's steps."""
        from ml_assets.executors.engine import RUN_LABEL

        return self.pods(f"{RUN_LABEL}={run_id}")

    def run_workers(self, run_id: str) -> list[dict[str, Any]]:
        """Return the pods of a run's workers."""
        return self.pods(f"dagster/run-id={run_id},app.kubernetes.io/component=run_worker")

    def story(self, run_id: str) -> str:
        """Return a readable report of a run: its events, the cluster's events and the output of its run workers."""
        parts = [super().story(run_id), self.kubectl("get", "pods", "--output", "wide")]
        parts.append(self.kubectl("get", "events", "--sort-by", ".lastTimestamp"))
        for worker in self.run_workers(run_id):
            name = worker["metadata"]["name"]
            parts.append(f"{name} printed:\n{self.logs_of(name)}")
        return "\n".join(parts)

    def logs_of(self, pod: str) -> str:
        """Return the last lines that a pod printed; empty if the pod is gone or never ran."""
        asked = ["kubectl", "--namespace", self.namespace, "logs", pod, "--tail", "60"]
        return subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False).stdout


@contextmanager
def kubernetes_deployment(
    ground: Ground,
    servers: Servers,
    image: str,
    module: str,
    folder: Path,
    variables: Mapping[str, str] | None = None,
) -> Iterator[KubernetesDeployment]:
    """Run the kubernetes target until the block ends, then delete its namespace with everything in it."""
    namespace = f"ml-assets-tests-{int(time.time()) % 10**6}-{os.getpid()}-{next(_NUMBERS)}"
    own = {
        **shared_variables("kubernetes", ground, servers),
        "ML_ASSETS__CONTAINERS__NAMESPACE": namespace,
        **(variables or {}),
    }
    for manifest in _manifests(namespace, own):
        kubectl("apply", "--filename", "-", given=json.dumps(manifest))
    try:
        with deployed(
            KubernetesDeployment,
            "kubernetes",
            module=module,
            image=image,
            folder=folder,
            servers=servers,
            variables=own,
            namespace=namespace,
        ) as deployment:
            yield deployment
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false")


def kubectl(*arguments: str, given: str | None = None) -> str:
    """Return the output of ``kubectl``.

    Raises:
        AssertionError: ``kubectl`` fails.
    """
    done = subprocess.run(
        ["kubectl", *arguments], input=given, capture_output=True, text=True, timeout=1000, check=False
    )
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def _manifests(namespace: str, variables: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the namespace, service accounts with the rights of base/rbac.yaml, variables and the instance's file."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    for account in (RUN_WORKER, STEP):
        yield _manifest("v1", "ServiceAccount", account, namespace)
    yield _manifest("rbac.authorization.k8s.io/v1", "Role", RUN_WORKER, namespace, rules=_RULES)
    yield _manifest(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        RUN_WORKER,
        namespace,
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": RUN_WORKER},
        subjects=[{"kind": "ServiceAccount", "name": RUN_WORKER, "namespace": namespace}],
    )
    plain = {name: value for name, value in variables.items() if name not in _SECRETS}
    secret = {name: value for name, value in variables.items() if name in _SECRETS}
    yield _manifest("v1", "ConfigMap", "ml-assets", namespace, data=plain)
    yield _manifest("v1", "Secret", "ml-assets", namespace, stringData=secret)
    file = (PROJECT / "deployments" / "kubernetes" / "dagster.yaml").read_text()
    yield _manifest("v1", "ConfigMap", "ml-assets-instance", namespace, data={"dagster.yaml": file})


def _toml(tree: Any) -> str:
    """Return arrays and tables of strings as inline TOML."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key} = {_toml(value)}" for key, value in tree.items()) + "}"
    return "[" + ", ".join(map(_toml, tree)) + "]" if isinstance(tree, list) else json.dumps(tree)


def _manifest(version: str, kind: str, name: str, namespace: str, **content: Any) -> dict[str, Any]:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        **content,
    }

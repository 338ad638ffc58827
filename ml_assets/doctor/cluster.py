"""Checks of the Kubernetes cluster that runs steps: access, rights, referenced objects, nodes and clock."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from ml_assets.doctor.nodes import pool_finding
from ml_assets.doctor.runner import Finding, clock_finding, fault, ok, warning
from ml_assets.executors.kubernetes.engine import RIGHTS, api_client, reaching
from ml_assets.resources.settings import Settings

__all__ = ["Cluster"]

_TIMEOUT = 8
_OLDEST = (1, 20)


@dataclass(frozen=True)
class Cluster:
    """The cluster that the settings name."""

    settings: Settings

    def access(self) -> Iterator[Finding]:
        """Check that it answers, is new enough, and has the same time."""
        version, headers = self._ask("GET", "/version")
        said = version["gitVersion"]
        number = tuple(int("".join(filter(str.isdigit, version[part])) or 0) for part in ("major", "minor"))
        if number < _OLDEST:
            yield fault(f"the cluster runs Kubernetes {said}", "upgrade it: steps need 1.20 or later")
        else:
            yield ok(f"the cluster answers (Kubernetes {said})")
        if "date" in headers:
            yield clock_finding("the API server", parsedate_to_datetime(headers["date"]))

    def rights(self) -> Iterator[Finding]:
        """Check that the current user has the executor's rights. Run it where run workers run to check theirs."""
        namespace = self.settings.containers.namespace
        missing = []
        for group, resource, verb in RIGHTS:
            kind, _, part = resource.partition("/")
            wanted = {"namespace": namespace, "group": group, "resource": kind, "subresource": part, "verb": verb}
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": wanted},
            }
            answer, _ = self._ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
            if not answer["status"]["allowed"]:
                missing.append(f"{verb} {resource}")
        if missing:
            yield fault(
                f"missing rights in namespace {namespace}: {', '.join(missing)}",
                "bind the Role of deployments/kubernetes to the service account of run workers, or to yourself",
            )
        else:
            yield ok(f"all rights that the executor needs in namespace {namespace} are granted")

    def references(self) -> Iterator[Finding]:
        """Check that the objects every step's pod refers to exist, as far as the current user may read them."""
        containers = self.settings.containers
        accounts = [containers.service_account, *(pool.service_account for pool in self.settings.pools.values())]
        named = {
            "serviceaccounts": [name for name in accounts if name],
            "secrets": [*containers.secrets, *containers.image_pull_secrets],
            "configmaps": list(containers.config_maps),
        }
        missing: list[str] = []
        unseen: list[str] = []
        for kind, names in named.items():
            for name in dict.fromkeys(names):
                status = self._status(f"/api/v1/namespaces/{containers.namespace}/{kind}/{name}")
                if status == 404:
                    missing.append(f"{kind}/{name}")
                elif status == 403:
                    unseen.append(f"{kind}/{name}")
        if missing:
            yield fault(
                f"missing in namespace {containers.namespace}: {', '.join(missing)}",
                "create them, or correct [containers] in settings.toml",
            )
        elif unseen:
            yield warning(f"no right to read {', '.join(unseen)}", "ask an administrator whether they exist")
        elif any(named.values()):
            yield ok("all objects that pods refer to exist")

    def pools(self) -> Iterator[Finding]:
        """Check that each pool has a node that its steps fit on."""
        if self._status("/api/v1/nodes?limit=1") == 403:
            yield warning(
                "no right to list nodes, so pools cannot be checked", "ask an administrator to run this check"
            )
            return
        nodes = self._ask("GET", "/api/v1/nodes")[0]["items"]
        for name, pool in sorted(self.settings.pools.items()):
            yield pool_finding(name, pool, nodes)

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[dict[str, Any], Mapping[str, str]]:
        with reaching():
            answer = api_client(self.settings.containers.kubeconfig).call_api(
                path,
                method,
                header_params={"Content-Type": "application/json", "Accept": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=_TIMEOUT,
            )
            return json.loads(answer.data), {name.lower(): value for name, value in answer.headers.items()}

    def _status(self, path: str) -> int:
        from kubernetes.client.exceptions import ApiException

        try:
            self._ask("GET", path)
        except ApiException as error:
            return int(error.status or 0)
        return 200

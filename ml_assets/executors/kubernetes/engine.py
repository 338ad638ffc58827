"""Engine that runs steps as Jobs of a Kubernetes cluster.

Pods and Jobs are read as plain JSON, which is several times faster than the client's models and tolerates fields of
newer servers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ml_assets.executors.engine import (
    MANAGED_BY,
    MANAGER,
    RUN_LABEL,
    ContainerEngine,
    ContainerRequest,
    ContainerState,
    ContainerStatus,
)
from ml_assets.executors.failures import Failure
from ml_assets.executors.kubernetes.manifest import job_manifest
from ml_assets.executors.kubernetes.pods import (
    event_lines,
    job_status,
    on_lost_node,
    pod_status,
    pull_seconds,
    refused_mount,
    refused_pod,
    seconds_of,
    why_deleted,
    why_ended,
)
from ml_assets.resources.errors import EngineRefused, EngineUnreachable
from ml_assets.resources.extras import require
from ml_assets.resources.sections import ContainerSettings

__all__ = ["RIGHTS", "KubernetesEngine", "api_client", "reaching"]

RIGHTS = (
    ("batch", "jobs", "create"),
    ("batch", "jobs", "get"),
    ("batch", "jobs", "list"),
    ("batch", "jobs", "delete"),
    ("", "pods", "list"),
    ("", "pods", "delete"),
    ("", "pods/log", "get"),
    ("", "events", "list"),
)
"""Required API permissions in the namespace of steps: API group, resource, verb."""

_JOB = "job-name"
_TIMEOUT = (5, 30)
_OVERDUE_SECONDS = 10
_LATE_SECONDS = 4
_POD_MADE = "SuccessfulCreate"
_FROM_CACHE = "0"
"""Resource version that lets the API server answer from its cache, which is cheap and slightly behind."""
_REFUSALS = frozenset({400, 403, 404, 405, 413, 422})


class KubernetesEngine(ContainerEngine):
    """The cluster that the settings name, or the cluster that this process runs in.

    Args:
        settings: settings of every step's pod, such as namespace and volumes.
    """

    name, noun = "Kubernetes", "Job"

    def __init__(self, settings: ContainerSettings) -> None:
        self._settings, self._namespace = settings, settings.namespace
        client = api_client(settings.kubeconfig)
        import kubernetes

        self._core, self._batch = kubernetes.client.CoreV1Api(client), kubernetes.client.BatchV1Api(client)

    def start(self, request: ContainerRequest) -> None:
        """Create the Job, unless it exists."""
        from kubernetes.client.exceptions import ApiException

        with reaching():
            try:
                self._batch.create_namespaced_job(
                    self._namespace, job_manifest(request, self._settings), _request_timeout=_TIMEOUT
                )
            except ApiException as error:
                if error.status == 409:
                    return
                if error.status in _REFUSALS:
                    raise EngineRefused(
                        f"the cluster rejected the Job: {_said(error)}",
                        next_step="correct the settings, the quota or the permissions",
                    ) from error
                raise

    def observe(self, run_id: str) -> Mapping[str, ContainerStatus]:
        """Return every step's Job of a run, by name, with the status of its newest pod."""
        selector = f"{RUN_LABEL}={run_id}"
        jobs = self._list(self._batch.list_namespaced_job, selector, resource_version=_FROM_CACHE)
        pods = self._list(self._core.list_namespaced_pod, selector, resource_version=_FROM_CACHE)
        newest = {each["metadata"]["labels"].get(_JOB, ""): each for each in sorted(pods, key=_made_at)}
        found: dict[str, ContainerStatus] = {}
        for job in jobs:
            name = job["metadata"]["name"]
            found[name] = self._pod_status(newest[name]) if name in newest else self._job_status(job)
        return found

    def evidence(self, name: str, lines: int) -> tuple[Sequence[str], Sequence[str]]:
        """Return the last lines that a step printed, and the events of its pods and its Job."""
        from kubernetes.client.exceptions import ApiException

        printed: list[str] = []
        pods = self._pods(name)
        for pod in pods[:1]:
            try:
                with reaching():
                    answer = self._core.read_namespaced_pod_log(
                        pod["metadata"]["name"],
                        self._namespace,
                        tail_lines=lines,
                        _preload_content=False,
                        _request_timeout=_TIMEOUT,
                    )
                    printed = answer.data.decode(errors="replace").splitlines()
            except (ApiException, EngineUnreachable):  # the pod has not started, or its node is gone
                continue
        return printed, event_lines(self._events(name))

    def pull_seconds(self, name: str) -> float | None:
        """Return the pull time from the last such event of any pod of the Job."""
        return pull_seconds(self._events(name))

    def why_gone(self, name: str) -> Failure | None:
        """Return why a Job's first pod, or the Job itself, no longer exists; None if both exist."""
        from kubernetes.client.exceptions import ApiException

        pods, events = self._pods(name), self._events(name)
        made = len([each for each in events if each.get("reason") == _POD_MADE])
        if pods and made <= 1 and "deletionTimestamp" not in pods[0]["metadata"]:
            return None
        if not pods and made == 0:
            try:
                with reaching():
                    self._batch.read_namespaced_job(name, self._namespace, _request_timeout=_TIMEOUT)
                return None
            except ApiException:
                pass
        return why_deleted(None, events, lost_node=False)

    def stop(self, name: str) -> bool:
        """Delete the Job and its pods; return True if the pods' processes have ended or their nodes do not answer."""
        self._delete(self._batch.delete_namespaced_job, name, propagation_policy="Background")
        pods = self._pods(name)
        for pod in pods:
            metadata = pod["metadata"]
            if "deletionTimestamp" not in metadata:
                self._delete(self._core.delete_namespaced_pod, metadata["name"])
            elif on_lost_node(pod) or _is_overdue(metadata["deletionTimestamp"]):
                self._delete(self._core.delete_namespaced_pod, metadata["name"], grace_period_seconds=0)
        return all(pod_status(pod).has_ended for pod in pods)

    def remove(self, name: str, *, succeeded: bool) -> None:
        """Delete the Job of a step that succeeded; a failed one expires with its time to live."""
        if succeeded:
            self._delete(self._batch.delete_namespaced_job, name, propagation_policy="Background")

    def all_runs(self) -> dict[str, list[str]]:
        """Return the names of all step Jobs, by run."""
        runs: dict[str, list[str]] = {}
        for job in self._list(self._batch.list_namespaced_job, f"{MANAGED_BY}={MANAGER}"):
            metadata = job["metadata"]
            runs.setdefault(metadata["labels"].get(RUN_LABEL, ""), []).append(metadata["name"])
        return runs

    def _job_status(self, job: Mapping[str, Any]) -> ContainerStatus:
        seen = job_status(job)
        if seen.state is ContainerState.PENDING and _is_late(_made_at(job)):
            seen = refused_pod(seen, self._events_of(job["metadata"]["name"], "FailedCreate"))
        return seen

    def _pod_status(self, pod: Mapping[str, Any]) -> ContainerStatus:
        seen = pod_status(pod)
        if seen.state is ContainerState.PENDING and seen.scheduled_at is not None and _is_late(_made_at(pod)):
            seen = refused_mount(seen, self._events_of(pod["metadata"]["name"], "FailedMount"))
        if "deletionTimestamp" not in pod["metadata"] or (seen.has_ended and why_ended(pod) is None):
            return seen
        events = self._events(pod["metadata"]["labels"].get(_JOB, ""))
        return replace(seen, failure=why_deleted(pod, events, on_lost_node(pod)))

    def _pods(self, name: str) -> list[dict[str, Any]]:
        pods = self._list(self._core.list_namespaced_pod, f"{_JOB}={name}")
        return sorted(pods, key=_made_at)

    def _events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of a Job and its pods, including deleted pods, which the Job's events name."""
        events = self._events_of(name)
        made = [each["message"].rpartition(" ")[2] for each in events if each.get("reason") == _POD_MADE]
        for pod in dict.fromkeys([*made, *(pod["metadata"]["name"] for pod in self._pods(name))]):
            events += self._events_of(pod)
        return sorted(events, key=_happened_at)

    def _events_of(self, involved: str, reason: str | None = None) -> list[dict[str, Any]]:
        selector = f"involvedObject.name={involved}" + (f",reason={reason}" if reason else "")
        return sorted(self._list(self._core.list_namespaced_event, field_selector=selector), key=_happened_at)

    def _list(self, call: Any, selector: str | None = None, **options: str) -> list[dict[str, Any]]:
        if selector is not None:
            options["label_selector"] = selector
        with reaching():
            answer = call(self._namespace, _preload_content=False, _request_timeout=_TIMEOUT, **options)
            return list(json.loads(answer.data)["items"])

    def _delete(self, call: Any, name: str, **options: Any) -> None:
        from kubernetes.client.exceptions import ApiException

        with reaching():
            try:
                call(name, self._namespace, _request_timeout=_TIMEOUT, **options)
            except ApiException as error:
                if error.status not in (404, 409):
                    raise


def api_client(kubeconfig: str | None) -> Any:
    """Return a client of the cluster that a kubeconfig names, or that this process runs in.

    Raises:
        EngineRefused: no connection to the cluster is configured.
        MissingPackage: the Kubernetes client is not installed.
    """
    require("kubernetes")
    import kubernetes

    return kubernetes.client.ApiClient(_configuration(kubeconfig))


def _configuration(kubeconfig: str | None) -> Any:
    import kubernetes

    configuration = kubernetes.client.Configuration()
    try:
        if kubeconfig is None:
            kubernetes.config.load_incluster_config(client_configuration=configuration)
            return configuration
    except kubernetes.config.ConfigException:  # outside of the cluster: the same configuration as kubectl
        pass
    try:
        kubernetes.config.load_kube_config(kubeconfig, client_configuration=configuration)
    except kubernetes.config.ConfigException as error:
        raise EngineRefused(
            f"no connection to a cluster is configured: {error}",
            next_step="set kubeconfig in [containers] or the variable KUBECONFIG, or run inside the cluster",
        ) from error
    return configuration


@contextmanager
def reaching() -> Iterator[None]:
    """Convert the client's connection errors to the library's own."""
    import urllib3
    from kubernetes.client.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        is_answer = error.status is not None and 400 <= error.status < 500
        if is_answer and error.status not in (401, 408, 429):
            raise
        raise _unreachable(_said(error)) from error
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise _unreachable(str(error)) from error


def _unreachable(what: str) -> EngineUnreachable:
    return EngineUnreachable(
        f"the cluster's API server does not answer: {what}",
        next_step="check the address and the credentials in the kubeconfig, or wait and retry",
    )


def _said(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"


def _made_at(thing: Mapping[str, Any]) -> str:
    return str(thing["metadata"]["creationTimestamp"])


def _happened_at(event: Mapping[str, Any]) -> str:
    return str(event.get("lastTimestamp") or _made_at(event))


def _is_late(made: str) -> bool:
    """Return True if something should have started by now; its events may explain the delay."""
    return datetime.now(UTC).timestamp() - (seconds_of(made) or 0.0) > _LATE_SECONDS


def _is_overdue(deletion: str) -> bool:
    """Return True if a pod should be gone: its deletion timestamp already includes the grace period."""
    return datetime.now(UTC).timestamp() - (seconds_of(deletion) or 0.0) > _OVERDUE_SECONDS

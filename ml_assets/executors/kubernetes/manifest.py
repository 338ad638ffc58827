"""The Job manifest of a step's launch, for Kubernetes 1.20 and later.

Its pod meets the "restricted" PodSecurity standard. https://kubernetes.io/docs/concepts/workloads/controllers/job/
"""

from typing import Any

from ml_assets.executors.engine import ContainerRequest
from ml_assets.resources.sections import ContainerSettings

__all__ = ["CONTAINER", "STOP_SECONDS", "job_manifest"]

CONTAINER = "step"
"""Name of the container in the pod."""

STOP_SECONDS = 15
"""Grace period for a step to end before it is killed."""

_NODE_LOST_SECONDS = 30
"""Time that a pod may stay on a node that does not answer."""
_SHARED_MEMORY = "shared-memory"
_UNDISTURBED = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
"""Prevents node drains that save cost, such as the cluster autoscaler's, from evicting a running step."""


def job_manifest(request: ContainerRequest, settings: ContainerSettings) -> dict[str, Any]:
    """Return the Job of one launch. The Job has no owner, so it outlives the run worker that ordered it."""
    metadata = {"labels": dict(request.labels), "annotations": dict(request.annotations)}
    pod_metadata = {**metadata, "annotations": {**request.annotations, **_UNDISTURBED}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": request.name, **metadata},
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "ttlSecondsAfterFinished": settings.finished_seconds,
            "template": {"metadata": pod_metadata, "spec": _pod(request, settings)},
        },
    }


def _pod(request: ContainerRequest, settings: ContainerSettings) -> dict[str, Any]:
    pool = request.pool
    account = pool.service_account or settings.service_account
    volumes = list(settings.volumes)
    if pool.shared_memory:
        volumes.append({"name": _SHARED_MEMORY, "emptyDir": {"medium": "Memory", "sizeLimit": pool.shared_memory}})
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": STOP_SECONDS,
        "automountServiceAccountToken": pool.service_account is not None,
        "serviceAccountName": account,
        "priorityClassName": pool.priority_class,
        "runtimeClassName": pool.runtime_class,
        "nodeSelector": dict(pool.node_selector),
        "tolerations": [*(each.model_dump(exclude_none=True) for each in pool.tolerations), *_patience()],
        "imagePullSecrets": [{"name": name} for name in settings.image_pull_secrets],
        "volumes": volumes,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(request, settings)],
    }
    return {key: value for key, value in pod.items() if value not in (None, [], {})}


def _container(request: ContainerRequest, settings: ContainerSettings) -> dict[str, Any]:
    mounts = list(settings.volume_mounts)
    if request.pool.shared_memory:
        mounts.append({"name": _SHARED_MEMORY, "mountPath": "/dev/shm"})  # noqa: S108  # where libraries expect it
    sources = [{"secretRef": {"name": name}} for name in settings.secrets]
    sources += [{"configMapRef": {"name": name}} for name in settings.config_maps]
    return {
        "name": CONTAINER,
        "image": request.image,
        "imagePullPolicy": "IfNotPresent",  # Pinned by digest, so a present image is the requested one.
        "command": list(request.command),
        "env": [{"name": name, "value": value} for name, value in sorted(request.variables.items())],
        "envFrom": sources,
        "resources": _resources(request),
        "volumeMounts": mounts,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _resources(request: ContainerRequest) -> dict[str, dict[str, str]]:
    placement, pool = request.placement, request.pool
    devices = {pool.accelerator_resource: str(placement.accelerators)} if placement.accelerators else {}
    limits = {"memory": placement.memory, **devices}
    if pool.cpu_limit:
        limits["cpu"] = f"{max(pool.cpu_limit, placement.cpus):g}"
    return {"requests": {"cpu": f"{placement.cpus:g}", "memory": placement.memory, **devices}, "limits": limits}


def _patience() -> list[dict[str, Any]]:
    return [
        {
            "key": f"node.kubernetes.io/{state}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": _NODE_LOST_SECONDS,
        }
        for state in ("not-ready", "unreachable")
    ]

"""Status of a step's container, derived from pods, Jobs and events. Pure functions of the API server's answers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ml_assets.executors.engine import ContainerState, ContainerStatus
from ml_assets.executors.failures import Failure, FailureCause
from ml_assets.executors.kubernetes.manifest import CONTAINER

__all__ = [
    "event_lines",
    "job_status",
    "on_lost_node",
    "pod_status",
    "pull_seconds",
    "refused_mount",
    "refused_pod",
    "seconds_of",
    "why_deleted",
    "why_ended",
]

_Json = Mapping[str, Any]

_PULL = frozenset({"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_PULL_FINAL = ("not found", "manifest unknown", "unauthorized", "denied", "forbidden")
_CONFIGURATION = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_PASSING = "context deadline exceeded"
"""Part of the message of a busy runtime that is still creating the container."""
_PODS_WAIT = ("exceeded quota", "retry after")
"""Parts of admission messages about pods that may be admitted later."""
_CANNOT_RUN = frozenset({"ContainerCannotRun", "StartError"})
_UNSEEN = frozenset({"ContainerStatusUnknown", "Unknown"})
"""Reasons of an end that the kubelet did not observe. The reported exit status is not the process's own."""
_LOST = frozenset({"NodeLost", "NodeShutdown", "Shutdown", "Terminated", "NodeAffinity"})
_DISRUPTIONS = {
    "PreemptionByScheduler": FailureCause.PREEMPTED,
    "DeletionByTaintManager": FailureCause.NODE_LOST,
    "DeletionByPodGC": FailureCause.NODE_LOST,
    "EvictionByEvictionAPI": FailureCause.EVICTED,
    "TerminationByKubelet": FailureCause.EVICTED,
}
"""Reasons of the condition ``DisruptionTarget``, which clusters since 1.26 set."""
_DURATION = re.compile(r"Successfully pulled image .* in ([0-9.a-zµ]+)")
"""Pull time in Go's format: ``1m2.5s``, ``812.3ms``. Newer kubelets append the time with waiting."""
_DURATION_PART = re.compile(r"([0-9.]+)(ms|µs|us|ns|h|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9}
_EVENTS = {
    "Preempted": FailureCause.PREEMPTED,
    "Preempting": FailureCause.PREEMPTED,
    "TaintManagerEviction": FailureCause.NODE_LOST,
    "NodeNotReady": FailureCause.NODE_LOST,
    "NodeControllerEviction": FailureCause.NODE_LOST,
    "Evicted": FailureCause.EVICTED,
}
"""Event reasons that tell who deleted a pod, on a cluster of any version."""


def pod_status(pod: _Json) -> ContainerStatus:
    """Return the status of a pod's container."""
    status = pod.get("status", {})
    container = _container(status)
    state = container.get("state", {})
    seen: dict[str, Any] = {
        "identity": pod["metadata"]["uid"],
        "node": pod.get("spec", {}).get("nodeName"),
        "image_id": container.get("imageID") or None,
        "scheduled_at": _scheduled_at(status),
        "started_at": seconds_of((state.get("running") or state.get("terminated") or {}).get("startedAt")),
    }
    ended = state.get("terminated")
    if ended is not None or status.get("phase") in ("Failed", "Succeeded"):
        failure = why_ended(pod)
        return ContainerStatus(ContainerState.FAILED if failure else ContainerState.SUCCEEDED, failure=failure, **seen)
    if "running" in state:
        lost = f"the node {seen['node']} is not ready" if on_lost_node(pod) else None
        return ContainerStatus(ContainerState.RUNNING, waiting=lost, **seen)
    return _pending(status, state.get("waiting", {}), seen)


def why_ended(pod: _Json) -> Failure | None:
    """Return why a pod's container ended; None if it succeeded."""
    status = pod.get("status", {})
    reason, message = status.get("reason", ""), status.get("message", "")
    ended = _container(status).get("state", {}).get("terminated") or {}
    if reason == "Evicted":
        return Failure(FailureCause.EVICTED, message or "the node ran out of a resource")
    if reason in ("Preempting", "Preempted"):
        return Failure(FailureCause.PREEMPTED, message or "a pod of higher priority took its place")
    if reason in _LOST:
        return Failure(FailureCause.NODE_LOST, message or "the node was shut down or lost")
    if reason == "DeadlineExceeded":
        return Failure(FailureCause.DEADLINE, message or "the pod exceeded its run time limit")
    if reason.startswith(("OutOf", "UnexpectedAdmissionError")):
        return Failure(FailureCause.EVICTED, f"the node did not admit the pod: {message or reason}")
    if ended.get("reason") == "OOMKilled":
        return Failure(
            FailureCause.OUT_OF_MEMORY,
            f"the container reached its limit of {_memory_limit(pod)}",
            ended.get("exitCode"),
        )
    if ended.get("reason") in _CANNOT_RUN:
        return Failure(FailureCause.CONFIGURATION, ended.get("message") or ended["reason"], ended.get("exitCode"))
    if ended.get("reason") in _UNSEEN:
        return Failure(FailureCause.NODE_LOST, ended.get("message") or "the node lost track of the container")
    if "exitCode" in ended:
        code = int(ended["exitCode"]) or (128 + int(ended["signal"]) if ended.get("signal") else 0)
        return Failure.of_exit(code) if code else None
    if status.get("phase") == "Failed":
        return Failure(
            FailureCause.NODE_LOST,
            message or reason or "the pod failed, but the reason for its container's end is unknown",
        )
    return None


def why_deleted(pod: _Json | None, events: Sequence[_Json], lost_node: bool) -> Failure:
    """Return the failure for a deleted pod; its cause tells who deleted it.

    Args:
        pod: the pod, if it still exists.
        events: its events.
        lost_node: True if its node does not answer.
    """
    for condition in (pod or {}).get("status", {}).get("conditions", ()):
        if condition["type"] == "DisruptionTarget" and condition.get("reason") in _DISRUPTIONS:
            return Failure(_DISRUPTIONS[condition["reason"]], condition.get("message") or condition["reason"])
    for event in reversed(events):
        if event.get("reason") in _EVENTS:
            return Failure(_EVENTS[event["reason"]], _one_line(event.get("message", "")))
    if lost_node:
        return Failure(FailureCause.NODE_LOST, "the node does not answer")
    return Failure(FailureCause.DELETED, "the pod was deleted")


def job_status(job: _Json) -> ContainerStatus:
    """Return the status of a Job that has no pod."""
    for condition in job.get("status", {}).get("conditions") or ():
        if condition["type"] == "Failed" and condition["status"] == "True":
            detail = condition.get("message") or condition.get("reason") or "the Job failed"
            return ContainerStatus(
                ContainerState.FAILED, failure=Failure(FailureCause.DELETED, f"the pod is gone: {detail}")
            )
        if condition["type"] == "Complete" and condition["status"] == "True":
            return ContainerStatus(ContainerState.SUCCEEDED)
    return ContainerStatus(ContainerState.PENDING, waiting="the Job has not created a pod yet")


def refused_pod(job: ContainerStatus, events: Sequence[_Json]) -> ContainerStatus:
    """Return the status of a Job without a pod, from its events: rejected by admission control, or waiting for a quota.

    Args:
        job: status of the Job from `job_status`.
        events: its events, oldest first.
    """
    said = _last_said(events, "FailedCreate")
    if said is None or job.has_ended:
        return job
    if "forbidden" in said and not any(word in said for word in _PODS_WAIT):
        return replace(job, failure=Failure(FailureCause.CONFIGURATION, said))
    return replace(job, waiting=said)


def refused_mount(pod: ContainerStatus, events: Sequence[_Json]) -> ContainerStatus:
    """Return a pod's status before its container exists, from its mount events.

    A missing volume source is a failure. For other mount problems the pod waits.

    Args:
        pod: status of the pod from `pod_status`.
        events: its events, oldest first.
    """
    said = _last_said(events, "FailedMount")
    if said is None or pod.state is not ContainerState.PENDING or pod.failure is not None:
        return pod
    if "not found" in said:
        return replace(pod, failure=Failure(FailureCause.CONFIGURATION, said))
    return replace(pod, waiting=said)


def on_lost_node(pod: _Json) -> bool:
    """Return True if the cluster considers the pod's node lost: the pod is not ready although its container is."""
    conditions = {each["type"]: each["status"] for each in pod.get("status", {}).get("conditions", ())}
    return conditions.get("Ready") == "False" and conditions.get("ContainersReady") == "True"


def event_lines(events: Sequence[_Json]) -> list[str]:
    """Return readable events, oldest first: time, reason, message and count."""
    lines = []
    for event in sorted(events, key=_time_of):
        times = f" ({event['count']} times)" if (event.get("count") or 1) > 1 else ""
        lines.append(
            f"{_time_of(event)[11:19]} {event.get('reason', '')}: {_one_line(event.get('message', ''))}{times}"
        )
    return lines


def seconds_of(text: str | None) -> float | None:
    """Return a time of the API server, in seconds since the epoch."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else None


def _pending(status: _Json, waiting: _Json, seen: dict[str, Any]) -> ContainerStatus:
    reason, message = waiting.get("reason", ""), _one_line(waiting.get("message", ""))
    if reason in _PULL or (reason == "ErrImagePull" and any(word in message.lower() for word in _PULL_FINAL)):
        return ContainerStatus(
            ContainerState.PENDING, failure=Failure(FailureCause.IMAGE_PULL, f"{reason}: {message}"), **seen
        )
    if reason in _CONFIGURATION and _PASSING not in message:
        return ContainerStatus(
            ContainerState.PENDING, failure=Failure(FailureCause.CONFIGURATION, f"{reason}: {message}"), **seen
        )
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            text = f"{condition.get('reason', 'not scheduled')}: {_one_line(condition.get('message', ''))}"
            return ContainerStatus(ContainerState.PENDING, waiting=text, unschedulable=True, **seen)
    if reason and reason != "ContainerCreating":
        return ContainerStatus(ContainerState.PENDING, waiting=f"{reason}: {message}", **seen)
    return ContainerStatus(ContainerState.PENDING, **seen)


def _container(status: _Json) -> _Json:
    for each in status.get("containerStatuses") or ():
        if each["name"] == CONTAINER:
            return dict(each)
    return {}


def _scheduled_at(status: _Json) -> float | None:
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "True":
            return seconds_of(condition.get("lastTransitionTime"))
    return None


def pull_seconds(events: Sequence[_Json]) -> float | None:
    """Return the pull time of a pod's image from the kubelet's event; 0 if it was present, None without event."""
    for event in reversed(events):
        if event.get("reason") == "Pulled":
            said = _DURATION.search(event.get("message", ""))
            if said is None:
                return 0.0
            return sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(said[1]))
    return None


def _memory_limit(pod: _Json) -> str:
    for each in pod["spec"]["containers"]:
        if each["name"] == CONTAINER:
            return str(each.get("resources", {}).get("limits", {}).get("memory", "memory"))
    return "memory"


def _time_of(event: _Json) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")


def _last_said(events: Sequence[_Json], reason: str) -> str | None:
    said = [_one_line(each.get("message", "")) for each in events if each.get("reason") == reason]
    return said[-1] if said else None


def _one_line(text: str) -> str:
    return " ".join(text.split())

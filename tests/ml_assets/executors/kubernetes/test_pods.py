"""Pod statuses as reported by Kubernetes 1.20 (recorded on the test cluster) and by current clusters."""

from typing import Any

import pytest

from ml_assets.executors.engine import ContainerState, ContainerStatus
from ml_assets.executors.failures import FailureCause
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

IMAGE_ID = "10.0.0.1:5000/train@sha256:" + "b" * 64
READY = [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}]


def pod(status: dict[str, Any], state: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a pod as the API server reports it; ``state`` is the state of the step's container, next to a sidecar."""
    sidecar = {"name": "sidecar", "state": {"running": {"startedAt": "2026-01-02T03:04:00Z"}}, "imageID": "other"}
    step = {"name": "step", "state": state, "imageID": IMAGE_ID, "lastState": {}, "restartCount": 0}
    return {
        "metadata": {"name": "step-0-abcde", "uid": "5c8a", **more},
        "spec": {
            "nodeName": "cpu-0",
            "containers": [{"name": "sidecar"}, {"name": "step", "resources": {"limits": {"memory": "512Mi"}}}],
        },
        "status": status | ({"containerStatuses": [sidecar, step]} if state is not None else {}),
    }


def terminated(**said: Any) -> dict[str, Any]:
    ended = {"startedAt": "2026-01-02T03:04:05Z", "finishedAt": "2026-01-02T03:04:09Z", "containerID": "containerd://1"}
    return {"terminated": ended | said}


ENDED = {
    "out of memory": (
        {"phase": "Failed"},
        terminated(exitCode=137, reason="OOMKilled"),
        FailureCause.OUT_OF_MEMORY,
        "the container reached its limit of 512Mi",
    ),
    "out of memory, whole group killed": (
        {"phase": "Failed"},
        terminated(exitCode=1, reason="OOMKilled"),
        FailureCause.OUT_OF_MEMORY,
        "the container reached its limit of 512Mi",
    ),
    "crash": ({"phase": "Failed"}, terminated(exitCode=139, reason="Error"), FailureCause.CRASHED, "139 (SIGSEGV)"),
    "ordinary failure": (
        {"phase": "Failed"},
        terminated(exitCode=1, reason="Error"),
        FailureCause.CRASHED,
        "exit status 1",
    ),
    "signal in its own field": (
        {"phase": "Failed"},
        terminated(exitCode=0, signal=9, reason="Error"),
        FailureCause.CRASHED,
        "137 (SIGKILL)",
    ),
    "asked to end": (
        {"phase": "Failed"},
        terminated(exitCode=143, reason="Error"),
        FailureCause.DELETED,
        "asked to end",
    ),
    "replaced": ({"phase": "Failed"}, terminated(exitCode=75, reason="Error"), FailureCause.DELETED, "replaced"),
    "program missing, docker": (
        {"phase": "Failed"},
        terminated(exitCode=127, reason="ContainerCannotRun", message='exec: "python": not found'),
        FailureCause.CONFIGURATION,
        'exec: "python": not found',
    ),
    "program missing, containerd": (
        {"phase": "Failed"},
        terminated(exitCode=128, reason="StartError", message="failed to create containerd task"),
        FailureCause.CONFIGURATION,
        "failed to create containerd task",
    ),
    "evicted by the kubelet": (
        {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage. "},
        None,
        FailureCause.EVICTED,
        "The node was low on resource: ephemeral-storage. ",
    ),
    "evicted with its container killed": (
        {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
        terminated(exitCode=137, reason="ContainerStatusUnknown"),
        FailureCause.EVICTED,
        "The node was low on resource: memory.",
    ),
    "preempted by the kubelet": (
        {"phase": "Failed", "reason": "Preempting", "message": "Preempted in order to admit critical pod"},
        None,
        FailureCause.PREEMPTED,
        "Preempted in order to admit critical pod",
    ),
    "node shut down, 1.20": (
        {"phase": "Failed", "reason": "Shutdown", "message": "Node is shutting, evicting pods"},
        None,
        FailureCause.NODE_LOST,
        "Node is shutting, evicting pods",
    ),
    "node shut down": (
        {
            "phase": "Failed",
            "reason": "Terminated",
            "message": "Pod was terminated in response to imminent node shutdown.",
        },
        terminated(exitCode=143, reason="Error"),
        FailureCause.NODE_LOST,
        "Pod was terminated in response to imminent node shutdown.",
    ),
    "container lost by the kubelet": (
        {"phase": "Failed"},
        terminated(
            exitCode=137,
            reason="ContainerStatusUnknown",
            message="The container could not be located when the pod was terminated",
        ),
        FailureCause.NODE_LOST,
        "The container could not be located when the pod was terminated",
    ),
    "container lost by containerd": (
        {"phase": "Failed"},
        terminated(exitCode=255, reason="Unknown"),
        FailureCause.NODE_LOST,
        "the node lost track of the container",
    ),
    "no room after all": (
        {"phase": "Failed", "reason": "OutOfnvidia.com/gpu", "message": "Node didn't have enough resource"},
        None,
        FailureCause.EVICTED,
        "the node did not admit the pod: Node didn't have enough resource",
    ),
    "devices gone": (
        {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "Allocate failed"},
        None,
        FailureCause.EVICTED,
        "the node did not admit the pod: Allocate failed",
    ),
    "deadline of the pod": (
        {"phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active on the node longer"},
        None,
        FailureCause.DEADLINE,
        "Pod was active on the node longer",
    ),
    "end unknown": ({"phase": "Failed"}, None, FailureCause.NODE_LOST, "its container's end is unknown"),
}


@pytest.mark.parametrize(("status", "state", "cause", "detail"), ENDED.values(), ids=ENDED)
def test_end_of_a_pod_has_a_cause(
    status: dict[str, Any], state: dict[str, Any] | None, cause: FailureCause, detail: str
) -> None:
    ended = pod(status, state)
    seen, failure = pod_status(ended), why_ended(ended)
    assert seen.state is ContainerState.FAILED
    assert seen.failure == failure
    assert failure is not None
    assert failure.cause is cause
    assert detail in failure.detail


def test_end_that_went_well_has_no_failure() -> None:
    seen = pod_status(pod({"phase": "Succeeded"}, terminated(exitCode=0, reason="Completed")))
    assert (seen.state, seen.failure) == (ContainerState.SUCCEEDED, None)


def test_step_has_ended_though_another_container_goes_on() -> None:
    assert (
        pod_status(pod({"phase": "Running"}, terminated(exitCode=0, reason="Completed"))).state
        is ContainerState.SUCCEEDED
    )
    assert pod_status(pod({"phase": "Running"}, terminated(exitCode=1, reason="Error"))).state is ContainerState.FAILED


def test_running_pod_says_which_image_where_and_since_when() -> None:
    state = {"running": {"startedAt": "2026-01-02T03:04:05Z"}}
    assert pod_status(pod({"phase": "Running", "conditions": READY}, state)) == ContainerStatus(
        ContainerState.RUNNING,
        identity="5c8a",
        node="cpu-0",
        started_at=seconds_of("2026-01-02T03:04:05Z"),
        image_id=IMAGE_ID,
    )


@pytest.mark.parametrize(
    ("status", "waiting", "cause"),
    [
        ({}, {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x"'}, FailureCause.IMAGE_PULL),
        ({}, {"reason": "InvalidImageName", "message": "couldn't parse image"}, FailureCause.IMAGE_PULL),
        (
            {},
            {"reason": "ErrImagePull", "message": "rpc error: code = NotFound: x: not found"},
            FailureCause.IMAGE_PULL,
        ),
        ({}, {"reason": "ErrImagePull", "message": "manifest unknown: manifest unknown"}, FailureCause.IMAGE_PULL),
        ({}, {"reason": "ErrImagePull", "message": "pull access denied"}, FailureCause.IMAGE_PULL),
        ({}, {"reason": "ErrImagePull", "message": "401 Unauthorized"}, FailureCause.IMAGE_PULL),
        ({}, {"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}, FailureCause.CONFIGURATION),
        ({}, {"reason": "CreateContainerError", "message": "no command"}, FailureCause.CONFIGURATION),
        ({}, {"reason": "CreateContainerError", "message": "context deadline exceeded"}, None),
        ({}, {"reason": "RunContainerError", "message": "no such device"}, FailureCause.CONFIGURATION),
        ({}, {"reason": "ErrImagePull", "message": "dial tcp: i/o timeout"}, None),
        ({}, {"reason": "ContainerCreating"}, None),
        ({}, {"reason": "PodInitializing"}, None),
    ],
)
def test_pending_pod_is_hopeless_or_not(
    status: dict[str, Any], waiting: dict[str, str], cause: FailureCause | None
) -> None:
    seen = pod_status(pod({"phase": "Pending", **status}, {"waiting": waiting}))
    assert seen.state is ContainerState.PENDING
    assert (seen.failure.cause if seen.failure else None) is cause
    if seen.failure is not None:
        assert seen.failure.detail == f"{waiting['reason']}: {waiting['message']}"


def test_pod_without_room_says_so_and_may_still_find_some() -> None:
    message = "0/3 nodes are available: 1 Insufficient nvidia.com/gpu,\n 2 node(s) didn't match"
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    seen = pod_status(pod({"phase": "Pending", "conditions": [condition]}))
    assert (seen.state, seen.failure, seen.unschedulable) == (ContainerState.PENDING, None, True)
    assert seen.waiting == (
        "Unschedulable: 0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) didn't match"
    )


def test_pod_that_was_just_made_has_no_status() -> None:
    fresh = pod({})
    del fresh["status"]
    assert pod_status(fresh) == ContainerStatus(ContainerState.PENDING, identity="5c8a", node="cpu-0")


def test_pod_on_a_lost_node_still_runs_and_says_so() -> None:
    conditions = [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]
    lost = pod({"phase": "Running", "conditions": conditions}, {"running": {"startedAt": "2026-01-02T03:04:05Z"}})
    assert on_lost_node(lost)
    seen = pod_status(lost)
    assert (seen.state, seen.waiting) == (ContainerState.RUNNING, "the node cpu-0 is not ready")
    assert not on_lost_node(pod({"phase": "Running", "conditions": READY}))


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("PreemptionByScheduler", FailureCause.PREEMPTED),
        ("DeletionByTaintManager", FailureCause.NODE_LOST),
        ("DeletionByPodGC", FailureCause.NODE_LOST),
        ("EvictionByEvictionAPI", FailureCause.EVICTED),
        ("TerminationByKubelet", FailureCause.EVICTED),
    ],
)
def test_current_clusters_say_in_a_condition_who_had_a_pod_deleted(reason: str, cause: FailureCause) -> None:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "as was decided"}
    failure = why_deleted(pod({"phase": "Running", "conditions": [*READY, condition]}), [], lost_node=False)
    assert (failure.cause, failure.detail) == (cause, "as was decided")


@pytest.mark.parametrize(
    ("reason", "message", "cause"),
    [
        ("Preempted", "Preempted by default/urgent on node cpu-0", FailureCause.PREEMPTED),
        ("TaintManagerEviction", "Marking for deletion Pod default/step-0-abcde", FailureCause.NODE_LOST),
        ("NodeNotReady", "Node is not ready", FailureCause.NODE_LOST),
        ("Evicted", "The node was low on resource: memory.", FailureCause.EVICTED),
    ],
)
def test_older_clusters_say_it_in_an_event(reason: str, message: str, cause: FailureCause) -> None:
    killing = event("Killing", "Stopping container step")
    failure = why_deleted(None, [event("Started", "x"), event(reason, message), killing], lost_node=False)
    assert (failure.cause, failure.detail) == (cause, message)


def test_deletion_without_a_word_is_somebodys() -> None:
    events = [event("Started", "Started container step"), event("Killing", "Stopping container step")]
    assert why_deleted(pod({"phase": "Running"}), events, lost_node=False).cause is FailureCause.DELETED
    assert why_deleted(pod({"phase": "Running"}), events, lost_node=True).cause is FailureCause.NODE_LOST


def event(reason: str, message: str, **more: Any) -> dict[str, Any]:
    times = {"firstTimestamp": "2026-01-02T03:04:05Z", "lastTimestamp": "2026-01-02T03:04:05Z", "eventTime": None}
    return {"metadata": {"creationTimestamp": "2026-01-02T03:04:05Z"}, "reason": reason, "message": message} | {
        **times,
        "count": 1,
        **more,
    }


def test_events_are_shown_oldest_first_in_one_line_each() -> None:
    scheduled = event("Scheduled", "Successfully\nassigned", lastTimestamp=None, count=None, eventTime=None)
    scheduled["metadata"]["creationTimestamp"] = "2026-01-02T03:04:01Z"
    newer = event("Preempted", "by x", lastTimestamp=None, eventTime="2026-01-02T03:04:09.123456Z", count=None)
    again = event("BackOff", "Back-off", count=3)
    assert event_lines([newer, again, scheduled]) == [
        "03:04:01 Scheduled: Successfully assigned",
        "03:04:05 BackOff: Back-off (3 times)",
        "03:04:09 Preempted: by x",
    ]


@pytest.mark.parametrize(
    ("status", "state", "text"),
    [
        ({}, ContainerState.PENDING, "the Job has not created a pod yet"),
        ({"conditions": None}, ContainerState.PENDING, "the Job has not created a pod yet"),
        (
            {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "m"}]},
            ContainerState.FAILED,
            "the pod is gone: m",
        ),
        (
            {
                "conditions": [
                    {"type": "SuccessCriteriaMet", "status": "True"},
                    {"type": "Complete", "status": "True"},
                ]
            },
            ContainerState.SUCCEEDED,
            None,
        ),
        (
            {"conditions": [{"type": "Suspended", "status": "True"}]},
            ContainerState.PENDING,
            "the Job has not created a pod",
        ),
    ],
)
def test_job_without_a_pod(status: dict[str, Any], state: ContainerState, text: str | None) -> None:
    seen = job_status({"status": status})
    assert seen.state is state
    said = seen.waiting or (seen.failure.detail if seen.failure else None)
    assert (said is None) == (text is None)
    assert (text or "") in (said or "")


WAITING = ContainerStatus(ContainerState.PENDING, waiting="the Job has not created a pod yet")


@pytest.mark.parametrize(
    ("message", "is_hopeless"),
    [
        ('pods "step-a-" is forbidden: error looking up service account ml/x: serviceaccount "x" not found', True),
        ('pods "step-a-" is forbidden: no PriorityClass with name x was found', True),
        ('pods "step-a-" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true', True),
        ('pods "step-a-" is forbidden: exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2', False),
        ('No API token found for service account "x", retry after the token is automatically created', False),
        ("Internal error occurred: failed calling webhook: context deadline exceeded", False),
    ],
)
def test_job_whose_pods_are_refused_is_hopeless_or_not(message: str, is_hopeless: bool) -> None:
    seen = refused_pod(WAITING, [event("FailedCreate", "another"), event("FailedCreate", f"Error creating: {message}")])
    assert (seen.failure.cause if seen.failure else None) is (FailureCause.CONFIGURATION if is_hopeless else None)
    assert message in (seen.failure.detail if seen.failure else seen.waiting or "")


def test_job_that_nobody_refuses_goes_on_waiting() -> None:
    assert refused_pod(WAITING, [event("SuccessfulCreate", "Created pod: a")]) is WAITING


@pytest.mark.parametrize(
    ("message", "is_hopeless"),
    [
        ('MountVolume.SetUp failed for volume "keys" : secret "keys" not found', True),
        ("Unable to attach or mount volumes: timed out waiting for the condition", False),
    ],
)
def test_pod_whose_volumes_cannot_be_mounted_is_hopeless_or_not(message: str, is_hopeless: bool) -> None:
    creating = pod_status(pod({"phase": "Pending"}, {"waiting": {"reason": "ContainerCreating"}}))
    seen = refused_mount(creating, [event("FailedMount", message)])
    assert (seen.failure.cause if seen.failure else None) is (FailureCause.CONFIGURATION if is_hopeless else None)
    assert message in (seen.failure.detail if seen.failure else seen.waiting or "")
    running = pod_status(pod({"phase": "Running"}, {"running": {"startedAt": "2026-01-02T03:04:05Z"}}))
    assert refused_mount(running, [event("FailedMount", message)]) is running


def test_times_are_read_as_utc() -> None:
    assert seconds_of("1970-01-01T00:01:00Z") == 60
    assert seconds_of("1970-01-01T00:01:00.500000Z") == 60.5
    assert seconds_of(None) is None


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ('Successfully pulled image "registry:5000/x@sha256:aa" in 1m2.5s', 62.5),
        ('Successfully pulled image "x" in 812.5ms (3.2s including waiting). Image size: 5 bytes.', 0.8125),
        ('Container image "x" already present on machine', 0.0),
    ],
)
def test_how_long_an_image_was_pulled_is_in_the_kubelets_event(message: str, seconds: float) -> None:
    assert pull_seconds([{"reason": "Pulling"}, {"reason": "Pulled", "message": message}]) == seconds


def test_without_the_kubelets_event_nobody_can_say_how_long_an_image_was_pulled() -> None:
    assert pull_seconds([{"reason": "Scheduled", "message": "x"}]) is None


def test_a_pod_says_when_it_had_a_node() -> None:
    condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"}
    pod = {"metadata": {"uid": "u"}, "spec": {}, "status": {"phase": "Pending", "conditions": [condition]}}
    assert pod_status(pod).scheduled_at == 1767225605.0

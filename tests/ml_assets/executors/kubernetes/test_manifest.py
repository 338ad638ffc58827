"""Manifests of step Jobs, checked against the schemas of Kubernetes and the "restricted" PodSecurity standard."""

import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from ml_assets.executors.kubernetes.manifest import CONTAINER, STOP_SECONDS, job_manifest
from ml_assets.resources.pools import Pool, Toleration
from ml_assets.resources.sections import ContainerSettings
from tests.ml_assets.executors.sample_requests import IMAGE, RUN, a_request

OLDEST_SCHEMA, NEWEST_SCHEMA = "1.25", kubernetes_validate.latest_version()
"""The newest schema is the package's newest. The test cluster is older than the oldest schema and has its own tests."""
RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
PLAIN = Pool()
WHOLE = Pool(
    cpus=4,
    cpu_limit=6.5,
    memory="16Gi",
    shared_memory="4Gi",
    accelerators=2,
    node_selector={"pool": "gpu"},
    tolerations=(
        Toleration(key="nvidia.com/gpu"),
        Toleration(key="a", operator="Equal", value="b", effect="NoExecute"),
    ),
    runtime_class="nvidia",
    priority_class="training",
    service_account="trainer",
)
SETTINGS = ContainerSettings(
    executor="kubernetes",
    service_account="ml-assets-step",
    secrets=("ml-assets",),
    config_maps=("ml-assets",),
    image_pull_secrets=("registry",),
    volumes=({"name": "data", "persistentVolumeClaim": {"claimName": "data"}},),
    volume_mounts=({"name": "data", "mountPath": "/data", "readOnly": True},),
)
CASES = [(PLAIN, ContainerSettings()), (WHOLE, SETTINGS), (PLAIN, SETTINGS), (WHOLE, ContainerSettings())]


def job(pool: Pool = PLAIN, settings: ContainerSettings | None = None, **placement: Any) -> dict[str, Any]:
    return job_manifest(a_request(pool, **placement), settings or ContainerSettings())


def pod(pool: Pool = PLAIN, settings: ContainerSettings | None = None, **placement: Any) -> dict[str, Any]:
    spec: dict[str, Any] = job(pool, settings, **placement)["spec"]["template"]["spec"]
    return spec


def container(pool: Pool = PLAIN, settings: ContainerSettings | None = None, **placement: Any) -> dict[str, Any]:
    (found,) = pod(pool, settings, **placement)["containers"]
    return dict(found)


@pytest.mark.parametrize("version", [OLDEST_SCHEMA, NEWEST_SCHEMA])
@pytest.mark.parametrize(("pool", "settings"), CASES)
def test_manifest_keeps_to_the_schema(version: str, pool: Pool, settings: ContainerSettings) -> None:
    kubernetes_validate.validate(job(pool, settings), version, strict=True)


def test_schema_refuses_what_is_no_manifest() -> None:
    wrong = job()
    wrong["spec"]["template"]["spec"]["nodeSelektor"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST_SCHEMA, strict=True)


@pytest.mark.parametrize(("pool", "settings"), CASES)
def test_pod_keeps_to_the_restricted_standard(pool: Pool, settings: ContainerSettings) -> None:
    spec = pod(pool, settings)
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers", "initContainers"} & set(spec)
    assert {kind for volume in spec.get("volumes", ()) for kind in volume if kind != "name"} <= RESTRICTED_VOLUMES
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    (only,) = spec["containers"]
    assert only["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert "ports" not in only


def test_one_pod_is_made_once_and_owned_by_nothing() -> None:
    manifest = job()
    assert "ownerReferences" not in manifest["metadata"]
    spec = manifest["spec"]
    assert (spec["backoffLimit"], spec["completions"], spec["parallelism"]) == (0, 1, 1)
    assert spec["ttlSecondsAfterFinished"] == ContainerSettings().finished_seconds
    assert pod()["restartPolicy"] == "Never"
    assert pod()["terminationGracePeriodSeconds"] == STOP_SECONDS


def test_job_and_pod_carry_the_same_facts() -> None:
    manifest = job()
    for metadata in (manifest["metadata"], manifest["spec"]["template"]["metadata"]):
        assert metadata["labels"]["ml-assets/run"] == RUN
        assert metadata["annotations"]["ml-assets/partition"] == "2013-01"
    assert "name" not in manifest["spec"]["template"]["metadata"]


def test_container_runs_the_order_by_digest() -> None:
    found = container()
    assert (found["name"], found["image"]) == (CONTAINER, IMAGE)
    assert found["command"][:3] == ["python", "-m", "ml_assets.executors.step"]
    assert found["env"] == [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "2"},
        {"name": "ML_ASSETS_TARGET", "value": "kubernetes"},
    ]


def test_memory_is_asked_for_and_the_limit_and_devices_are_both() -> None:
    assert container(WHOLE)["resources"] == {
        "requests": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "2"},
        "limits": {"memory": "16Gi", "nvidia.com/gpu": "2", "cpu": "6.5"},
    }
    assert container(Pool(accelerator_resource="amd.com/gpu"), accelerators=1)["resources"]["limits"] == {
        "memory": "1Gi",
        "amd.com/gpu": "1",
    }


def test_placement_goes_before_the_pool() -> None:
    resources = container(WHOLE, cpus=8, memory="32Gi", accelerators=0)["resources"]
    assert resources == {"requests": {"cpu": "8", "memory": "32Gi"}, "limits": {"memory": "32Gi", "cpu": "8"}}


def test_pool_says_where_the_pod_may_stand() -> None:
    spec = pod(WHOLE)
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert spec["tolerations"][:2] == [
        {"key": "nvidia.com/gpu", "operator": "Exists"},
        {"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute"},
    ]
    assert (spec["runtimeClassName"], spec["priorityClassName"]) == ("nvidia", "training")


def test_pod_is_given_up_soon_after_its_node_does_not_answer() -> None:
    found = {each["key"]: each["tolerationSeconds"] for each in pod()["tolerations"]}
    assert found == {"node.kubernetes.io/not-ready": 30, "node.kubernetes.io/unreachable": 30}


def test_account_of_the_pool_goes_before_that_of_settings() -> None:
    assert pod(WHOLE, SETTINGS)["serviceAccountName"] == "trainer"
    assert pod(PLAIN, SETTINGS)["serviceAccountName"] == "ml-assets-step"
    assert "serviceAccountName" not in pod()


def test_token_is_mounted_only_where_a_pool_asks_for_an_account() -> None:
    assert pod(WHOLE)["automountServiceAccountToken"] is True
    assert pod(PLAIN, SETTINGS)["automountServiceAccountToken"] is False


def test_secrets_and_volumes_come_by_reference() -> None:
    spec = pod(WHOLE, SETTINGS)
    assert spec["volumes"] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}},
    ]
    assert [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]] == ["/data", "/dev/shm"]
    assert spec["containers"][0]["envFrom"] == [
        {"secretRef": {"name": "ml-assets"}},
        {"configMapRef": {"name": "ml-assets"}},
    ]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]


def test_committed_pools_make_valid_manifests() -> None:
    file = Path(__file__).parents[4] / "deployments" / "kubernetes" / "settings.toml"
    said = tomllib.loads(file.read_text())
    settings = ContainerSettings.model_validate(said["containers"])
    for pool in said["pools"].values():
        kubernetes_validate.validate(job(Pool.model_validate(pool), settings), NEWEST_SCHEMA, strict=True)

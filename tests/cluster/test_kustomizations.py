"""The output of ``kubectl kustomize`` for deployments/kubernetes: valid for current clusters, with least privilege."""

import functools
import inspect
import re
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.conftest import require_program
from tests.test_manifests import FOLDER, VERSIONS

OVERLAYS = ("overlays/test", "overlays/production", "helm")
PASSWORDS = {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "DAGSTER_POSTGRES_URL",
    "MLFLOW_BACKEND_STORE_URI",
    "POSTGRES_PASSWORD",
}
VERBS = {"create": "create", "read": "get", "list": "list", "delete": "delete", "patch": "patch"}
RESOURCES = {
    "job": ("batch", "jobs"),
    "job_status": ("batch", "jobs/status"),
    "pod": ("", "pods"),
    "pod_log": ("", "pods/log"),
    "event": ("", "events"),
}
Manifest = dict[str, Any]


@functools.cache
def built(overlay: str) -> tuple[Manifest, ...]:
    """Return the manifests of a folder of deployments/kubernetes."""
    kubectl = require_program("kubectl", "kubernetes-client")
    done = subprocess.run([kubectl, "kustomize", str(FOLDER / overlay)], capture_output=True, text=True, check=True)
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, kind: str) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in built(overlay) if each["kind"] == kind}


def pods(overlay: str) -> dict[str, Manifest]:
    return {name: each["spec"]["template"]["spec"] for name, each in of_kind(overlay, "Deployment").items()}


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_are_valid(overlay: str, version: str) -> None:
    for manifest in built(overlay):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_is_in_one_namespace_that_wants_the_restricted_standard(overlay: str) -> None:
    (namespace,) = of_kind(overlay, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    inside = {each["metadata"].get("namespace") for each in built(overlay) if each["kind"] != "Namespace"}
    bindings = of_kind(overlay, "RoleBinding").values()
    inside |= {subject["namespace"] for binding in bindings for subject in binding["subjects"]}
    assert inside == {namespace["metadata"]["name"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_keep_to_the_restricted_standard(overlay: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    for name, pod in pods(overlay).items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name
        assert all(volume.keys() & {"emptyDir", "configMap", "projected"} for volume in pod["volumes"]), name
        for container in containers(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_containers_are_bounded_and_probed(overlay: str) -> None:
    for name, pod in pods(overlay).items():
        for container in containers(pod):
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name
        assert {"livenessProbe", "readinessProbe"} & pod["containers"][0].keys(), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_passwords_are_taken_from_the_secret(overlay: str) -> None:
    for name, each in of_kind(overlay, "ConfigMap").items():
        assert not PASSWORDS & each["data"].keys(), name
    for name, pod in pods(overlay).items():
        given = [variable for container in containers(pod) for variable in container.get("env", [])]
        assert all("secretKeyRef" in each["valueFrom"] for each in given if each["name"] in PASSWORDS), name
    in_test = {"ml-assets", "ml-assets-mlflow", "ml-assets-reader", "postgres"}
    assert of_kind(overlay, "Secret").keys() == (in_test if overlay == "overlays/test" else set())


def test_only_mlflow_gets_the_password_of_its_database() -> None:
    secret = {"secretRef": {"name": "ml-assets-mlflow"}}
    found = {name: [secret in each["envFrom"] for each in containers(pod)] for name, pod in pods("base").items()}
    assert found.pop("mlflow") == [True, True]
    assert not any(any(each) for each in found.values())
    assert "MLFLOW_BACKEND_STORE_URI" not in of_kind("overlays/test", "Secret")["ml-assets"]["data"]


def test_services_that_only_read_use_a_database_user_that_can_only_read() -> None:
    expected = {"secretKeyRef": {"name": "ml-assets-reader", "key": "DAGSTER_POSTGRES_URL"}}
    for name, pod in pods("base").items():
        (container,) = pod["containers"]
        own = {each["name"]: each["valueFrom"] for each in container["env"] if each["name"] in PASSWORDS}
        only_reads = name in ("webserver-read-only", "lineage", "metrics")
        assert own == ({"DAGSTER_POSTGRES_URL": expected} if only_reads else {}), name


def test_run_workers_keep_to_the_restricted_standard_and_start_in_the_code_locations_image() -> None:
    instance = yaml.safe_load((FOLDER / "dagster.yaml").read_text())["run_launcher"]["config"]["run_k8s_config"]
    assert instance["pod_spec_config"]["security_context"]["run_as_non_root"]
    assert instance["container_config"]["security_context"]["capabilities"] == {"drop": ["ALL"]}
    (container,) = pods("overlays/production")["code-location"]["containers"]
    (own,) = [each for each in container["env"] if each["name"] == "DAGSTER_CURRENT_IMAGE"]
    assert own["valueFrom"]["configMapKeyRef"] == {"name": "ml-assets", "key": "ML_ASSETS_IMAGE"}
    assert of_kind("overlays/production", "ConfigMap")["ml-assets"]["data"]["ML_ASSETS_IMAGE"] == container["image"]


def test_run_workers_may_do_what_the_executor_does_and_nothing_more() -> None:
    from ml_assets.executors.kubernetes import engine
    from ml_assets.executors.kubernetes import pods as pods_module

    source = inspect.getsource(engine) + inspect.getsource(pods_module)
    assert granted("ml-assets") == called(source)


def test_webserver_may_do_what_ends_a_run_and_nothing_more() -> None:
    from dagster_k8s.client import DagsterKubernetesClient as Client

    used = (Client.delete_job, Client.get_pods_in_job)
    assert granted("ml-assets-webserver") == called("".join(map(inspect.getsource, used)))


def test_daemon_may_do_what_the_run_launcher_does_and_nothing_more() -> None:
    from dagster_k8s.client import DagsterKubernetesClient as Client

    used = (
        Client.create_namespaced_job_with_retries,
        Client.get_job_status,
        Client.delete_job,
        Client.get_pods_in_job,
        Client.get_pod_debug_info,
        Client.get_job_debug_info,
        Client.retrieve_pod_events,
        Client.retrieve_pod_logs,
    )
    assert granted("ml-assets-daemon") == called("".join(map(inspect.getsource, used)))


def test_code_location_may_do_what_its_sweep_does_and_nothing_more() -> None:
    from ml_assets.executors.kubernetes.engine import KubernetesEngine as Engine

    used = (Engine.all_runs, Engine.observe, Engine.stop, Engine.remove)
    assert granted("ml-assets-code-location") == called("".join(map(inspect.getsource, used)))


def test_only_who_needs_a_token_has_one() -> None:
    readers = dict.fromkeys(("webserver-read-only", "lineage", "metrics"), "ml-assets-reader")
    needs = readers | {name: f"ml-assets-{name}" for name in ("webserver", "daemon", "code-location")}
    for name, pod in pods("overlays/test").items():
        assert pod.get("serviceAccountName") == needs.get(name), name
        assert pod.get("automountServiceAccountToken", True) == (name in needs), name
    assert of_kind("base", "ServiceAccount")["ml-assets-step"]["automountServiceAccountToken"] is False
    assert not {"ml-assets-step", "ml-assets-reader"} & of_kind("base", "RoleBinding").keys()


def test_webservers_and_mlflow_survive_a_drained_node() -> None:
    budgets = of_kind("overlays/production", "PodDisruptionBudget")
    deployments = of_kind("overlays/production", "Deployment")
    assert set(budgets) == {name for name, each in deployments.items() if each["spec"]["replicas"] > 1}
    for name, budget in budgets.items():
        assert budget["spec"]["selector"] == deployments[name]["spec"]["selector"]


def test_beside_the_chart_stands_what_it_does_not_bring() -> None:
    assert pods("helm").keys() == {"lineage", "metrics", "mlflow"} == of_kind("helm", "Service").keys()
    chart_account = granted("ml-assets-daemon")
    assert chart_account >= granted("ml-assets-webserver") | granted("ml-assets-code-location")


def granted(account: str) -> set[tuple[str, str, str]]:
    """Return the API group, resource and verb of each permission of a service account."""
    binding = of_kind("base", "RoleBinding")[account]
    assert [subject["name"] for subject in binding["subjects"]] == [account]
    return {
        (group, resource, verb)
        for rule in of_kind("base", "Role")[binding["roleRef"]["name"]]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def called(source: str) -> set[tuple[str, str, str]]:
    """Return the API group, resource and verb of each call of the Kubernetes client in some code."""
    calls = re.findall(r"\b(create|read|list|delete|patch|replace|watch)_namespaced_(\w+?)\b(?!_with)", source)
    return {(*RESOURCES[resource], VERBS[verb]) for verb, resource in calls if not resource.endswith("_with_retries")}

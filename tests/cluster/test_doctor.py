"""`ml-assets doctor` on a real cluster: with all rights, and without any."""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from ml_assets.doctor.checks import checks_of
from ml_assets.doctor.runner import Finding, Severity, run_checks
from ml_assets.resources.settings import Settings, load_settings
from ml_assets.target import Target
from tests.cluster.deployment import kubectl
from tests.containers.deployment import PROJECT
from tests.containers.ground import Ground

CLUSTER = ("cluster", "rights", "references", "pools")
SMALL = {
    f"ML_ASSETS__POOLS__{pool}__{key}": value
    for pool in ("GPU", "GPU-SPOT")
    for key, value in {"CPUS": "0.5", "MEMORY": "256Mi", "MEMORY_CAP": "512Mi", "SHARED_MEMORY": "64Mi"}.items()
}


@pytest.fixture
def namespace(cluster: Ground) -> Iterator[str]:
    name = f"ml-assets-tests-doctor-{uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def settings(namespace: str, **more: str) -> Settings:
    variables = {"ML_ASSETS_TARGET": "kubernetes", "ML_ASSETS__CONTAINERS__NAMESPACE": namespace, **SMALL, **more}
    return load_settings(variables, PROJECT)


def found(settings: Settings) -> list[Finding]:
    return run_checks([each for each in checks_of(Target(settings)) if each.name in CLUSTER], seconds=60)


def test_a_cluster_that_is_in_order_has_no_fault(namespace: str) -> None:
    kubectl("create", "serviceaccount", "ml-assets-step", "-n", namespace)
    kubectl("create", "configmap", "ml-assets", "-n", namespace)
    kubectl("create", "secret", "generic", "ml-assets", "-n", namespace)
    answers = found(settings(namespace))
    assert [each for each in answers if each.severity is Severity.FAULT] == []
    said = {each.what for each in answers}
    assert f"all rights that the executor needs in namespace {namespace} are granted" in said
    assert "all objects that pods refer to exist" in said
    assert "pool cpu fits on cpu-0" in said


def test_what_is_missing_or_too_large_is_a_fault(namespace: str) -> None:
    faults = [each for each in found(settings(namespace, ML_ASSETS__POOLS__CPU__CPUS="1000")) if each.next_step]
    references, pool = faults
    assert references.what == (
        f"missing in namespace {namespace}: serviceaccounts/ml-assets-step, secrets/ml-assets, configmaps/ml-assets"
    )
    assert pool.what.startswith("pool cpu fits on none of its nodes (cpu-0: it has ")


def test_rights_are_asked_for_whoever_asks(namespace: str, tmp_path: Path) -> None:
    kubectl("create", "serviceaccount", "nobody", "-n", namespace)
    kubectl("create", "role", "part", "-n", namespace, "--verb=get,list,create", "--resource=jobs.batch")
    kubectl("create", "rolebinding", "part", "-n", namespace, "--role=part", f"--serviceaccount={namespace}:nobody")
    kubeconfig = _kubeconfig_of(namespace, "nobody", tmp_path)
    answers = {each.check: each for each in found(settings(namespace, ML_ASSETS__CONTAINERS__KUBECONFIG=kubeconfig))}
    assert answers["rights"].what == (
        f"missing rights in namespace {namespace}: delete jobs, list pods, delete pods, get pods/log, list events"
    )
    assert answers["references"].what.startswith("no right to read serviceaccounts/ml-assets-step")
    assert answers["pools"].what.startswith("no right to list nodes")


def _kubeconfig_of(namespace: str, account: str, folder: Path) -> str:
    """Return the path of a kubeconfig that accesses this cluster as a service account."""
    import yaml

    (secret,) = json.loads(kubectl("get", "serviceaccount", account, "-n", namespace, "-o", "json"))["secrets"]
    data = json.loads(kubectl("get", "secret", secret["name"], "-n", namespace, "-o", "json"))["data"]
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    for user in config["users"]:
        user["user"] = {"token": base64.b64decode(data["token"]).decode()}
    file = folder / "kubeconfig"
    file.write_text(json.dumps(config))
    return str(file)

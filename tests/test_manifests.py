"""The manifests in deployments/kubernetes are valid for current clusters and agree with the settings next to them."""

import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from ml_assets.executors.container_request import BUILDS_LABEL

FOLDER = Path(__file__).parents[1] / "deployments" / "kubernetes"
FILES = sorted({*FOLDER.glob("*.yaml"), *FOLDER.glob("jobs/*.yaml")} - {FOLDER / "dagster.yaml"})
VERSIONS = ("1.30", kubernetes_validate.latest_version())


def manifests(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text()))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_manifests_are_valid(file: Path, version: str) -> None:
    for manifest in manifests(file):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_validation_finds_what_is_misspelt(file: Path) -> None:
    for manifest in manifests(file):
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**manifest, "specs": {}}, VERSIONS[-1], strict=True)


def test_settings_lead_to_buildkitd_and_its_policy_lets_steps_in() -> None:
    found = {manifest["kind"]: manifest for manifest in manifests(FOLDER / "buildkitd.yaml")}
    settings = tomllib.loads((FOLDER / "settings.toml").read_text())
    service, namespace = found["Service"], found["Namespace"]["metadata"]["name"]
    address = urlsplit(settings["images"]["endpoint"])
    assert address.hostname == f"{service['metadata']['name']}.{namespace}"
    assert address.port == service["spec"]["ports"][0]["port"]
    assert {manifest["metadata"].get("namespace", namespace) for manifest in found.values()} == {namespace}
    (rule,) = found["NetworkPolicy"]["spec"]["ingress"]
    (peer,) = rule["from"]
    assert list(peer["namespaceSelector"]["matchLabels"].values()) == [settings["containers"]["namespace"]]
    (job,) = manifests(FOLDER / "jobs" / "images.yaml")
    assert peer["podSelector"]["matchLabels"] == {BUILDS_LABEL: "true"}
    assert job["spec"]["template"]["metadata"]["labels"][BUILDS_LABEL] == "true"


@pytest.mark.parametrize("name", ["images", "save", "restore"])
def test_jobs_keep_to_the_restricted_standard_and_run_as_nobody_who_may_do_anything(name: str) -> None:
    (job,) = manifests(FOLDER / "jobs" / f"{name}.yaml")
    pod = job["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "ml-assets-reader"
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]


def test_buildkitd_is_neither_root_nor_privileged_and_has_no_token() -> None:
    found = {manifest["kind"]: manifest for manifest in manifests(FOLDER / "buildkitd.yaml")}
    pod = found["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"]["runAsNonRoot"]
    assert "privileged" not in container["securityContext"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
    assert not pod["automountServiceAccountToken"]
    assert not found["ServiceAccount"]["automountServiceAccountToken"]

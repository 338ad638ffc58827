"""The run launcher outside of a cluster; tests/cluster tests its launches."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from ml_assets.executors.kubernetes.run_launcher import KubernetesRunLauncher
from ml_assets.resources.errors import SettingsError
from tests.test_manifests import FOLDER

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "https://cluster.example"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Path where this process looks for a kubeconfig; the file does not exist yet."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    monkeypatch.setenv("ML_ASSETS__CONTAINERS__NAMESPACE", "ml-assets")
    return tmp_path / "config"


def launcher(home: Path) -> Any:
    """Return the run launcher of the committed instance, without its databases."""
    tree = yaml.safe_load((FOLDER / "dagster.yaml").read_text())
    (home / "dagster.yaml").write_text(yaml.safe_dump({key: tree[key] for key in ("run_launcher", "run_monitoring")}))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return instance.run_launcher


def test_instance_is_opened_outside_of_the_cluster_by_a_kubeconfig(tmp_path: Path, kubeconfig: Path) -> None:
    kubeconfig.write_text(yaml.safe_dump(KUBECONFIG))
    assert isinstance(launcher(tmp_path), KubernetesRunLauncher)


def test_without_a_way_to_the_cluster_it_says_what_to_do(tmp_path: Path, kubeconfig: Path) -> None:
    with pytest.raises(SettingsError, match=r"no connection is configured: .*Next: set KUBECONFIG"):
        launcher(tmp_path)


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"pod_spec_config": {"service_account_name": "ml-assets-daemon"}}, "pod_spec_config.service_account_name"),
        ({"pod_spec_config": {"volumes": [{"name": "s", "secret": {"secretName": "s"}}]}}, "pod_spec_config.volumes"),
        ({"container_config": {"volume_mounts": []}}, "container_config.volume_mounts"),
        ({"container_config": {"env_from": [{"secretRef": {"name": "s"}}]}}, "container_config.env_from"),
        ({"container_config": {"env": [{"name": "A", "value": "1"}]}}, "container_config.env"),
        ({"container_config": {"image": "evil.example/worker:1"}}, "container_config.image"),
        ({"container_config": {"command": ["sh"]}}, "container_config.command"),
        ({"container_config": {"security_context": {"privileged": True}}}, "container_config.security_context"),
        ({"pod_template_spec_metadata": {"labels": {"a": "b"}}}, "pod_template_spec_metadata.labels"),
        ({"job_spec_config": {"parallelism": 2}}, "job_spec_config.parallelism"),
        ({"job_metadata": {"namespace": "kube-system"}}, "job_metadata.namespace"),
    ],
)
def test_tags_of_a_run_cannot_give_its_worker_other_rights_or_secrets(
    tmp_path: Path, kubeconfig: Path, given: dict[str, Any], refused: str
) -> None:
    kubeconfig.write_text(yaml.safe_dump(KUBECONFIG))
    run = dg.DagsterRun("job", tags={"dagster-k8s/config": json.dumps(given)})
    with pytest.raises(Exception, match=f"violated the allowed list: {refused}$"):
        launcher(tmp_path).get_container_context_for_run(run)


def test_tags_of_a_run_may_set_the_resources_of_its_worker(tmp_path: Path, kubeconfig: Path) -> None:
    kubeconfig.write_text(yaml.safe_dump(KUBECONFIG))
    resources = {"limits": {"memory": "4Gi"}}
    run = dg.DagsterRun("job", tags={"dagster-k8s/config": json.dumps({"container_config": {"resources": resources}})})
    context = launcher(tmp_path).get_container_context_for_run(run)
    assert context.run_k8s_config.container_config["resources"]["limits"] == resources["limits"]

"""The run launcher outside of a cluster; tests/cluster tests its launches."""

from pathlib import Path

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


def launcher(home: Path) -> object:
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

"""Engines that do not answer or are not configured. tests/containers and tests/cluster test working engines."""

from pathlib import Path

import pytest

from ml_assets.doctor.checks import checks_of
from ml_assets.doctor.runner import Check, Severity, run_checks
from ml_assets.resources.settings import load_settings
from ml_assets.target import Target
from tests.ports import free_port

PROJECT = Path(__file__).parents[3]


def check(target: Target, name: str) -> Check:
    (found,) = [each for each in checks_of(target) if each.name == name]
    return found


def test_a_docker_engine_that_does_not_answer_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{free_port()}")
    (found,) = run_checks([check(Target(load_settings({"ML_ASSETS_TARGET": "docker"}, PROJECT)), "docker")], seconds=60)
    assert (found.severity, found.next_step) == (
        Severity.FAULT,
        "start the engine, or set DOCKER_HOST and mount the engine's socket into the run worker",
    )


def on_cluster(kubeconfig: Path) -> Target:
    variables = {"ML_ASSETS_TARGET": "kubernetes", "ML_ASSETS__CONTAINERS__KUBECONFIG": str(kubeconfig)}
    return Target(load_settings(variables, PROJECT))


@pytest.mark.parametrize("name", ["cluster", "rights", "references", "pools"])
def test_a_cluster_that_does_not_answer_is_a_fault(tmp_path: Path, name: str) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],"
        f" clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{free_port()}'}}}}],"
        " users: [{name: u, user: {}}]}"
    )
    (found,) = run_checks([check(on_cluster(kubeconfig), name)], seconds=60)
    assert (found.severity, "API server does not answer" in found.what) == (Severity.FAULT, True)


def test_a_kubeconfig_that_is_none_is_a_fault(tmp_path: Path) -> None:
    (found,) = run_checks([check(on_cluster(tmp_path / "missing"), "cluster")], seconds=60)
    assert found.severity is Severity.FAULT
    assert found.what.startswith("no connection to a cluster is configured")

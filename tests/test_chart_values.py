"""The values for Dagster's official chart, compared with the manifests of the base."""

import re
from typing import Any

import yaml

from tests.test_manifests import FOLDER

VALUES = yaml.safe_load((FOLDER / "helm" / "values.yaml").read_text())


def test_chart_gives_the_instance_that_the_base_has() -> None:
    """The chart's templates keep the names of Dagster's settings, apart from their case."""
    base = yaml.safe_load((FOLDER / "base" / "dagster.yaml").read_text())
    assert "postgres" in base.pop("storage")  # the chart renders it from `postgresql`
    launcher = VALUES["runLauncher"]["config"]["customRunLauncher"]
    assert launcher["config"].pop("instance_config_map") == "dagster-instance"
    assert base["run_launcher"]["config"].pop("instance_config_map") == "ml-assets-instance"
    assert base == VALUES["additionalInstanceConfig"] | {
        "telemetry": VALUES["telemetry"],
        "run_launcher": launcher,
        "run_monitoring": renamed(VALUES["dagsterDaemon"]["runMonitoring"]),
        "concurrency": {key: renamed(VALUES["concurrency"][key]) for key in ("pools", "runs")},
        "compute_logs": {
            "module": "dagster_aws.s3.compute_log_manager",
            "class": VALUES["computeLogManager"]["type"],
            "config": renamed(VALUES["computeLogManager"]["config"]["s3ComputeLogManager"]),
        },
    }


def test_chart_pods_are_those_of_the_base() -> None:
    (code,) = VALUES["dagster-user-deployments"]["deployments"]
    base = {
        name: next(yaml.safe_load_all((FOLDER / "base" / f"{name}.yaml").read_text()))["spec"]["template"]["spec"]
        for name in ("code-location", "daemon", "webserver")
    }
    for name, pod in (
        ("code-location", code),
        ("daemon", VALUES["dagsterDaemon"]),
        ("webserver", VALUES["dagsterWebserver"]),
    ):
        (container,) = base[name]["containers"]
        assert pod["podSecurityContext"].items() >= base[name]["securityContext"].items(), name
        assert pod["securityContext"].items() <= container["securityContext"].items(), name
        assert pod["resources"] == container["resources"], name
        given = [{"configMapRef": each} for each in pod["envConfigMaps"]]
        assert [*given, *({"secretRef": each} for each in pod["envSecrets"])] == container["envFrom"], name
    assert VALUES["global"]["serviceAccountName"] == base["daemon"]["serviceAccountName"]


def test_init_containers_of_the_chart_run_as_the_user_of_the_image() -> None:
    (user,) = set(re.findall(r"USER (\d+):\d+$", (FOLDER.parents[1] / "Dockerfile.train").read_text(), re.M)) - {"0"}
    assert {str(VALUES[each]["podSecurityContext"]["runAsUser"]) for each in ("dagsterDaemon", "dagsterWebserver")} == {
        user
    }


def renamed(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the keys as in dagster.yaml: ``maxConcurrentRuns`` is ``max_concurrent_runs``."""
    return {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", key): value for key, value in tree.items()}

"""The kubernetes target brought up from nothing by ``kubectl apply -k``, as people do it."""

import json
from collections.abc import Iterator

import pytest

from resources.provenance import RECORD_METADATA
from tests.cluster.kustomized import COMMIT, Kustomized, kustomized
from tests.containers.ground import Ground

MONTH = "2013-01-01"
_MADE = """
query Made($run: ID!) {
  runOrError(runId: $run) {
    ... on Run { assetMaterializations { metadataEntries { label ... on JsonMetadataEntry { jsonString } } } }
  }
}
"""
DEPLOYMENTS = ("postgres", "storage", "mlflow", "code-location", "daemon", "webserver", "webserver-read-only")


@pytest.fixture(scope="module")
def deployed(cluster: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kustomized]:
    with kustomized(cluster, tmp_path_factory.mktemp("overlay")) as target:
        for name in DEPLOYMENTS:
            try:
                target.kubectl("rollout", "status", f"deployment/{name}", "--timeout=300s")
            except AssertionError:
                raise AssertionError(
                    target.kubectl("get", "pods", "--output=wide")
                    + target.kubectl("get", "events", "--sort-by=.lastTimestamp")[-6000:]
                    + target.kubectl("logs", f"deployment/{name}", "--all-containers", "--tail=60")
                ) from None
        yield target


def test_asset_is_made_as_the_ui_launches_it(deployed: Kustomized) -> None:
    with deployed.webserver("webserver") as ui:
        run = ui.launch("flights", partition=MONTH)
        ui.wait(run, "SUCCESS")
        (made,) = ui.ask(_MADE, run=run)["assetMaterializations"]
    entries = {entry["label"]: entry.get("jsonString") for entry in made["metadataEntries"]}
    (record,) = [json.loads(value) for label, value in entries.items() if label == RECORD_METADATA and value]
    assert record["environment"]["image"] == deployed.image
    assert record["source"]["commit"] == COMMIT
    assert not record["source"]["dirty"]


def test_bindings_are_for_the_accounts_of_this_namespace(deployed: Kustomized) -> None:
    who = f"--as=system:serviceaccount:{deployed.namespace}:ml-assets-daemon"
    assert deployed.kubectl("auth", "can-i", "create", "jobs", who).strip() == "yes"


def test_read_only_webserver_shows_the_assets_and_launches_nothing(deployed: Kustomized) -> None:
    with deployed.webserver("webserver-read-only") as ui:
        assert ui.ask("{ assetsOrError { __typename } }")["__typename"] == "AssetConnection"
        with pytest.raises(AssertionError, match="UnauthorizedError"):
            ui.launch("flights", partition=MONTH)


@pytest.mark.parametrize("account", ["ml-assets-step", "ml-assets-webserver-read-only", "default"])
def test_steps_and_services_without_a_need_may_do_nothing(deployed: Kustomized, account: str) -> None:
    who = f"--as=system:serviceaccount:{deployed.namespace}:{account}"
    rules = deployed.kubectl("auth", "can-i", "--list", who)
    assert not [line for line in rules.splitlines() if line.startswith(("jobs", "pods", "secrets", "configmaps", "*"))]

"""The kubernetes target deployed by ``kubectl apply -k``, as users do it; each test builds on the previous ones."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_assets.executors.engine import RUN_LABEL
from ml_assets.resources.provenance import OVERRIDES_TAG, RECORD_METADATA, ProvenanceRecord
from tests.cluster.kustomized import COMMIT, Kustomized, kustomized
from tests.containers.ground import Ground
from tests.containers.stand_ins import services_image
from tests.containers.webserver import Webserver, read_page
from tests.contracts.container_executor import GONE_SECONDS

MONTH = "2013-01-01"
ASSETS = ("flights", "weather", "departures", "delay_model")
_MADE = """
query Made($run: ID!) {
  runOrError(runId: $run) {
    ... on Run { assetMaterializations { metadataEntries { label ... on JsonMetadataEntry { jsonString } } } }
  }
}
"""
_SCHEDULE = {
    "repositoryLocationName": "ml_assets",
    "repositoryName": "__repository__",
    "scheduleName": "nightly_retraining",
}
_TURN_ON = """
mutation TurnOn($selector: ScheduleSelector!) {
  startSchedule(scheduleSelector: $selector) { __typename ... on ScheduleStateResult { scheduleState { id } } }
}
"""
_TURN_OFF = "mutation TurnOff($id: String!) { stopRunningSchedule(id: $id) { __typename } }"
_TICKS = """
query Ticks($selector: ScheduleSelector!) {
  scheduleOrError(scheduleSelector: $selector) {
    ... on Schedule { scheduleState { ticks { status runIds error { message } } } }
  }
}
"""
STATELESS = ("mlflow", "code-location", "daemon", "webserver", "webserver-read-only", "lineage", "metrics")
STATEFUL = ("postgres", "storage")


@pytest.fixture(scope="module")
def deployed(cluster: Ground, buildkitd: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kustomized]:
    with kustomized(cluster, tmp_path_factory.mktemp("overlay"), buildkitd) as target:
        target.rolled_out(*STATEFUL, *STATELESS)
        yield target


@pytest.fixture(scope="module")
def train_image(deployed: Kustomized) -> str:
    """The train image, in which steps run."""
    return made_image(deployed)


def made_image(deployed: Kustomized) -> str:
    """Return the train image's reference by digest, from the output of the Job that makes images."""
    return str(re.findall(r"\S+/train@sha256:[0-9a-f]{64}", deployed.run_job("images"))[-1])


def records(ui: Webserver, run: str) -> dict[str, ProvenanceRecord]:
    """Return the records of a run by asset."""
    found = {}
    for made in ui.ask(_MADE, run=run)["assetMaterializations"]:
        entries = {entry["label"]: entry.get("jsonString") for entry in made["metadataEntries"]}
        record = ProvenanceRecord.model_validate_json(entries[RECORD_METADATA])
        found[record.asset] = record
    return found


def test_one_command_makes_the_images_that_steps_run_in(deployed: Kustomized, train_image: str) -> None:
    assert train_image.startswith(f"{deployed.ground.registry}/tests/{deployed.namespace}/train@sha256:")
    assert made_image(deployed) == train_image, "what is there is not made again"


def test_assets_are_made_as_the_ui_launches_them_while_each_service_is_restarted(
    deployed: Kustomized, train_image: str
) -> None:
    with deployed.webserver("webserver") as ui:
        run = ui.launch(*ASSETS, partition=MONTH)
        ui.wait(run, "STARTED")
    for name in STATEFUL:  # their data is lost with the pod
        deployed.kubectl("exec", f"deployment/{name}", "--", "sh", "-c", "kill -INT 1")
    deployed.kubectl("delete", "pod", "--wait=false", f"--selector=app.kubernetes.io/name in ({', '.join(STATELESS)})")
    deployed.rolled_out(*STATEFUL, *STATELESS)
    with deployed.webserver("webserver") as ui:
        if ui.wait(run, "SUCCESS", "FAILURE") == "FAILURE":
            # A step that cannot reach the storage reports it. Other steps' artifacts remain, and a rerun succeeds.
            failures = ui.failures(run)
            assert failures
            assert all("Next: " in failure for failure in failures), failures
            run = ui.launch(*ASSETS, partition=MONTH)
            ui.wait(run, "SUCCESS")
        made = records(ui, run)
    assert set(made) == set(ASSETS)
    for record in made.values():
        assert record.environment.image == train_image
        assert (record.source.commit, record.source.dirty) == (COMMIT, False)


def test_bindings_are_for_the_accounts_of_this_namespace(deployed: Kustomized) -> None:
    who = f"--as=system:serviceaccount:{deployed.namespace}:ml-assets-daemon"
    assert deployed.kubectl("auth", "can-i", "create", "jobs", who).strip() == "yes"


def test_read_only_webserver_shows_the_assets_and_launches_nothing(deployed: Kustomized) -> None:
    with deployed.webserver("webserver-read-only") as ui:
        assert ui.ask("{ assetsOrError { __typename } }")["__typename"] == "AssetConnection"
        with pytest.raises(AssertionError, match="UnauthorizedError"):
            ui.launch("flights", partition=MONTH)


def test_lineage_and_metrics_are_served(deployed: Kustomized) -> None:
    with deployed.forwarded("lineage", 3001) as address:
        assert "weather" in read_page(f"{address}/trace?ref=departures@{MONTH}")
    with deployed.forwarded("metrics", 9464) as address:
        assert "ml_assets_" in read_page(f"{address}/metrics")


@pytest.mark.parametrize("account", ["ml-assets-step", "ml-assets-reader", "default"])
def test_steps_and_services_without_a_need_may_do_nothing(deployed: Kustomized, account: str) -> None:
    who = f"--as=system:serviceaccount:{deployed.namespace}:{account}"
    rules = deployed.kubectl("auth", "can-i", "--list", who)
    assert not [line for line in rules.splitlines() if line.startswith(("jobs", "pods", "secrets", "configmaps", "*"))]


def test_schedule_launches_its_runs(deployed: Kustomized) -> None:
    with deployed.webserver("webserver") as ui:
        state = ui.ask(_TURN_ON, selector=_SCHEDULE)
        assert state["__typename"] == "ScheduleStateResult", state
        tick = _first_tick(ui)
        ui.ask(_TURN_OFF, id=state["scheduleState"]["id"])
        assert tick["status"] == "SUCCESS", tick
        assert tick["runIds"]
        for run in tick["runIds"]:
            ui.terminate(run)
        for run in tick["runIds"]:
            ui.wait(run, "CANCELED")
    # Only of these runs: the Job of a step that failed is kept for a while.
    theirs = f"--selector={RUN_LABEL} in ({', '.join(tick['runIds'])})"
    deadline = time.monotonic() + GONE_SECONDS
    while jobs := deployed.kubectl("get", "jobs", theirs, "--output=name"):
        assert time.monotonic() < deadline, jobs
        time.sleep(0.5)


def test_new_version_is_rolled_out_while_a_run_goes_on_with_its_own(deployed: Kustomized) -> None:
    newer = "d1" * 20
    upgraded = replace(deployed, image=services_image(deployed.ground, newer))
    with deployed.webserver("webserver") as ui:
        pinned = {OVERRIDES_TAG: json.dumps({"*": {"image": deployed.image}})}
        run = ui.launch("weather", "flights", partition="2013-02-01", tags=pinned)
        ui.wait(run, "STARTED")
    upgraded.apply()
    upgraded.rolled_out(*STATELESS)
    with upgraded.webserver("webserver") as ui:
        ui.wait(run, "SUCCESS")
        old = records(ui, run)
        pinned = {OVERRIDES_TAG: json.dumps({"*": {"image": upgraded.image}})}
        run = ui.launch("weather", partition="2013-03-01", tags=pinned)
        ui.wait(run, "SUCCESS")
        new = records(ui, run)
    assert {record.source.commit for record in old.values()} == {COMMIT}
    assert {record.environment.image for record in old.values()} == {deployed.image}
    assert (new["weather"].source.commit, new["weather"].environment.image) == (newer, upgraded.image)


def test_what_was_saved_comes_back_where_nothing_was(
    deployed: Kustomized, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    deployed.kubectl("apply", "--filename", str(_claim(deployed, tmp_path)))
    request.addfinalizer(lambda: deployed.kubectl("delete", "--wait=false", "persistentvolume", deployed.namespace))
    before = deployed.trace(f"departures@{MONTH}")
    deployed.run_job("save")
    with pytest.raises(AssertionError, match=r"already has \d+ runs"):
        deployed.run_job("restore")
    deployed.kubectl("delete", "pod", f"--selector=app.kubernetes.io/name in ({', '.join(STATEFUL)})")
    deployed.rolled_out(*STATEFUL)
    deployed.kubectl("rollout", "restart", *(f"deployment/{name}" for name in STATELESS))
    deployed.rolled_out(*STATELESS)
    with pytest.raises(AssertionError, match="no recorded artifact matches"):
        deployed.trace(f"departures@{MONTH}")
    deployed.run_job("restore")
    assert deployed.trace(f"departures@{MONTH}") == before
    with deployed.webserver("webserver") as ui:
        run = ui.launch("departures", partition=MONTH)
        ui.wait(run, "SUCCESS")
        assert records(ui, run)["departures"].data_version in json.dumps(before)


def _first_tick(ui: Webserver) -> dict[str, Any]:
    deadline = time.monotonic() + 600
    while True:
        ticks = ui.ask(_TICKS, selector=_SCHEDULE)["scheduleState"]["ticks"]
        ended = [tick for tick in ticks if tick["status"] != "STARTED"]
        if ended:
            return dict(ended[-1])
        assert time.monotonic() < deadline, "no tick within ten minutes"
        time.sleep(0.5)


def _claim(deployed: Kustomized, folder: Path) -> Path:
    """Create the manifests of a claim named ``backup`` on a directory of one node, and return their file.

    The nodes run on this machine.
    """
    place = folder / "backup"
    place.mkdir()
    for each in (place, *place.parents[:3]):
        each.chmod(0o777 if each == place else 0o755)
    node = deployed.kubectl("get", "nodes", "--selector=pool=cpu", "--output=jsonpath={.items[0].metadata.name}")
    name = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": deployed.namespace},
        "spec": {
            **common,
            "capacity": {"storage": "10Gi"},
            "local": {"path": str(place)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [name]}},
            "claimRef": {"namespace": deployed.namespace, "name": "backup"},
            "persistentVolumeReclaimPolicy": "Retain",
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "backup", "namespace": deployed.namespace},
        "spec": {**common, "volumeName": deployed.namespace, "resources": {"requests": {"storage": "10Gi"}}},
    }
    file = folder / "claim.yaml"
    file.write_text(yaml.safe_dump_all([volume, claim]))
    return file

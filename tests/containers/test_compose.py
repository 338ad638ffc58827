"""The docker target started from nothing by Docker Compose, as users do it; each test builds on the previous ones."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.compose import COMMIT, Compose, compose_project
from tests.containers.ground import Ground
from tests.containers.webserver import read_page

MONTH = "2013-01-01"
ASSETS = ("flights", "weather", "departures", "delay_model")
SERVICES = (
    "code-location",
    "daemon",
    "lineage",
    "metrics",
    "mlflow",
    "postgres",
    "registry",
    "storage",
    "webserver",
)


@pytest.fixture(scope="module")
def compose(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    with compose_project(ground, tmp_path_factory.mktemp("compose")) as project:
        project("up", "--build", "--detach")
        yield project
    assert project.left_over() == []


def test_passwords_are_made_and_nobody_else_reads_them(compose: Compose) -> None:
    file = compose.folder / ".env"
    made = dict(line.split("=") for line in file.read_text().splitlines())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    passwords = [made[name] for name in ("POSTGRES_PASSWORD", "READER_PASSWORD", "STORAGE_SECRET")]
    assert all(len(password) == 48 for password in passwords)
    assert len(set(passwords)) == 3


def test_services_run_and_their_ports_are_this_machines_own(compose: Compose) -> None:
    assert sorted(compose("ps", "--services", "--status=running").split()) == list(SERVICES)
    published = compose("ps", "--format", "{{.Ports}}")
    assert published.count("->") == published.count("127.0.0.1:") == 5


def test_services_of_ours_are_not_root(compose: Compose) -> None:
    for service in ("code-location", "daemon", "lineage", "metrics", "mlflow", "webserver"):
        assert compose("exec", "--no-TTY", service, "id", "--user").strip() == "10001", service


def test_services_that_only_read_cannot_write_into_dagsters_database(compose: Compose) -> None:
    delete = (
        "import os, psycopg2; psycopg2.connect(os.environ['DAGSTER_POSTGRES_URL']).cursor().execute('DELETE FROM runs')"
    )
    for service in ("lineage", "metrics"):
        with pytest.raises(AssertionError, match="permission denied for table runs"):
            compose("exec", "--no-TTY", service, "python", "-c", delete)


def test_steps_reach_the_data_and_no_service_that_could_launch_or_change_anything(compose: Compose) -> None:
    """By name, and by the addresses that the services have on their own network."""
    services = {"postgres": 5432, "storage": 8333, "mlflow": 5000}
    refused = {"webserver": 3000, "code-location": 4000, "registry": 5000, "lineage": 3001, "metrics": 9464}
    addresses = [f"{host}:{port}" for host, port in {**services, **refused}.items()]
    addresses += [
        f"{address}:{refused[name]}" for name, address in compose.addresses("services").items() if name in refused
    ]
    reached = compose.reached_from("steps", addresses)
    assert sorted(reached) == sorted(f"{host}:{port}" for host, port in services.items())
    assert len(addresses) == len(services) + 2 * len(refused)


def test_assets_are_made_in_containers_of_their_own_while_each_service_is_restarted(compose: Compose) -> None:
    with compose.starting("ml-assets/run") as started:
        run = compose.ui.launch(*ASSETS, partition=MONTH)
        compose.ui.wait(run, "STARTED")
        for service in SERVICES:
            compose("restart", "--timeout=5", service)
        if compose.ui.wait(run, "SUCCESS", "FAILURE") == "FAILURE":
            # A step that cannot reach the storage reports it. Other steps' artifacts remain, and a rerun succeeds.
            failures = compose.ui.failures(run)
            assert failures
            assert all("Next: " in failure for failure in failures), failures
            run = compose.ui.launch(*ASSETS, partition=MONTH)
            compose.ui.wait(run, "SUCCESS")
        containers = [each for each in started() if each["ml-assets/run"] == run]
    records = compose.records(run)
    assert set(records) == set(ASSETS)
    image = f"127.0.0.1:{compose.variables['REGISTRY_PORT']}/ml-assets/train@sha256:"
    for record in records.values():
        assert (record.environment.image or "").startswith(image)
        assert (record.source.commit, record.source.dirty) == (COMMIT, False)
        assert record.reproducible, record.not_reproducible_because
    assert {each["ml-assets/asset"] for each in containers} == set(records)
    assert all(each["image"].startswith(image) for each in containers)
    # Content from before the storage's restart is still available.
    read = {read.asset: read.data_version for read in records["departures"].inputs}
    assert {name: read[name] for name in ("flights", "weather")} == {
        name: records[name].data_version for name in ("flights", "weather")
    }


def test_lineage_and_metrics_are_served(compose: Compose) -> None:
    page = read_page(f"http://127.0.0.1:{compose.variables['LINEAGE_PORT']}/trace?ref=departures@{MONTH}")
    assert "departures" in page
    assert "weather" in page
    metrics = read_page(f"http://127.0.0.1:{compose.variables['METRICS_PORT']}/metrics")
    assert "ml_assets_" in metrics


def test_what_was_saved_while_everything_worked_comes_back_where_nothing_was(compose: Compose, tmp_path: Path) -> None:
    compose.make("backup", f"BACKUP={tmp_path / 'backup'}")
    before = compose.trace(f"departures@{MONTH}")
    with pytest.raises(AssertionError, match=r"already has \d+ Dagster tables"):
        compose.make("restore", f"BACKUP={tmp_path / 'backup'}")
    compose("down", "--volumes", "--timeout=5")
    compose.make("restore", f"BACKUP={tmp_path / 'backup'}")
    assert compose.trace(f"departures@{MONTH}") == before
    pinned = dict(line.split("=") for line in (compose.folder / ".env").read_text().splitlines() if "_IMAGE=" in line)
    assert pinned.keys() == {"POSTGRES_IMAGE", "STORAGE_IMAGE", "REGISTRY_IMAGE"}
    assert all("@sha256:" in image for image in pinned.values())
    # Content, image and code were restored too: materializing again gives the same result.
    run = compose.ui.launch("departures", partition=MONTH)
    compose.ui.wait(run, "SUCCESS")
    (again,) = compose.records(run).values()
    assert again.data_version in json.dumps(before)


def test_mounted_code_runs_without_a_build_and_is_recorded_as_dirty(compose: Compose) -> None:
    code = compose.folder / "ml_assets" / "flight_delays" / "source.py"
    code.write_text(code.read_text() + '\nADDED = "here"\n')
    compose("up", "--detach", develop=True)
    run = compose.ui.launch("weather", partition=MONTH)
    compose.ui.wait(run, "SUCCESS")
    source = compose.records(run)["weather"].source
    assert (source.commit, source.dirty) == (COMMIT, True)
    assert source.diff_digest
    assert not compose.records(run)["weather"].reproducible

"""The server of trace pages: its answers and its access rules."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import requests
import uvicorn

from ml_assets.addresses import Addresses
from ml_assets.lineage import server
from ml_assets.lineage.html_page import page_policy
from ml_assets.lineage.service import Lineage
from ml_assets.resources.errors import SettingsError
from ml_assets.resources.settings import load_settings

parts = dg.StaticPartitionsDefinition(["a</script>", "b"])


@dg.asset(partitions_def=parts)
def table() -> int:
    return 1


@dg.asset(deps=[table], partitions_def=parts)
def report() -> int:
    return 2


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        for partition in parts.get_partition_keys():
            assert dg.materialize([table, report], partition_key=partition, instance=made).success
        yield made


@dataclass(frozen=True)
class Client:
    """A client of a server that runs in a thread of this process."""

    address: str

    def get(self, path: str, method: str = "GET", host: str | None = None, **params: str) -> requests.Response:
        headers = {"Host": host} if host else {}
        return requests.request(method, self.address + path, params=params, headers=headers, timeout=480)


@contextmanager
def serving(instance: dg.DagsterInstance) -> Iterator[Client]:
    application = server.application(Lineage(instance), Addresses(dagster="https://dagster.example"), ["127.0.0.1"])
    running = uvicorn.Server(uvicorn.Config(application, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Client(f"http://127.0.0.1:{listening.getsockname()[1]}")
        finally:
            running.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def client(instance: dg.DagsterInstance) -> Iterator[Client]:
    with serving(instance) as asking:
        yield asking


def test_a_reference_is_answered_with_its_page(client: Client) -> None:
    answer = client.get("/trace", ref="report@b")
    assert answer.status_code == 200
    assert '"name":"table@b"' in answer.text
    assert "table@a" not in answer.text
    assert '"served":true' in answer.text
    assert "https://dagster.example/assets/table?view=partitions" in answer.text
    assert answer.headers["content-security-policy"] == f"{page_policy()}; frame-ancestors 'none'"
    assert answer.headers["cache-control"] == "no-store"


def test_what_was_made_since_is_in_the_next_page() -> None:
    with dg.DagsterInstance.ephemeral() as made, serving(made) as client:
        dg.materialize([table], partition_key="b", instance=made)
        assert "report@b" not in client.get("/trace", ref="table@b").text
        dg.materialize([table, report], selection=[report], partition_key="b", instance=made)
        assert "report@b" in client.get("/trace", ref="table@b").text


def test_direction_and_depth_narrow_it(client: Client) -> None:
    assert "report@b" not in client.get("/trace", ref="table@b", direction="up").text
    assert "report@b" not in client.get("/trace", ref="table@b", depth="0").text
    for wrong in ({"direction": "sideways"}, {"depth": "-1"}, {"depth": "99999"}, {"depth": "²"}):
        assert client.get("/trace", ref="table@b", **wrong).status_code == 404


@pytest.mark.parametrize("reference", ["nothing", "<script>alert(1)</script>", "models:/x", "md5:0"])
def test_what_is_not_known_is_said_with_a_form(client: Client, reference: str) -> None:
    answer = client.get("/trace", ref=reference)
    assert answer.status_code == 404
    assert "Next:" in answer.text
    assert '<input name="ref"' in answer.text
    assert "<script" not in answer.text


def test_what_is_too_large_is_offered_in_parts(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "NODE_LIMIT", 1)
    answer = client.get("/trace", ref="table@b")
    assert answer.status_code == 422
    assert "more than 1 nodes" in answer.text
    assert 'href="?ref=table%40b&amp;direction=up"' in answer.text
    assert client.get("/trace?ref=table%40b&direction=up").status_code == 200


def test_home_asks_what_to_trace_and_health_is_told(client: Client) -> None:
    for path in ("/", "/trace", "/trace?ref=%20"):
        answer = client.get(path)
        assert (answer.status_code, '<form action="trace"' in answer.text) == (200, True)
    assert client.get("/health").text == "ok"


def test_nothing_can_be_changed(client: Client) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.get("/trace", method, ref="report@b").status_code == 405


def test_a_page_of_another_site_cannot_read_it_under_its_own_name(client: Client) -> None:
    assert client.get("/health", host="attacker.example").status_code == 400


def test_a_port_that_is_taken_is_named(instance: dg.DagsterInstance) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingsError, match="cannot bind"):
        server.serve(Lineage(instance), load_settings({}), "127.0.0.1", taken.getsockname()[1], print)


def test_nothing_of_it_is_loaded_with_the_commands() -> None:
    code = "import sys; import ml_assets.cli; print({'starlette', 'uvicorn'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"

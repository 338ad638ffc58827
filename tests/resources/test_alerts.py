import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ml_assets.resources.alerts import Alerts
from ml_assets.resources.errors import AlertError, SettingsError
from ml_assets.resources.settings import load_settings

SECRET_PATH = "/services/T000/B000/secret"


class Webhook(ThreadingHTTPServer):
    """A chat service."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = 204
        self.received: list[Any] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{SECRET_PATH}"


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        self.server.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def nobody() -> str:
    """Address of a webhook on which nobody listens."""
    with Webhook() as server:
        return server.url


def mailer(file: Path) -> list[str]:
    return [sys.executable, "-c", "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())", str(file)]


def test_an_alert_goes_to_webhook_and_command(webhook: Webhook, tmp_path: Path) -> None:
    alerts = Alerts(webhook=webhook.url, command=mailer(tmp_path / "mail"))
    assert alerts.send("a run failed", {"job": "nightly", "failures": {"train": "no data"}}) == ["webhook", "command"]
    expected = {"text": "a run failed", "job": "nightly", "failures": {"train": "no data"}}
    assert webhook.received == [expected]
    assert json.loads((tmp_path / "mail").read_text()) == expected


def test_an_alert_goes_nowhere_if_nothing_is_configured() -> None:
    assert Alerts().send("a run failed", {}) == []


def test_an_unreachable_webhook_is_named_and_the_command_still_tried(nobody: str, tmp_path: Path) -> None:
    with pytest.raises(AlertError, match=r"webhook .*127\.0\.0\.1.*: a run failed") as caught:
        Alerts(webhook=nobody, command=mailer(tmp_path / "mail")).send("a run failed", {})
    assert "alerts.webhook" in caught.value.next_step
    assert json.loads((tmp_path / "mail").read_text()) == {"text": "a run failed"}


@pytest.mark.parametrize("user", ["", "user:password@"])
def test_an_error_does_not_tell_the_path_of_the_webhook(webhook: Webhook, nobody: str, user: str) -> None:
    webhook.answer = 500
    for url in (nobody, webhook.url):
        with pytest.raises(AlertError) as caught:
            Alerts(webhook=url.replace("http://", f"http://{user}") + "?token=hidden").send("a run failed", {})
        for secret in (SECRET_PATH, "hidden", "password"):
            assert secret not in str(caught.value)
    assert "500" in str(caught.value)


def test_a_failing_command_is_named_and_the_webhook_has_been_told(webhook: Webhook) -> None:
    with pytest.raises(AlertError, match=r"command .*exit status 3"):
        Alerts(webhook=webhook.url, command=[sys.executable, "-c", "raise SystemExit(3)"]).send("a run failed", {})
    assert webhook.received == [{"text": "a run failed"}]


def test_a_missing_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(AlertError, match=r"command .*no-such-mailer"):
        Alerts(command=[str(tmp_path / "no-such-mailer")]).send("a run failed", {})


def test_a_variable_gives_the_command_as_a_shell_takes_it() -> None:
    chosen = load_settings({"ML_ASSETS__ALERTS__COMMAND": "mail -s 'a run failed' team@example.org"})
    assert chosen.alerts.command == ("mail", "-s", "a run failed", "team@example.org")
    with pytest.raises(SettingsError, match=r"alerts\.command"):
        load_settings({"ML_ASSETS__ALERTS__COMMAND": "mail 'unbalanced"})

"""Alerts about failures, sent to a webhook (chat) or a command (e-mail)."""

import json
import subprocess
from collections.abc import Mapping
from urllib.parse import urlsplit

import dagster as dg

from ml_assets.resources.errors import AlertError

__all__ = ["Alerts"]

_TIMEOUT_SECONDS = 15


class Alerts(dg.ConfigurableResource[None]):
    """Sends each alert as one JSON object with ``text`` (one line, as chat webhooks expect) and the details."""

    webhook: str | None = None
    """Webhook address; receives the alert as a POST."""
    command: list[str] = []  # noqa: RUF012  # pydantic copies defaults
    """Program and arguments, such as a mailer; receives the alert on standard input."""

    def send(self, text: str, details: Mapping[str, object]) -> list[str]:
        """Send an alert to every configured destination.

        Returns:
            The destinations; empty if none is configured.

        Raises:
            AlertError: the webhook or the command failed; the other one was tried as well.
        """
        payload = json.dumps({"text": text, **details})
        sent, failures = [], []
        for name, target, deliver in (("webhook", self.webhook, self._post), ("command", self.command, self._run)):
            if not target:
                continue
            try:
                deliver(payload)
                sent.append(name)
            except (OSError, subprocess.SubprocessError) as error:
                failures.append(f"{name} {self._public(str(error))}")
        if failures:
            raise AlertError(
                f"an alert could not be delivered ({'; '.join(failures)}): {text}",
                next_step="correct alerts.webhook or alerts.command in the settings",
            )
        return sent

    def _public(self, text: str) -> str:
        """Return the text without the webhook's path, which chat services keep secret."""
        address = urlsplit(self.webhook or "")
        for secret in sorted({address.path, address.query, address.netloc.rpartition("@")[0]} - {"", "/"}):
            text = text.replace(secret, "…")
        return text

    def _post(self, payload: str) -> None:
        import requests

        answer = requests.post(
            str(self.webhook), data=payload, headers={"Content-Type": "application/json"}, timeout=_TIMEOUT_SECONDS
        )
        answer.raise_for_status()

    def _run(self, payload: str) -> None:
        subprocess.run(self.command, input=payload, text=True, check=True, timeout=_TIMEOUT_SECONDS)

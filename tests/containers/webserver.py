"""A client of a deployment's webserver that sends the UI's GraphQL queries over the network."""

import json
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.graphql import LAUNCH, TERMINATE

_POLL_SECONDS = 0.5
_RESTARTING = "Could not reach user code server"
_STATUS = "query Status($run: ID!) { runOrError(runId: $run) { ... on Run { status startTime } } }"
_STORY = """
query Story($run: ID!) {
  logsForRun(runId: $run) {
    ... on EventConnection {
      events { ... on MessageEvent { message } ... on EngineEvent { error { message causes { message } } } }
    }
  }
}
"""
_FAILURES = """
query Failures($run: ID!) {
  logsForRun(runId: $run) {
    ... on EventConnection {
      events {
        ... on ExecutionStepFailureEvent { stepKey error { message causes { className message } } }
      }
    }
  }
}
"""


def read_page(address: str) -> str:
    """Return the text at an address."""
    with urllib.request.urlopen(address, timeout=120) as answer:
        text: str = answer.read().decode()
    return text


@dataclass(frozen=True)
class Webserver:
    """The address of a webserver."""

    url: str

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return the answer to the first field of a query; wait while the webserver is starting."""
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        deadline = time.monotonic() + 600
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    (answer,) = json.load(response)["data"].values()
                    return dict(answer)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)

    def launch(self, *assets: str, partition: str, tags: Mapping[str, str] | None = None) -> str:
        """Materialize assets as the UI does and return the id of the run."""
        selector = {
            "repositoryLocationName": "ml_assets",
            "repositoryName": "__repository__",
            "jobName": "__ASSET_JOB",
            "assetSelection": [{"path": [asset]} for asset in assets],
            "assetCheckSelection": [],
        }
        told = {"dagster/partition": partition, **(tags or {})}
        metadata = {"tags": [{"key": key, "value": value} for key, value in told.items()]}
        params = {"selector": selector, "mode": "default", "runConfigData": {}, "executionMetadata": metadata}
        deadline = time.monotonic() + 600
        while True:
            answer = self.ask(LAUNCH, params=params)
            if answer["__typename"] == "LaunchRunSuccess":
                return str(answer["run"]["runId"])
            # A webserver detects a restarted code location after a few seconds.
            assert _RESTARTING in json.dumps(answer), answer
            assert time.monotonic() < deadline, answer
            time.sleep(_POLL_SECONDS)

    def terminate(self, run: str) -> None:
        """Cancel a run as the UI does; retry while the run is about to start, because Dagster refuses then."""
        self.wait(run, "QUEUED", "STARTED")
        deadline = time.monotonic() + 600
        while (answer := self.ask(TERMINATE, run=run))["__typename"] != "TerminateRunSuccess":
            assert "STARTING" in answer.get("message", ""), answer
            assert time.monotonic() < deadline, answer
            time.sleep(_POLL_SECONDS)

    def wait(self, run: str, *statuses: str, seconds: float = 900) -> str:
        """Wait until a run has one of these statuses and return it."""
        deadline = time.monotonic() + seconds
        while (status := self.ask(_STATUS, run=run)["status"]) not in statuses:
            ended = status in ("SUCCESS", "FAILURE", "CANCELED")
            if ended or time.monotonic() > deadline:
                raise AssertionError(
                    f"{status}: {self.failures(run)}\n{json.dumps(self.ask(_STORY, run=run), indent=1)}"
                )
            time.sleep(_POLL_SECONDS)
        return str(status)

    def failures(self, run: str) -> list[str]:
        """Return the error of each failed step of a run, with its causes."""
        return [json.dumps(event) for event in self.ask(_FAILURES, run=run).get("events", []) if event]

"""A real MLflow server, and models in it as training registers them."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_assets.resources.tracking.tags import RunTags
from tests.ml_assets.serving.models import write_model
from tests.ports import free_port

_PATIENCE = 480


@dataclass(frozen=True)
class Registry:
    """A running MLflow server."""

    address: str
    client: Any
    folder: Path

    def register(self, name: str, *, weights: tuple[float, ...], subfolder: str = "servable", **changes: Any) -> str:
        """Log a linear model as an MLflow logged model, register it and return the version.

        Args:
            name: name of the registered model.
            weights: weights of the linear model.
            subfolder: folder of the model in the logged model's artifacts.
            changes: ``tag`` replaces the data version; ``spoil`` names a file that changes after it was listed.
        """
        from mlflow.exceptions import MlflowException

        place = self.folder / f"{name}-{time.monotonic_ns()}"
        version = write_model(place / subfolder, weights=weights, listed=True)
        if spoiled := changes.get("spoil"):
            (place / subfolder / spoiled).write_bytes(b"something else")
        logged = self.client.create_logged_model("0", name="model")
        self.client.log_model_artifacts(logged.model_id, str(place))
        with contextlib.suppress(MlflowException):
            self.client.create_registered_model(name)
        tags = {RunTags.DATA_VERSION: changes.get("tag", version)}
        made = self.client.create_model_version(name, f"models:/{logged.model_id}", model_id=logged.model_id, tags=tags)
        return str(made.version)

    def alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias at a version."""
        self.client.set_registered_model_alias(name, alias, version)

    @contextlib.contextmanager
    def without_artifacts(self) -> Iterator[None]:
        """Make all artifacts unavailable during the block."""
        away = (self.folder / "artifacts").rename(self.folder / "away")
        try:
            yield
        finally:
            away.rename(self.folder / "artifacts")


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """Start an MLflow server that stores everything in a folder."""
    from mlflow import MlflowClient

    folder.mkdir(parents=True, exist_ok=True)
    address = f"http://127.0.0.1:{free_port()}"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", address.rpartition(":")[2]),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--default-artifact-root", str(folder / "artifacts")),
        *("--workers", "1"),
    ]
    # MLflow's jobs, which these tests do not need, are eight more interpreters.
    environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=folder, start_new_session=True)
        try:
            until = time.monotonic() + _PATIENCE
            while not _answers(address):
                assert process.poll() is None, (folder / "server.log").read_text()
                assert time.monotonic() < until, (folder / "server.log").read_text()
                time.sleep(0.1)
            yield Registry(address, MlflowClient(address), folder)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            process.wait(480)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False

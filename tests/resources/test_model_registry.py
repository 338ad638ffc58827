"""Aliases are read from a real registry."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from resources.errors import TrackingError
from resources.model_registry import deployed_versions
from resources.tracking_store import open_store


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def client(uri: str) -> MlflowClient:
    client, _ = open_store(uri, "tests", None)
    for name in ("delay", "other"):
        client.create_registered_model(name)
        client.create_model_version(name, source=str(uri))
        client.create_model_version(name, source=str(uri))
    return client


def test_the_version_that_carries_the_alias_is_deployed(uri: str, client: MlflowClient) -> None:
    client.set_registered_model_alias("delay", "champion", "2")
    assert deployed_versions(uri, "tests", ["delay", "other", "unknown"], "champion") == {"models:/delay/2"}
    assert deployed_versions(uri, "tests", ["delay"], "challenger") == set()


def test_a_server_that_does_not_answer_is_named() -> None:
    with pytest.raises(TrackingError, match=r"http://127.0.0.1:1 does not answer"):
        deployed_versions("http://127.0.0.1:1", "tests", ["delay"], "champion")

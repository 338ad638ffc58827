"""Aliases are read from a real registry."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from ml_assets.resources.errors import TrackingError, UnknownReference
from ml_assets.resources.tracking.model_registry import ModelRegistry
from ml_assets.resources.tracking.store import open_store
from tests.migrated import Migrated


@pytest.fixture
def uri(tmp_path: Path, migrated: Migrated) -> str:
    return migrated.mlflow(tmp_path / "mlflow.db")


@pytest.fixture
def client(uri: str) -> MlflowClient:
    client, _ = open_store(uri, "tests", None)
    for name in ("delay", "other"):
        client.create_registered_model(name)
        client.create_model_version(name, source=str(uri))
        client.create_model_version(name, source=str(uri))
    return client


def test_aliases_are_told_by_version(uri: str, client: MlflowClient) -> None:
    client.set_registered_model_alias("delay", "champion", "2")
    client.set_registered_model_alias("delay", "blue", "2")
    client.set_registered_model_alias("other", "champion", "1")
    found = {each.name: each.aliases for each in ModelRegistry(uri, "tests").versions()}
    assert found == {
        "models:/delay/1": (),
        "models:/delay/2": ("blue", "champion"),
        "models:/other/1": ("champion",),
        "models:/other/2": (),
    }


def test_a_copy_is_of_the_run_of_what_it_copies(uri: str, client: MlflowClient) -> None:
    run = client.create_run(client.create_experiment("of the run")).info.run_id
    client.create_model_version("delay", source=str(uri), run_id=run)
    copy = client.copy_model_version("models:/delay/3", "prod")
    registry = ModelRegistry(uri, "tests")
    assert registry.run_of(f"models:/prod/{copy.version}") == registry.run_of("models:/delay/3") == run
    assert registry.run_of("models:/delay/1") is None
    assert registry.run_of("models:/unknown/1") is None


def test_an_alias_stands_for_the_version_that_carries_it_now(uri: str, client: MlflowClient) -> None:
    registry = ModelRegistry(uri, "tests")
    for version in ("1", "2"):
        client.set_registered_model_alias("delay", "champion", version)
        assert registry.version("delay", "champion") == f"models:/delay/{version}"


def test_an_alias_that_nobody_carries_is_unknown(uri: str, client: MlflowClient) -> None:
    client.set_registered_model_alias("delay", "champion", "2")
    with pytest.raises(UnknownReference, match=r"'challenger'\. Next: use one of its aliases .*delay@champion"):
        ModelRegistry(uri, "tests").version("delay", "challenger")
    with pytest.raises(UnknownReference, match="no registered model 'unknown'"):
        ModelRegistry(uri, "tests").version("unknown", "champion")


def test_a_server_that_does_not_answer_is_named() -> None:
    with pytest.raises(TrackingError, match=r"http://127.0.0.1:1 does not answer"):
        ModelRegistry("http://127.0.0.1:1", "tests").versions()

"""Secrets in the config of a run: the names that are recognised, and where a run is refused."""

from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ml_assets.datasets import dataset
from ml_assets.resources.errors import RunConfigRefused
from ml_assets.resources.provenance import record_of
from ml_assets.run_config import refuse_secrets


class Access(dg.Config):
    """Config of an asset that reads from a password-protected source."""

    password: str
    rows: int = 3


@pytest.mark.parametrize(
    "name",
    [
        *("password", "db_password", "dbPassword", "PASSWORD", "smtp-passwd", "passphrase", "client_secret", "secret"),
        *("secret_key", "aws_secret_access_key", "access_key", "api_key", "apikey", "apiKey", "private_key"),
        *("token", "access_token", "authToken", "refresh_token", "bearer_token", "API token"),
    ],
)
def test_written_out_secret_is_refused_by_the_name_of_its_field(name: str) -> None:
    with pytest.raises(RunConfigRefused) as caught:
        refuse_secrets({"ops": {"table": {"config": {"sources": [{"rows": 1}, {name: "hunter2"}]}}}})
    assert f"a secret in ops.table.config.sources.1.{name}, " in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {},
        None,
        {"ops": {"token": {"config": {"rows": 1}}}},
        {"password": {"env": "PASSWORD"}},
        {"max_tokens": 512, "token_count": "many", "eos_token": "</s>", "pad_token": "<pad>", "tokenizer": "bpe"},
        {"secretary": "Ann", "keys": ["a"], "key": "a", "partition_key": "2013-01", "sort_key": "day"},
        {"password": "", "secret": None, "token": 4},
    ],
)
def test_other_config_is_accepted(config: Any) -> None:
    refuse_secrets(config)


def test_artifact_is_not_computed_with_a_secret_that_was_typed(
    resources: dict[str, Any], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataset()
    def table(config: Access) -> pd.DataFrame:
        computed.append(config.password)
        return pd.DataFrame({"rows": range(config.rows)})

    def materialize(password: Any) -> dg.ExecuteInProcessResult:
        config = {"ops": {"table": {"config": {"password": password}}}}
        return dg.materialize([table], instance=instance, resources=resources, run_config=config)

    computed: list[str] = []
    with pytest.raises(RunConfigRefused, match=r"a secret in ops\.table\.config\.password"):
        materialize("hunter2")
    monkeypatch.setenv("SOURCE_PASSWORD", "hunter2")
    result = materialize({"env": "SOURCE_PASSWORD"})
    assert computed == ["hunter2"]
    (event,) = result.asset_materializations_for_node("table")
    assert record_of(event.metadata).parameters == {"password": "env:SOURCE_PASSWORD", "rows": 3}

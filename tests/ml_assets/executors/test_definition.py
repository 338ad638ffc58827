"""The executor in the launchpad."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.system_config.objects import ResolvedRunConfig

from ml_assets.dagster_internals import RetryMode
from ml_assets.executors import definition
from ml_assets.executors.definition import container_engine, container_executor
from ml_assets.executors.launch import ContainerExecutor
from ml_assets.executors.placement import PlacementRules
from ml_assets.resources.errors import EngineRefused, PlacementError
from ml_assets.resources.pools import Override, Pool
from ml_assets.resources.sections import ContainerSettings
from tests.ml_assets.executors import process_jobs
from tests.ml_assets.executors.process_engine import ProcessEngine

RULES = PlacementRules(ContainerSettings(executor="docker", variables={"A": "1"}), {"cpu": Pool()})
EXECUTOR = container_executor(RULES, target="docker", pass_variables={}, registry=lambda: pytest.fail("asked"))


def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any] | None = None) -> ContainerExecutor:
    """Return the executor of a run with this config."""
    monkeypatch.setattr(definition, "container_engine", lambda settings, variables: ProcessEngine(tmp_path / "engine"))
    job = dg.reconstructable(process_jobs.split)
    resolved = ResolvedRunConfig.build(
        process_jobs.split.with_executor_def(EXECUTOR), {"execution": {"config": config or {}}}
    )
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.InitExecutorContext(job, EXECUTOR, resolved.execution.execution_engine_config, instance)
        assert EXECUTOR.executor_creation_fn is not None
        executor = EXECUTOR.executor_creation_fn(context)
    assert isinstance(executor, ContainerExecutor)
    return executor


def test_nothing_has_to_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = made(tmp_path, monkeypatch)
    assert executor.retries is RetryMode.ENABLED
    assert (executor.overrides, executor.max_concurrent, executor.tag_concurrency_limits) == ({}, None, [])
    assert executor.variables == {"ML_ASSETS_TARGET": "docker", "A": "1"}


def test_config_reaches_the_executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {
        "overrides": {"reports/model": {"pool": "gpu", "cpus": 2, "memory": "8Gi", "accelerators": 0}, "*": {}},
        "retries": {"disabled": {}},
        "max_concurrent": 3,
        "tag_concurrency_limits": [{"key": "database", "limit": 2}],
    }
    executor = made(tmp_path, monkeypatch, config)
    assert executor.retries is RetryMode.DISABLED
    assert executor.overrides == {
        "reports/model": Override(pool="gpu", cpus=2, memory="8Gi", accelerators=0),
        "*": Override(),
    }
    assert executor.max_concurrent == 3
    assert executor.tag_concurrency_limits == [{"key": "database", "limit": 2}]


@pytest.mark.parametrize(
    "config",
    [
        {"overrides": {"model": {"speed": 1}}},
        {"overrides": {"model": {"cpus": "many"}}},
        {"overrides": ["model"]},
        {"max_concurrent": "many"},
        {"retries": {"sometimes": {}}},
        {"pools": {}},
    ],
)
def test_config_that_means_nothing_is_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]
) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError):
        made(tmp_path, monkeypatch, config)


def test_memory_of_an_override_is_checked_as_the_executor_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PlacementError, match="'lots' is not a memory size"):
        made(tmp_path, monkeypatch, {"overrides": {"model": {"memory": "lots"}}})


def test_launchpad_explains_each_field() -> None:
    schema = EXECUTOR.config_schema.as_field().config_type
    assert set(schema.fields) == {"overrides", "retries", "max_concurrent", "tag_concurrency_limits"}  # type: ignore[attr-defined]
    assert all(field.description for field in definition._OVERRIDE.values())


def test_executor_is_called_what_settings_call_it() -> None:
    assert EXECUTOR.name == "docker"


def test_cluster_that_nothing_leads_to_is_told(tmp_path: Path) -> None:
    settings = ContainerSettings(executor="kubernetes", kubeconfig=str(tmp_path / "none"))
    with pytest.raises(EngineRefused, match=r"no connection to a cluster is configured: .* Next: set kubeconfig"):
        container_engine(settings, {})

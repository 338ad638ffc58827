"""Contradictory definitions and settings are refused when the code location loads."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.containers import runs_in
from ml_assets.executors.validation import check_placements
from ml_assets.images import container_image
from ml_assets.resources.errors import SettingsError
from ml_assets.resources.settings import Settings

PINNED = "registry.example/ml/old@sha256:" + "c" * 64
train_image = container_image("train", dockerfile="Dockerfile.train", sources=["ml_assets"])


@runs_in(train_image, pool="gpu")
@dg.asset
def model() -> None: ...


@runs_in(pool="gpu")
@dg.asset_check(asset=model)
def is_good() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset
def plain() -> None: ...


@dg.op
def reads() -> int:
    return 1


@dg.op
def doubles(number: int) -> int:
    return 2 * number


@dg.graph_asset
def graphed() -> int:
    return doubles(reads())


@dg.graph
def inner() -> int:
    return reads()


@dg.job
def scheduled() -> None:
    inner()


@dg.job
def sensed() -> None:
    reads()


@dg.sensor(job=sensed)
def sensing() -> None: ...


GOOD: dict[str, Any] = {
    "containers": {"executor": "docker", "image": "images/train", "pool": "cpu"},
    "pools": {"cpu": {}, "gpu": {"cpu_limit": 2, "memory": "4Gi", "shared_memory": "2Gi"}},
}


def settings_with(**changes: Any) -> Settings:
    said = GOOD | changes
    needed = {"home": "h", "dvc": {"remote": "r", "cache": "c"}, "mlflow": {"tracking_uri": "t"}}
    return Settings.model_validate({"target": "docker", "root": Path("/"), **needed, **said})


def definitions(*assets: dg.AssetsDefinition, checks: tuple[Any, ...] = (is_good,)) -> dg.Definitions:
    return dg.Definitions(assets=assets or [train_image, model, plain], asset_checks=checks)


def complaint(settings: Settings, found: dg.Definitions | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        check_placements(found or definitions(), settings)
    assert str(caught.value).endswith(" Next: correct the definition, or deployments/docker/settings.toml.")
    return caught.value.what


def test_what_fits_together_is_accepted() -> None:
    check_placements(definitions(), settings_with())
    check_placements(definitions(), settings_with(placement={"model": {"image": PINNED, "pool": "gpu", "cpus": 2}}))


def test_external_assets_need_no_place() -> None:
    external = dg.Definitions(assets=[dg.AssetSpec("elsewhere"), train_image, model])
    check_placements(external, settings_with())


def test_plain_processes_need_no_pools() -> None:
    check_placements(definitions(), settings_with(containers={}, pools={}))


def test_all_that_is_wrong_is_said_at_once_with_the_asset() -> None:
    assert complaint(settings_with(pools={"cpu": {}}), definitions(model)) == (
        "model names pool 'gpu', which does not exist (pools: cpu); "
        "model names image asset 'images/train', which does not exist; "
        "model:is_good names pool 'gpu', which does not exist (pools: cpu); "
        "containers.image names image asset 'images/train', which does not exist"
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pools": {}}, "containers.pool names pool 'cpu', which does not exist (no pools are defined)"),
        (
            {"containers": {"executor": "docker", "image": "images/serve"}},
            "containers.image names image asset 'images/serve', which does not exist",
        ),
        (
            {"placement": {"model": {"image": "images/serve"}}},
            "placement.model.image names image asset 'images/serve', which does not exist",
        ),
        (
            {"placement": {"model": {"pool": "moon"}}},
            "placement.model.pool names pool 'moon', which does not exist (pools: cpu, gpu)",
        ),
        (
            {"placement": {"model": {"pool": "gpu", "cpus": 3}}},
            "placement.model.cpus is 3, above cpu_limit 2 of pool gpu",
        ),
        (
            {"placement": {"model": {"pool": "gpu", "memory": "1Gi"}}},
            "placement.model.memory is 1Gi, below shared_memory 2Gi of gpu",
        ),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any], expected: str) -> None:
    assert expected in complaint(settings_with(**changes))


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("modle", " (did you mean model?)"),
        ("model:is_god", " (did you mean model:is_good or model_is_good?)"),
        ("graphed.redas", " (did you mean graphed.reads or graphed.doubles or graphed?)"),
        ("external", ""),
        ("zzz", ""),
    ],
)
def test_placement_of_what_has_no_step_is_refused_with_what_may_be_meant(key: str, meant: str) -> None:
    with_more = definitions(train_image, model, plain, graphed, dg.AssetsDefinition(specs=[dg.AssetSpec("external")]))
    found = complaint(settings_with(placement={key: {"cpus": 2}}), with_more)
    assert found == f"placement.{key} names no existing asset, check or op{meant}"


@pytest.mark.parametrize(
    "key",
    ["*", "model", "model:is_good", "images/train", "plain", "graphed", "graphed.reads", "inner.reads", "reads"],
)
def test_placement_of_whatever_has_a_step_is_accepted(key: str) -> None:
    with_more = dg.Definitions(
        assets=[train_image, model, plain, graphed],
        asset_checks=[is_good],
        schedules=[dg.ScheduleDefinition(job=scheduled, cron_schedule="@daily")],
        sensors=[sensing],
    )
    check_placements(with_more, settings_with(placement={key: {"cpus": 2}}))

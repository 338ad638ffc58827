from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd
import pytest

from ml_assets.datasets import dataset
from ml_assets.features import feature_set
from ml_assets.images import container_image

CONTENT = {"value": 1}
train = container_image("train", dockerfile="Dockerfile.train", sources=["ml_assets", "resources"])


@dataset(image=train)
def numbers() -> pd.DataFrame:
    return pd.DataFrame({"value": [CONTENT["value"]]})


def copying(condition: dg.AutomationCondition[Any] | None) -> dg.AssetsDefinition:
    @feature_set(image=train, **({} if condition is None else {"automation_condition": condition}))
    def copied(numbers: pd.DataFrame) -> pd.DataFrame:
        return numbers

    return copied


class Automation:
    """Evaluates the conditions tick by tick."""

    def __init__(self, assets: list[dg.AssetsDefinition], instance: dg.DagsterInstance, resources: Any) -> None:
        self._definitions = dg.Definitions(assets=assets, resources=resources)
        self._assets, self._instance, self._resources = assets, instance, resources
        self._cursor: Any = None

    def materialize(self, *selection: dg.AssetsDefinition) -> None:
        dg.materialize(self._assets, selection=[*selection], instance=self._instance, resources=self._resources)

    def tick(self, time: datetime | None = None) -> set[str]:
        result = dg.evaluate_automation_conditions(
            defs=self._definitions, instance=self._instance, cursor=self._cursor, evaluation_time=time
        )
        self._cursor = result.cursor
        return {
            key.to_user_string() for key in self._definitions.resolve_all_asset_keys() if result.get_num_requested(key)
        }


@pytest.fixture
def automate(
    resources: dict[str, Any], instance: dg.DagsterInstance
) -> Callable[[dg.AutomationCondition[Any] | None], tuple[Automation, dg.AssetsDefinition]]:
    CONTENT["value"] = 1

    def start(condition: dg.AutomationCondition[Any] | None) -> tuple[Automation, dg.AssetsDefinition]:
        copied = copying(condition)
        return Automation([train, numbers, copied], instance, resources), copied

    return start


def test_an_unchanged_image_or_dataset_triggers_nothing_by_default(automate: Any) -> None:
    automation, copied = automate(None)
    automation.materialize(train, numbers, copied)
    automation.tick()
    automation.materialize(train)
    automation.materialize(numbers)
    assert automation.tick() == set()


def test_a_changed_dataset_triggers_its_reader_by_default(automate: Any) -> None:
    automation, copied = automate(None)
    automation.materialize(train, numbers, copied)
    automation.tick()
    CONTENT["value"] = 2
    automation.materialize(numbers)
    assert automation.tick() == {"copied"}


def test_eager_does_not_follow_a_rebuilt_image(automate: Any) -> None:
    automation, copied = automate(dg.AutomationCondition.eager())
    automation.materialize(train, numbers, copied)
    automation.tick()
    automation.materialize(train)
    assert automation.tick() == set()
    automation.materialize(numbers)
    assert "copied" in automation.tick()


def test_on_cron_does_not_wait_for_the_image(automate: Any) -> None:
    automation, copied = automate(dg.AutomationCondition.on_cron("@daily"))
    automation.materialize(train, numbers, copied)
    now = datetime.now(ZoneInfo("UTC"))
    automation.tick(now)
    tomorrow = now.replace(year=now.year + 1)
    assert automation.tick(tomorrow) == set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", lambda: tomorrow.timestamp() + 60)
        automation.materialize(numbers)
    assert automation.tick(tomorrow.replace(minute=(tomorrow.minute + 2) % 60)) == {"copied"}


def test_a_condition_that_cannot_ignore_by_itself_ignores_images_too(automate: Any) -> None:
    automation, copied = automate(dg.AutomationCondition.any_deps_updated().newly_true())
    automation.materialize(train, numbers, copied)
    automation.tick()
    automation.tick()
    automation.materialize(train)
    assert automation.tick() == set()
    automation.materialize(numbers)
    assert automation.tick() == {"copied"}


def test_no_condition_means_none() -> None:
    @dataset(automation_condition=None)
    def by_hand() -> pd.DataFrame:
        return pd.DataFrame()

    @dataset()
    def by_default() -> pd.DataFrame:
        return pd.DataFrame()

    assert by_hand.automation_conditions_by_key == {}
    assert by_default.automation_conditions_by_key[by_default.key].get_label() == "on_new_data"

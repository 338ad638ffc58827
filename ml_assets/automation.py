"""Automation conditions that know content digests, and the sensors that a deployment wants running."""

from typing import Any

import dagster as dg

from ml_assets.containers import IMAGES_GROUP
from ml_assets.dagster_internals import record_with

__all__ = ["ignoring_images", "on_new_data"]

_Condition = dg.AutomationCondition[Any]


def on_new_data() -> _Condition:
    """The condition that factories give their assets by default.

    Like `AutomationCondition.eager`, with one difference: a dependency counts as updated once its data version has
    changed, not when it was or will be materialized again. So a change runs down the graph as far as it changes
    anything. It acts once the automation sensor is turned on.
    """
    changed = dg.AutomationCondition.data_version_changed() & ~dg.AutomationCondition.executed_with_root_target()
    any_changed = dg.AutomationCondition.any_deps_match(changed).with_label("any_deps_changed")
    eager = dg.AutomationCondition.eager()
    return ignoring_images(eager.replace("any_deps_updated", any_changed).with_label("on_new_data"))


def ignoring_images(condition: _Condition) -> _Condition:
    """The condition without its image dependencies.

    Otherwise ``on_cron`` waits for a rebuilt image for ever, and ``eager`` runs everything after an unchanged rebuild.
    Dagster's own ``ignore`` does not reach through every kind of condition (``newly_true`` for one), so that the tree
    is walked here.
    """
    if hasattr(condition, "ignore_selection") and hasattr(condition, "ignore"):
        ignored: _Condition = condition.ignore(dg.AssetSelection.groups(IMAGES_GROUP))
        return ignored
    inner: dict[str, Any] = {
        name: ignoring_images(part)
        for name in ("operand", "trigger_condition", "reset_condition")
        if isinstance(part := getattr(condition, name, None), dg.AutomationCondition)
    }
    if hasattr(condition, "operands"):
        inner["operands"] = [ignoring_images(part) for part in condition.operands]
    return record_with(condition, **inner) if inner else condition

"""Automation conditions based on content digests, and the sensors that a deployment runs."""

from typing import Any

import dagster as dg

from ml_assets.containers import IMAGES_GROUP
from ml_assets.dagster_internals import record_with

__all__ = ["ignoring_images", "on_new_data"]

_Condition = dg.AutomationCondition[Any]


def on_new_data() -> _Condition:
    """Return the condition that factories give their assets by default.

    It is `AutomationCondition.eager` with one difference: a dependency counts as updated only if its data version has
    changed, not whenever it was or will be materialized again. A change therefore propagates only as far as it changes
    data. The condition acts only while the automation sensor is on.
    """
    changed = dg.AutomationCondition.data_version_changed() & ~dg.AutomationCondition.executed_with_root_target()
    any_changed = dg.AutomationCondition.any_deps_match(changed).with_label("any_deps_changed")
    eager = dg.AutomationCondition.eager()
    return ignoring_images(eager.replace("any_deps_updated", any_changed).with_label("on_new_data"))


def ignoring_images(condition: _Condition) -> _Condition:
    """Return the condition without its image dependencies.

    Otherwise ``on_cron`` waits forever for a rebuilt image, and ``eager`` runs everything after an unchanged rebuild.
    Dagster's ``ignore`` does not apply inside every kind of condition (for example ``newly_true``), so this function
    walks the tree itself.
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

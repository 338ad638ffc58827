"""Automation conditions that know content digests, and the sensors that a deployment wants running."""

from typing import Any

import dagster as dg

from ml_assets.containers import IMAGES_GROUP

__all__ = ["ignoring_images", "on_new_data"]

AnyCondition = dg.AutomationCondition[Any]


def on_new_data() -> AnyCondition:
    """The condition that factories give their assets by default.

    Like `AutomationCondition.eager`, with one difference: a dependency counts as updated when its data version
    changed, not when it was materialized again with the same content. It acts once the automation sensor is turned on.
    """
    return ignoring_images(
        dg.AutomationCondition.eager()
        .replace(dg.AutomationCondition.newly_updated(), dg.AutomationCondition.data_version_changed())
        .with_label("on_new_data")
    )


def ignoring_images(condition: AnyCondition) -> AnyCondition:
    """The condition without its image dependencies.

    Otherwise ``on_cron`` waits for a rebuilt image for ever, and ``eager`` runs everything after an unchanged rebuild.
    """
    ignore = getattr(condition, "ignore", None)
    if ignore is None:
        return condition
    ignored: AnyCondition = ignore(dg.AssetSelection.groups(IMAGES_GROUP))
    return ignored

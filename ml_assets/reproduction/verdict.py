"""The verdict of a reproduction."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import dagster as dg
from pydantic import BaseModel, ConfigDict
from rich.console import Group, RenderableType
from rich.text import Text

from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import REPRODUCTION_METADATA, REPRODUCTION_VERSION
from ml_assets.resources.tracking.tags import RunTags

__all__ = ["Outcome", "Verdict", "render_verdict"]

_TAG_LENGTH = 5000
"""Largest length of an MLflow tag's value."""


class Outcome(StrEnum):
    """The outcome of a rerun."""

    IDENTICAL = "bit-identical"
    WITHIN_TOLERANCE = "within tolerance"
    DIFFERENT = "different"


class Verdict(BaseModel):
    """The answer to a request."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = REPRODUCTION_VERSION
    outcome: Outcome
    asset: str
    partition: str | None = None
    storage_id: int
    data_version: str
    """The recorded data version."""
    reproduced_version: str
    """The data version of the rerun."""
    difference: str | None = None
    """The first difference, in words; None if the bits are the same."""
    tolerance: float
    conditions: tuple[str, ...] = ()
    """Recorded conditions of the materialization that differ now, such as the machine; the likeliest cause first."""
    warnings: tuple[str, ...] = ()
    """Parts that could not be pinned or compared."""
    image: str | None = None
    """Reference of the image that the rerun ran in."""
    commit: str | None = None
    dagster_run: str | None = None
    """Run that logged the verdict; None if no run was needed."""
    started_at: datetime
    ended_at: datetime

    @property
    def is_reproduced(self) -> bool:
        """Return True if the result is the same within the requested tolerance."""
        return self.outcome is not Outcome.DIFFERENT

    def observation(self) -> dg.AssetObservation:
        """Return the verdict as an observation of the asset, without a data version: the asset is unchanged."""
        shown: dict[str, Any] = {
            "reproduction": dg.MetadataValue.text(self.outcome.value),
            "of data version": dg.MetadataValue.text(self.data_version),
            "gave data version": dg.MetadataValue.text(self.reproduced_version),
            **({"first difference": dg.MetadataValue.text(self.difference)} if self.difference else {}),
            **({"conditions": dg.MetadataValue.text("; ".join(self.conditions))} if self.conditions else {}),
            **({"warnings": dg.MetadataValue.text("; ".join(self.warnings))} if self.warnings else {}),
        }
        return dg.AssetObservation(
            dg.AssetKey.from_user_string(self.asset),
            partition=self.partition,
            description=f"reproduction: {self.outcome.value}",
            metadata={**shown, REPRODUCTION_METADATA: dg.MetadataValue.json(self.model_dump(mode="json"))},
        )

    def run_tags(self) -> dict[str, str]:
        """Return the verdict as tags for the MLflow run of the past materialization."""
        return {
            RunTags.REPRODUCTION: self.outcome.value,
            RunTags.REPRODUCTION_DIFFERENCE: (self.difference or "none")[:_TAG_LENGTH],
            RunTags.REPRODUCTION_TIME: self.ended_at.isoformat(timespec="seconds"),
            RunTags.REPRODUCTION_RUN: self.dagster_run or "none",
        }


def render_verdict(verdict: Verdict) -> RenderableType:
    """Return the verdict as text for the user."""
    style = {Outcome.IDENTICAL: "green", Outcome.WITHIN_TOLERANCE: "yellow", Outcome.DIFFERENT: "red"}
    made = AssetPartition(verdict.asset, verdict.partition)
    lines = [
        Text.assemble((f"{made}#{verdict.storage_id}  ", "bold"), (verdict.outcome.value, style[verdict.outcome])),
        Text(f"  recorded  {verdict.data_version}"),
        Text(f"  now       {verdict.reproduced_version}"),
    ]
    if verdict.difference:
        lines.append(Text(f"  first difference: {verdict.difference}"))
    if verdict.difference and verdict.conditions:
        lines += [
            Text("  conditions that differ from the record:"),
            *(Text(f"    {each}") for each in verdict.conditions),
        ]
    lines += [Text(f"  warning: {each}", style="yellow") for each in verdict.warnings]
    return Group(*lines)

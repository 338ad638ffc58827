"""What a reproduction found."""

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
"""Of an MLflow tag's value."""


class Outcome(StrEnum):
    """Whether running again gave the same."""

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
    """What was recorded."""
    reproduced_version: str
    """What running again gave."""
    difference: str | None = None
    """The first thing that differs, in words; None where the bits are the same."""
    tolerance: float
    conditions: tuple[str, ...] = ()
    """What was recorded of the making and is other now, such as the machine; the likeliest cause first."""
    warnings: tuple[str, ...] = ()
    """What could not be pinned or compared."""
    image: str | None = None
    """Image reference that it ran in."""
    commit: str | None = None
    dagster_run: str | None = None
    """Run that logged the verdict; None where none was needed."""
    started_at: datetime
    ended_at: datetime

    @property
    def is_reproduced(self) -> bool:
        """Whether the same came out, as far as was asked."""
        return self.outcome is not Outcome.DIFFERENT

    def observation(self) -> dg.AssetObservation:
        """The verdict as it is logged of the asset. It bears no data version: the asset is as it was."""
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
            description=f"run again: {self.outcome.value}",
            metadata={**shown, REPRODUCTION_METADATA: dg.MetadataValue.json(self.model_dump(mode="json"))},
        )

    def run_tags(self) -> dict[str, str]:
        """The verdict as tags of the MLflow run of what was run again."""
        return {
            RunTags.REPRODUCTION: self.outcome.value,
            RunTags.REPRODUCTION_DIFFERENCE: (self.difference or "none")[:_TAG_LENGTH],
            RunTags.REPRODUCTION_TIME: self.ended_at.isoformat(timespec="seconds"),
            RunTags.REPRODUCTION_RUN: self.dagster_run or "none",
        }


def render_verdict(verdict: Verdict) -> RenderableType:
    """The verdict for people."""
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
        lines += [Text("  other than when it was made:"), *(Text(f"    {each}") for each in verdict.conditions)]
    lines += [Text(f"  warning: {each}", style="yellow") for each in verdict.warnings]
    return Group(*lines)

"""An explanation as text and as JSON."""

from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from ml_assets.lineage.rendering import shorten
from ml_assets.lineage.why import ReasonKind, SharedReason, Status, StatusReason, Summary, Why

__all__ = ["render_summary", "render_why", "summary_to_json", "why_to_json"]

_STYLES: Final = {Status.FRESH: "green", Status.STALE: "yellow", Status.MISSING: "red"}
_NAMED: Final = (ReasonKind.DATA, ReasonKind.ENVIRONMENT)
"""Kinds of reasons whose text does not name their subject."""
_SHOWN: Final = 6


def render_why(why: Why) -> RenderableType:
    """Return two lists as text: why the asset is stale, and why it last ran."""
    title = Text(str(why.artifact), style="bold").append(f"  {why.status}", style=_STYLES[why.status])
    reasons = Tree(title)
    for reason in why.reasons:
        branch = reasons.add(_line(reason))
        for detail in reason.details:
            branch.add(Text(detail))
    if not why.reasons:
        reasons.add(Text("nothing has changed since it was materialized", style="dim"))
    for note in why.notes:
        reasons.add(Text(note, style="dim"))
    if why.latest is None:
        return reasons
    ran = Tree(Text("Why it last ran", style="bold"))
    ran.add(Text(why.launch.described() if why.launch else "it was reported from outside Dagster runs"))
    for condition in why.conditions:
        ran.add(Text(f"because {condition}"))
    if why.latest.record and why.latest.record.attempt:
        ran.add(Text(f"after {why.latest.record.attempt} failed attempts of the step"))
    run = f", run {why.latest.run_id[:8]}" if why.latest.run_id else ""
    ran.add(Text(f"{why.latest.id}, {why.latest.moment:%Y-%m-%d %H:%M}Z{run}", style="dim"))
    return Group(reasons, Text(), ran)


def why_to_json(why: Why) -> dict[str, Any]:
    """Return the explanation as plain values; timestamps are ISO 8601 in UTC."""
    latest, launch = why.latest, why.launch
    return {
        "asset": why.artifact.asset,
        "partition": why.artifact.partition,
        "status": why.status.value,
        "causes": [
            {
                "kind": reason.kind.value,
                "text": reason.text,
                "what": str(reason.what) if reason.what else None,
                "before": reason.before,
                "after": reason.after,
                "details": list(reason.details),
                "shown_by_dagster": reason.is_shown,
            }
            for reason in why.reasons
        ],
        "notes": list(why.notes),
        "made": latest
        and {
            "id": latest.id,
            "data_version": latest.data_version,
            "dagster_run": latest.run_id or None,
            "timestamp": latest.moment.isoformat(),
            "attempt": latest.record.attempt if latest.record else None,
        },
        "launch": launch and launch.model_dump(mode="json"),
        "conditions": list(why.conditions),
    }


def render_summary(summary: Summary) -> RenderableType:
    """Return the number of partitions in each state, with the reasons, as text."""
    counts = ", ".join(f"{number} {status}" for status, number in summary.statuses.items() if number)
    tree = Tree(Text(summary.asset, style="bold").append(f"  {summary.partitions} partitions: {counts}", "not bold"))
    for reason in summary.reasons:
        branch = tree.add(Text(_summed(reason)))
        more = f" … {reason.partitions[-1]}" if len(reason.partitions) > _SHOWN else ""
        branch.add(Text(", ".join(reason.partitions[: _SHOWN - bool(more)]) + more, style="dim"))
    if summary.reasons:
        tree.add(Text(f"details of one partition: ml-assets why '{summary.asset}@{_example(summary)}'", style="dim"))
    return tree


def summary_to_json(summary: Summary) -> dict[str, Any]:
    """Return the summary as plain values, with all partitions by name."""
    return {
        "asset": summary.asset,
        "partitions": summary.partitions,
        "statuses": {status.value: number for status, number in summary.statuses.items()},
        "causes": [
            {"kind": each.kind.value, "text": each.text, "what": each.what, "partitions": list(each.partitions)}
            for each in summary.reasons
        ],
    }


def _line(reason: StatusReason) -> Text:
    text = Text(reason.kind.value, style="cyan").append("  ")
    if reason.kind in _NAMED:
        text.append(f"{reason.what}  ", style="default")
    text.append(reason.text, style="default")
    if reason.before or reason.after:
        text.append(f"  {_short(reason.before)} → {_short(reason.after)}", style="default")
    return text


def _short(version: str | None) -> str:
    return shorten(version) if version else "none"


def _summed(reason: SharedReason) -> str:
    about = f"{reason.what} " if reason.kind in _NAMED else ""
    return f"{len(reason.partitions)} {reason.kind}: {about}{reason.text}"


def _example(summary: Summary) -> str:
    return summary.reasons[0].partitions[0]

"""Why something is as it is, for people and for machines."""

from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from ml_assets.lineage.rendering import shorten
from ml_assets.lineage.why import Cause, CauseKind, Status, Summary, SummedCause, Why

__all__ = ["render_summary", "render_why", "summary_to_json", "why_to_json"]

_STYLES: Final = {Status.FRESH: "green", Status.STALE: "yellow", Status.MISSING: "red"}
_NAMED: Final = (CauseKind.DATA, CauseKind.ENVIRONMENT)
"""What these are about is not in their text."""
_SHOWN: Final = 6


def render_why(why: Why) -> RenderableType:
    """Two lists: why it is stale, and why it ran."""
    title = Text(str(why.artifact), style="bold").append(f"  {why.status}", style=_STYLES[why.status])
    causes = Tree(title)
    for cause in why.causes:
        branch = causes.add(_line(cause))
        for detail in cause.details:
            branch.add(Text(detail))
    if not why.causes:
        causes.add(Text("nothing has changed since it was made", style="dim"))
    if why.made is None:
        return causes
    ran = Tree(Text("why it ran", style="bold"))
    ran.add(Text(why.launch.described() if why.launch else "it was reported from outside of Dagster's runs"))
    for condition in why.conditions:
        ran.add(Text(f"because {condition}"))
    if why.made.record and why.made.record.attempt:
        ran.add(Text(f"after {why.made.record.attempt} failed attempts of the step"))
    run = f", run {why.made.run_id[:8]}" if why.made.run_id else ""
    ran.add(Text(f"{why.made.id}, {why.made.moment:%Y-%m-%d %H:%M}Z{run}", style="dim"))
    return Group(causes, Text(), ran)


def why_to_json(why: Why) -> dict[str, Any]:
    """The same as plain values; timestamps are ISO 8601 in UTC."""
    made, launch = why.made, why.launch
    return {
        "asset": why.artifact.asset,
        "partition": why.artifact.partition,
        "status": why.status.value,
        "causes": [
            {
                "kind": cause.kind.value,
                "text": cause.text,
                "what": str(cause.what) if cause.what else None,
                "before": cause.before,
                "after": cause.after,
                "details": list(cause.details),
                "shown_by_dagster": cause.is_shown,
            }
            for cause in why.causes
        ],
        "made": made
        and {
            "id": made.id,
            "data_version": made.data_version,
            "dagster_run": made.run_id or None,
            "timestamp": made.moment.isoformat(),
            "attempt": made.record.attempt if made.record else None,
        },
        "launch": launch and launch.model_dump(mode="json"),
        "conditions": list(why.conditions),
    }


def render_summary(summary: Summary) -> RenderableType:
    """How many partitions are in which state, and what for."""
    counts = ", ".join(f"{number} {status}" for status, number in summary.statuses.items() if number)
    tree = Tree(Text(summary.asset, style="bold").append(f"  {summary.partitions} partitions: {counts}", "not bold"))
    for cause in summary.causes:
        branch = tree.add(Text(_summed(cause)))
        more = f" … {cause.partitions[-1]}" if len(cause.partitions) > _SHOWN else ""
        branch.add(Text(", ".join(cause.partitions[: _SHOWN - bool(more)]) + more, style="dim"))
    if summary.causes:
        tree.add(Text(f"for more of one: ml-assets why '{summary.asset}@{_example(summary)}'", style="dim"))
    return tree


def summary_to_json(summary: Summary) -> dict[str, Any]:
    """The same as plain values, with all partitions by name."""
    return {
        "asset": summary.asset,
        "partitions": summary.partitions,
        "statuses": {status.value: number for status, number in summary.statuses.items()},
        "causes": [
            {"kind": each.kind.value, "text": each.text, "what": each.what, "partitions": list(each.partitions)}
            for each in summary.causes
        ],
    }


def _line(cause: Cause) -> Text:
    text = Text(cause.kind.value, style="cyan").append("  ")
    if cause.kind in _NAMED:
        text.append(f"{cause.what}  ", style="default")
    text.append(cause.text, style="default")
    if cause.before or cause.after:
        text.append(f"  {_short(cause.before)} → {_short(cause.after)}", style="default")
    return text


def _short(version: str | None) -> str:
    return shorten(version) if version else "none"


def _summed(cause: SummedCause) -> str:
    about = f"{cause.what} " if cause.kind in _NAMED else ""
    return f"{len(cause.partitions)} {cause.kind}: {about}{cause.text}"


def _example(summary: Summary) -> str:
    return summary.causes[0].partitions[0]

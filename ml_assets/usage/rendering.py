"""Renders usage as tables for a shell or the Dagster UI, and as plain values for programs."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ml_assets.resources.pools import print_memory
from ml_assets.resources.usage import Asked
from ml_assets.usage.summary import AssetUsage, Distribution

__all__ = ["describe_memory", "render_usage", "usage_metadata", "usage_to_json"]

_NOTHING = "-"


def usage_to_json(found: Sequence[AssetUsage]) -> list[dict[str, Any]]:
    """Return each asset as plain values; memory in bytes, time in seconds, CPUs as cores in use on average."""
    return [
        {
            **asdict(each),
            "asked": each.asked.model_dump() if each.asked else None,
            "advice": {**asdict(each.advice), "remarks": list(each.advice.remarks)},
        }
        for each in found
    ]


def usage_metadata(found: Sequence[AssetUsage], period: str) -> dict[str, dg.MetadataValue[Any]]:
    """Return metadata for the Dagster UI: a table of all assets, and numbers that it plots over time."""
    header = (
        "asset",
        "count",
        "requested",
        "memory p50 / p95 / max",
        "seconds p50 / p95 / max",
        "recommended",
        "cost per month",
    )
    rows = [
        (
            each.asset,
            str(each.count),
            _asked(each.asked),
            _spread(each.memory, describe_memory),
            _spread(each.step_seconds, "{:.1f}".format),
            _advised(each),
            _money(each.cost_per_month),
        )
        for each in found
    ]
    lines = ["| " + " | ".join(row) + " |" for row in (header, ("---",) * len(header), *rows)]
    remarks = [f"- {each.asset}: {remark}" for each in found for remark in each.advice.remarks]
    return {
        "usage": dg.MetadataValue.md("\n".join([f"Usage {period}", "", *lines, "", *remarks])),
        "cost per month": dg.MetadataValue.float(sum(each.cost_per_month or 0.0 for each in found)),
        "step hours": dg.MetadataValue.float(sum(each.count * each.step_seconds.p50 for each in found) / 3600),
    }


def render_usage(found: Sequence[AssetUsage], period: str) -> RenderableType:
    """Return tables of requested and used resources and cost, then of time by phase, then remarks on the advice."""
    if not found:
        return f"no usage was measured {period}"
    parts: list[RenderableType] = [_taken(found, period), Text(), _times(found)]
    remarks = [Text(f"{each.asset}: {remark}") for each in found for remark in each.advice.remarks]
    return Group(*parts, *([Text(), *remarks] if remarks else []))


def _taken(found: Sequence[AssetUsage], period: str) -> Table:
    table = Table(title=f"usage {period}", title_justify="left", box=None, pad_edge=False)
    table.add_column("asset")
    for name in (
        "count",
        "pool",
        "requested",
        "memory p50/p95/max",
        "CPUs p50/p95/max",
        "recommended",
        "cost",
        "cost per month",
    ):
        table.add_column(name, justify="left" if name == "pool" else "right")
    for each in found:
        table.add_row(
            each.asset,
            str(each.count),
            each.pool or _NOTHING,
            _asked(each.asked),
            _spread(each.memory, describe_memory),
            _spread(each.cpus, "{:.1f}".format),
            _advised(each),
            _money(each.cost_mean),
            _money(each.cost_per_month),
        )
    return table


def _times(found: Sequence[AssetUsage]) -> Table:
    phases = list(dict.fromkeys(name for each in found for name in each.phases))
    with_gpu = any(each.gpu_utilization for each in found)
    table = Table(title="median seconds by phase", title_justify="left", box=None, pad_edge=False)
    table.add_column("asset")
    for name in (*phases, "step p50/p95/max", *(["GPU p50/p95/max"] if with_gpu else [])):
        table.add_column(name, justify="right")
    for each in found:
        gpu = [_spread(each.gpu_utilization, "{:.0f} %".format)] if with_gpu else []
        table.add_row(
            each.asset,
            *(f"{each.phases[name]:.1f}" if name in each.phases else _NOTHING for name in phases),
            _spread(each.step_seconds, "{:.1f}".format),
            *gpu,
        )
    return table


def describe_memory(size: float) -> str:
    """Return bytes as text, such as ``512 MiB``."""
    return f"{size / 2**20:.0f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"


def _asked(asked: Asked | None) -> str:
    if asked is None:
        return _NOTHING
    gpus = f", {asked.accelerators} GPU" if asked.accelerators else ""
    return f"{asked.cpus:g} CPUs, {print_memory(asked.memory_bytes)}{gpus}"


def _advised(usage: AssetUsage) -> str:
    return f"{usage.advice.cpus:g} CPUs, {print_memory(usage.advice.memory_bytes)}"


def _spread(spread: Distribution | None, said: Any) -> str:
    if spread is None:
        return _NOTHING
    return " / ".join(said(value) for value in (spread.p50, spread.p95, spread.maximum))


def _money(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.2f}" if value >= 1 else f"{value:.4f}"

"""Summarizes requested and used resources and cost of assets, and recommends requests. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Final

from ml_assets.resources.usage import Asked
from ml_assets.usage.history import AssetHistory, MeasuredMaterialization

__all__ = ["AssetUsage", "Distribution", "Recommendation", "summarize"]

FEW: Final = 10
"""With fewer materializations than this, the recommendation has a larger margin, and a remark says so."""
_HEADROOM, _HEADROOM_OF_FEW = 1.2, 1.5
_LEAST_MEMORY, _MIB = 256 * 2**20, 2**20
_LEAST_CPUS, _CPU_STEP = 0.5, 0.5
_WASTE: Final = 2.0
_IDLE_GPU, _BUSY_GPU, _FULL_GPU = 10.0, 95.0, 0.9
_MONTH: Final = timedelta(days=30)


@dataclass(frozen=True)
class Distribution:
    """The distribution of values; percentiles are values that occurred (nearest rank)."""

    p50: float
    p95: float
    maximum: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Distribution | None":
        """Return the distribution of some values; None if there are no values."""
        ordered = sorted(values)
        if not ordered:
            return None
        return cls(_rank(ordered, 0.50), _rank(ordered, 0.95), ordered[-1])


@dataclass(frozen=True)
class Recommendation:
    """The recommended resources."""

    cpus: float
    memory_bytes: int
    remarks: tuple[str, ...] = ()
    """Remarks to read before following it."""


@dataclass(frozen=True)
class AssetUsage:
    """The usage of one asset.

    Memory is in bytes, CPUs are cores in use on average, time is in seconds, and cost is in the currency of the pools'
    prices.
    """

    asset: str
    count: int
    """Number of materializations in the period."""
    measured: int
    """Number of materializations behind the figures."""
    pool: str | None
    asked: Asked | None
    """Resources of the latest materialization; None for a plain process."""
    memory: Distribution
    cpus: Distribution
    step_seconds: Distribution
    phases: dict[str, float]
    """Median time of each phase."""
    gpu_utilization: Distribution | None
    gpu_memory: Distribution | None
    cost: Distribution | None
    cost_mean: float | None
    cost_per_month: float | None
    advice: Recommendation


def summarize(histories: Iterable[AssetHistory], since: datetime, until: datetime) -> list[AssetUsage]:
    """Return the assets with measured usage, the most expensive first, then those that took the most time.

    Args:
        histories: usage of the assets.
        since: start of the period that the histories cover.
        until: end of the period.
    """
    period = max(until - since, timedelta(seconds=1))
    found = [_of_asset(history, period) for history in histories if history.taken]
    return sorted(found, key=lambda each: (-(each.cost_per_month or 0.0), -each.count * each.step_seconds.p50))


def _of_asset(history: AssetHistory, period: timedelta) -> AssetUsage:
    taken, latest = history.taken, history.taken[0]
    memory = _spread(each.usage.memory_needed_bytes for each in taken)
    cpus = _spread(_cores(each) for each in taken)
    gpus = [gpu for each in taken for gpu in each.usage.gpus]
    utilization, gpu_memory = (
        Distribution.of(gpu.utilization_mean for gpu in gpus),
        Distribution.of(float(gpu.memory_peak_bytes) for gpu in gpus),
    )
    costs = [cost for each in taken if (cost := each.cost) is not None]
    mean = sum(costs) / len(costs) if costs else None
    fullest = max((gpu.memory_peak_bytes / gpu.memory_bytes for gpu in gpus if gpu.memory_bytes), default=0.0)
    return AssetUsage(
        asset=history.asset,
        count=history.count,
        measured=len(taken),
        pool=latest.record.environment.pool,
        asked=latest.usage.asked,
        memory=memory,
        cpus=cpus,
        step_seconds=_spread(each.step_seconds for each in taken),
        phases=_phases(taken),
        gpu_utilization=utilization,
        gpu_memory=gpu_memory,
        cost=Distribution.of(costs),
        cost_mean=mean,
        cost_per_month=None if mean is None else mean * history.count * (_MONTH / period),
        advice=_recommend(memory, cpus, len(taken), latest.usage.asked, utilization, fullest),
    )


def _recommend(
    memory: Distribution,
    cpus: Distribution,
    measured: int,
    asked: Asked | None,
    gpu: Distribution | None,
    fullest: float,
) -> Recommendation:
    headroom = _HEADROOM_OF_FEW if measured < FEW else _HEADROOM
    wanted_memory = _round_memory(memory.maximum * headroom)
    wanted_cpus = max(_LEAST_CPUS, math.ceil(cpus.p95 / _CPU_STEP) * _CPU_STEP)
    remarks = []
    if measured < FEW:
        materializations = "materialization" if measured == 1 else "materializations"
        remarks.append(f"only {measured} {materializations} measured, so the recommended memory has a margin of 50 %")
    if asked is not None:
        if asked.memory_bytes >= _WASTE * wanted_memory:
            remarks.append(f"requests {asked.memory_bytes / wanted_memory:.1f} times the recommended memory")
        if asked.memory_bytes < memory.maximum * _HEADROOM:
            remarks.append("close to its memory limit")
        if asked.cpus >= _WASTE * wanted_cpus:
            remarks.append(f"requests {asked.cpus / wanted_cpus:.1f} times the recommended CPUs")
        if asked.accelerators and gpu is None:
            remarks.append("its accelerator usage was not measured")
    if gpu is not None and gpu.p95 < _IDLE_GPU:
        remarks.append(f"its GPU is idle ({gpu.p95:.0f} % at p95): a pool without accelerators may be enough")
    if gpu is not None and gpu.p50 > _BUSY_GPU:
        remarks.append(f"its GPU is saturated ({gpu.p50:.0f} % at p50): a larger one may cost less")
    if fullest > _FULL_GPU:
        remarks.append(f"its GPU's memory was {fullest:.0%} full")
    return Recommendation(wanted_cpus, wanted_memory, tuple(remarks))


def _phases(taken: Sequence[MeasuredMaterialization]) -> dict[str, float]:
    names = dict.fromkeys(name for each in taken for name in each.seconds)
    order = ("scheduling", "pull", "start", "import", "input", "compute", "output")
    return {name: median(each.seconds.get(name, 0.0) for each in taken) for name in order if name in names}


def _cores(taken: MeasuredMaterialization) -> float:
    return taken.usage.cpu_seconds / max(taken.step_seconds, 1e-3)


def _round_memory(size: float) -> int:
    """Round up to a usual multiple: of 128 MiB below 1 GiB, of 256 MiB below 4 GiB, of 1 GiB above."""
    step = (128 if size < 2**30 else 256 if size < 2**32 else 1024) * _MIB
    return max(_LEAST_MEMORY, math.ceil(size / step) * step)


def _spread(values: Iterable[float]) -> Distribution:
    found = Distribution.of(values)
    if found is None:
        raise ValueError("no values")
    return found


def _rank(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

from datetime import UTC, datetime, timedelta

import pytest

from ml_assets.resources.usage import Asked, GpuUsage, PhaseSeconds, Usage
from ml_assets.usage.history import AssetHistory, MeasuredMaterialization
from ml_assets.usage.summary import FEW, AssetUsage, Distribution, summarize
from tests.resources.test_provenance import RECORD

MIB, GIB = 2**20, 2**30
NOW = datetime(2026, 5, 1, tzinfo=UTC)
MONTH_AGO = NOW - timedelta(days=30)


def taken(
    memory: float = 400 * MIB,
    cpu: float = 8.0,
    compute: float = 10.0,
    cost: float | None = None,
    asked: Asked | None = None,
    gpu: GpuUsage | None = None,
) -> MeasuredMaterialization:
    usage = Usage(
        memory_needed_bytes=int(memory),
        cpu_seconds=cpu,
        seconds=PhaseSeconds(input=0.0, compute=compute, output=0.0),
        gpus=(gpu,) if gpu else (),
        asked=asked,
        cost=cost,
        price_per_hour=None if cost is None else 1.0,
    )
    return MeasuredMaterialization(RECORD, usage)


def summary(*each: MeasuredMaterialization, count: int | None = None) -> AssetUsage:
    (found,) = summarize([AssetHistory("model", count or len(each), each)], MONTH_AGO, NOW)
    return found


def gpu(percent: float, memory: int = GIB) -> GpuUsage:
    return GpuUsage(
        name="T4",
        utilization_mean=percent,
        utilization_max=percent,
        memory_peak_bytes=memory,
        memory_bytes=16 * GIB,
        samples=5,
    )


def test_percentiles_are_values_that_occurred() -> None:
    assert Distribution.of(range(1, 101)) == Distribution(50, 95, 100)
    assert Distribution.of([3.0]) == Distribution(3.0, 3.0, 3.0)
    assert Distribution.of([]) is None


def test_advice_has_a_fifth_of_headroom_over_the_largest() -> None:
    found = summary(*[taken(memory=400 * MIB)] * FEW, taken(memory=500 * MIB))
    assert found.advice.memory_bytes == 640 * MIB, "600 MiB, up to a multiple of 128"
    assert found.advice.remarks == ()


def test_few_materializations_get_more_headroom_and_are_told() -> None:
    found = summary(taken(memory=500 * MIB))
    assert found.advice.memory_bytes == 768 * MIB, "750 MiB, up to a multiple of 128"
    assert found.advice.remarks[0].startswith("only 1 materialization measured")


@pytest.mark.parametrize(("memory", "advised"), [(1 * MIB, 256 * MIB), (2 * GIB, 2560 * MIB), (10 * GIB, 12 * GIB)])
def test_advice_is_an_amount_that_people_would_write(memory: int, advised: int) -> None:
    assert summary(*[taken(memory=memory)] * FEW).advice.memory_bytes == advised


def test_cpus_are_those_kept_busy_on_average_up_to_halves() -> None:
    found = summary(*[taken(cpu=22.0, compute=10.0)] * FEW)
    assert found.cpus.p50 == 2.2
    assert found.advice.cpus == 2.5
    assert summary(*[taken(cpu=0.1)] * FEW).advice.cpus == 0.5


def test_who_asks_for_too_much_is_told() -> None:
    found = summary(*[taken(memory=1 * GIB, cpu=10.0, asked=Asked(cpus=4, memory_bytes=16 * GIB))] * FEW)
    assert found.advice.remarks == (
        "requests 12.8 times the recommended memory",
        "requests 4.0 times the recommended CPUs",
    )


def test_who_is_close_to_its_limit_is_told() -> None:
    found = summary(*[taken(memory=950 * MIB, asked=Asked(cpus=1, memory_bytes=GIB))] * FEW)
    assert found.advice.remarks == ("close to its memory limit",)


@pytest.mark.parametrize(
    ("used", "said"),
    [
        (gpu(2), "its GPU is idle (2 % at p95): a pool without accelerators may be enough"),
        (gpu(99), "its GPU is saturated (99 % at p50): a larger one may cost less"),
        (gpu(50, 15 * GIB), "its GPU's memory was 94% full"),
    ],
)
def test_a_gpu_that_is_idle_or_full_is_told(used: GpuUsage, said: str) -> None:
    assert summary(*[taken(gpu=used)] * FEW).advice.remarks == (said,)


def test_a_gpu_that_nobody_measured_is_told() -> None:
    asked = Asked(cpus=1, memory_bytes=512 * MIB, accelerators=1)
    assert summary(*[taken(asked=asked)] * FEW).advice.remarks == ("its accelerator usage was not measured",)


def test_a_month_costs_the_mean_times_all_that_were_made() -> None:
    found = summary(taken(cost=1.0), taken(cost=3.0), count=60)
    assert (found.cost_mean, found.cost_per_month) == (2.0, 120.0)
    (week,) = summarize([AssetHistory("model", 7, (taken(cost=2.0),))], NOW - timedelta(days=7), NOW)
    assert week.cost_per_month == pytest.approx(60.0)


def test_without_a_price_nothing_is_said_of_money() -> None:
    found = summary(taken())
    assert (found.cost, found.cost_mean, found.cost_per_month) == (None, None, None)


def test_the_most_expensive_come_first_and_what_was_not_measured_is_left_out() -> None:
    histories = [
        AssetHistory("cheap", 1, (taken(cost=1.0),)),
        AssetHistory("free", 1, (taken(),)),
        AssetHistory("unmeasured", 1, ()),
        AssetHistory("dear", 1, (taken(cost=5.0),)),
    ]
    assert [each.asset for each in summarize(histories, MONTH_AGO, NOW)] == ["dear", "cheap", "free"]

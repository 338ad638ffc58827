"""Usage of a step: its time, its resources, and their cost at the pool's price."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property

from ml_assets.placement import Placement, current_placement
from ml_assets.resources.machine.hardware import hardware
from ml_assets.resources.machine.usage import GpuSampler, Used, process_started_at, sampling_gpus, used
from ml_assets.resources.pools import parse_memory
from ml_assets.resources.provenance import Hardware
from ml_assets.resources.usage import Asked, PhaseSeconds, Usage

__all__ = ["StepMeter"]

_HOUR_SECONDS = 3600


class StepMeter:
    """The clock and counters of one step, which start when it requests its inputs.

    If the step has its own process (in a container, or of Dagster's multiprocess executor), usage counts from the start
    of the process, including imports. In a shared process only the step's own time counts, but memory counts in full.
    """

    def __init__(self) -> None:
        self._placement = current_placement()
        is_own = self._placement is not None or multiprocessing.parent_process() is not None
        self._process_started_at = process_started_at() if is_own else None
        self._cpu_before = 0.0 if is_own else self._used().cpu_seconds
        self._begun_at = datetime.now(UTC)
        self._begun = self._called = self._returned = time.monotonic()
        self._gpus = GpuSampler()

    @cached_property
    def hardware(self) -> Hardware:
        """The machine's hardware, and whether its accelerators were checked earlier."""
        placement = self._placement
        if placement is None or not placement.accelerators:
            return hardware()
        return hardware().model_copy(update={"accelerators_checked": placement.check_accelerators})

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Measure the time of the asset's function."""
        self._called = time.monotonic()
        with sampling_gpus(bool(self.hardware.accelerators)) as self._gpus:
            try:
                yield
            finally:
                self._returned = time.monotonic()

    def usage(self) -> Usage:
        """Return the step's usage up to now."""
        now, measured, started = time.monotonic(), self._used(), self._process_started_at
        phases = PhaseSeconds(
            importing=_rounded(max(0.0, (self._begun_at - started).total_seconds())) if started else None,
            input=_rounded(self._called - self._begun),
            compute=_rounded(self._returned - self._called),
            output=_rounded(now - self._returned),
        )
        price = self._placement.price_per_hour if self._placement else None
        seconds = (phases.importing or 0.0) + phases.input + phases.compute + phases.output
        return Usage(
            whole_container=measured.whole_container,
            memory_peak_bytes=measured.memory_peak,
            memory_needed_bytes=measured.memory_needed,
            cpu_seconds=_rounded(measured.cpu_seconds - self._cpu_before),
            seconds=phases,
            gpus=self._gpus.usage,
            process_started_at=started,
            asked=_asked(self._placement),
            launch_number=self._placement.number if self._placement else None,
            price_per_hour=price,
            cost=None if price is None else price * seconds / _HOUR_SECONDS,
        )

    def _used(self) -> Used:
        return used(in_container=self._placement is not None)


def _asked(placement: Placement | None) -> Asked | None:
    if placement is None:
        return None
    return Asked(cpus=placement.cpus, memory_bytes=parse_memory(placement.memory), accelerators=placement.accelerators)


def _rounded(seconds: float) -> float:
    return round(seconds, 3)

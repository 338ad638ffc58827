"""The resource usage of a materialization: time, memory, CPU, GPUs and cost, measured by its step and its engine."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

__all__ = ["Asked", "GpuUsage", "LaunchTimes", "PhaseSeconds", "Usage"]


class _Measured(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Asked(_Measured):
    """The resources of a step's container; its memory is also its limit."""

    cpus: float
    memory_bytes: int
    accelerators: int = 0


class PhaseSeconds(_Measured):
    """A step's phases in seconds. `LaunchTimes` covers the time before its process started."""

    importing: float | None = None
    """From the start of its process to the request for inputs; None if the process existed before the step."""
    input: float
    """Look-up and loading of inputs, and opening of the MLflow run."""
    compute: float
    """The asset's function."""
    output: float
    """Storage of the function's result."""


class GpuUsage(_Measured):
    """Sampled usage of one GPU while the function ran."""

    name: str
    utilization_mean: float
    """Percentage of the time during which the GPU was busy."""
    utilization_max: float
    memory_peak_bytes: int
    memory_bytes: int
    """Total memory of the GPU."""
    samples: int


class Usage(_Measured):
    """Resources that a materialization used, measured by its step until the record was made."""

    whole_container: bool = False
    """True if memory and CPU are the container's; else they are those of the process and its children."""
    memory_peak_bytes: int | None = None
    """Peak memory. A container's includes the page cache, which the kernel can reclaim."""
    memory_needed_bytes: int
    """Estimated minimum memory: the peak without reclaimable memory, as far as the kernel reports it."""
    cpu_seconds: float
    seconds: PhaseSeconds
    gpus: tuple[GpuUsage, ...] = ()
    process_started_at: datetime | None = None
    """None if the process existed before the step."""
    asked: Asked | None = None
    """None for a plain process."""
    launch_number: int | None = None
    """Number of the step's earlier containers in this run; None for a plain process."""
    price_per_hour: float | None = None
    """The pool's price in its settings; None without one."""
    cost: float | None = None
    """Cost of the process's time; readers of `LaunchTimes` add the time before its start."""


class LaunchTimes(_Measured):
    """Start times of the container of one launch of a step, from its engine; seconds since 1970."""

    number: int
    """Number of the step's earlier containers in this run."""
    ordered_at: float
    scheduled_at: float | None = None
    """Time at which it was assigned a machine; None if the engine does not schedule."""
    pull_seconds: float | None = None
    """Seconds for the pull of its image, 0 if it was present; None if unknown."""
    started_at: float | None = None
    """Start time of its process, as precisely as the engine reports it."""

"""What a materialization takes: time, memory, CPU, GPUs and money, as its step and its engine measure it."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

__all__ = ["Asked", "GpuUsage", "LaunchTimes", "PhaseSeconds", "Usage"]


class _Measured(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Asked(_Measured):
    """What a step's container was given; its memory is also its limit."""

    cpus: float
    memory_bytes: int
    accelerators: int = 0


class PhaseSeconds(_Measured):
    """How a step spent its time, in seconds. What passed before its process began is in `LaunchTimes`."""

    importing: float | None = None
    """From the start of its process until it asked for its inputs; None where the process was there before the step."""
    input: float
    """Inputs looked up and loaded, and the MLflow run opened."""
    compute: float
    """The asset's function."""
    output: float
    """What it returned stored."""


class GpuUsage(_Measured):
    """What was used of one GPU while the function ran, by samples."""

    name: str
    utilization_mean: float
    """Percent of the time in which something ran on it."""
    utilization_max: float
    memory_peak_bytes: int
    memory_bytes: int
    """What it has."""
    samples: int


class Usage(_Measured):
    """What a materialization took, measured by its step until the record was made."""

    whole_container: bool = False
    """Whether memory and CPU are the container's; else they are the process's and its children's."""
    memory_peak_bytes: int | None = None
    """The most memory at once. A container's includes the cache of files, which it could have given back."""
    memory_needed_bytes: int
    """The least memory that would have done, as far as the kernel can tell: without what could be given back."""
    cpu_seconds: float
    seconds: PhaseSeconds
    gpus: tuple[GpuUsage, ...] = ()
    process_started_at: datetime | None = None
    """None where the process was there before the step."""
    asked: Asked | None = None
    """None for a plain process."""
    launch_number: int | None = None
    """How many containers the step had in this run before this one; None for a plain process."""
    price_per_hour: float | None = None
    """The pool's, as its settings had it; None without one."""
    cost: float | None = None
    """The price of the time of the process; what passed before it is added by whoever reads `LaunchTimes`."""


class LaunchTimes(_Measured):
    """When the container of one launch of a step came up, as its engine tells; seconds of the epoch."""

    number: int
    """How many containers the step had in this run before this one."""
    ordered_at: float
    scheduled_at: float | None = None
    """When it had a machine; None where the engine schedules nothing."""
    pull_seconds: float | None = None
    """How long its image was pulled, 0 where it was there; None where nobody can say."""
    started_at: float | None = None
    """When its process began, as precisely as the engine says it."""

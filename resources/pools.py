"""Pools: named places to run, as ``[pools.<name>]`` of a target's settings describe them."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

__all__ = ["Override", "Pool", "Toleration", "check_pools", "parse_memory", "print_memory"]

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]i?|Ki)?")
_LEAST_MEMORY = 2**22
"""Bytes below which no container runtime starts anything."""


def parse_memory(text: str) -> int:
    """Bytes of a quantity as Kubernetes writes it, such as ``512Mi`` or ``4G``.

    Raises:
        ValueError: it is no quantity, or less than any container needs.
    """
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no amount of memory; write it as 512Mi or 16Gi")
    value = int(float(match[1]) * _UNITS[match[2] or ""])
    if value < _LEAST_MEMORY:
        raise ValueError(f"{text!r} is less memory than any container needs; did you mean {match[1]}Gi?")
    return value


def print_memory(size: int) -> str:
    """The shortest exact quantity for a number of bytes."""
    for unit in ("Gi", "Mi", "Ki"):
        if size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def _is_memory(text: str) -> str:
    parse_memory(text)
    return "".join(text.split())  # Kubernetes takes no spaces


_Memory = Annotated[str, AfterValidator(_is_memory)]
"""A quantity of bytes as Kubernetes writes it."""


class _PoolPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Toleration(_PoolPart):
    """A taint that pods of a pool tolerate, in Kubernetes' words."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Pool(_PoolPart):
    """A named place to run."""

    cpus: PositiveFloat = 1
    """Cores that a step asks for."""
    cpu_limit: PositiveFloat | None = None
    """Cores that a step may use; no limit when left out."""
    memory: _Memory = "1Gi"
    """Memory that a step gets; it is both asked for and the limit, so that only its own use can end it."""
    memory_cap: _Memory | None = None
    """Memory up to which a step that ran out of it is run again, doubled each time; never when left out."""
    accelerators: int = Field(default=0, ge=0)
    """Number of accelerators that a step gets."""
    accelerator_resource: str = "nvidia.com/gpu"
    """Kubernetes' name of the accelerator."""
    check_accelerators: bool = True
    """Whether a step looks for its devices and driver before user code runs. Off, the record says "unchecked"."""
    shared_memory: _Memory | None = None
    """Size of ``/dev/shm``, as the data loaders of training libraries need it."""
    node_selector: Mapping[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    runtime_class: str | None = None
    priority_class: str | None = None
    service_account: str | None = None
    concurrency: PositiveInt | None = None
    """Steps that may run here at once, across all runs; Dagster's own pool of this name gets this limit."""
    price_per_hour: float | None = Field(default=None, ge=0)
    """Price of what one step occupies, in the currency that you count in."""
    fallback: str | None = None
    """Pool to go on in after too many interruptions, or when no node comes up in time."""
    interruptions: int = Field(default=3, ge=0)
    """How often a preempted, evicted or lost step is run again here before it goes to the fallback, or fails."""
    pending_seconds: PositiveInt = 600
    """Seconds in which a step must have started."""
    run_seconds: PositiveInt | None = None
    """Seconds after which a running step is ended; no limit when left out."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.cpu_limit is not None and self.cpu_limit < self.cpus:
            raise ValueError(f"cpu_limit {self.cpu_limit:g} is below cpus {self.cpus:g}")
        if self.memory_cap is not None and parse_memory(self.memory_cap) < parse_memory(self.memory):
            raise ValueError(f"memory_cap {self.memory_cap} is below memory {self.memory}")
        if self.shared_memory is not None and parse_memory(self.shared_memory) > parse_memory(self.memory):
            raise ValueError(f"shared_memory {self.shared_memory} counts against memory {self.memory}, and is above it")
        return self


class Override(_PoolPart):
    """Where one asset runs, said again for one deployment or one run; what is left out stays as it is."""

    image: str | None = None
    """Key of an image asset, or an image reference by digest, which pins the step to it."""
    pool: str | None = None
    cpus: PositiveFloat | None = None
    memory: _Memory | None = None
    accelerators: int | None = Field(default=None, ge=0)


def check_pools(pools: Mapping[str, Pool]) -> dict[str, str]:
    """What is wrong among pools, by the key that says it: a fallback that is unknown or leads in a circle."""
    problems = {}
    for name, pool in pools.items():
        seen: list[str] = [name]
        at: Any = pool
        while at is not None and at.fallback is not None:
            if at.fallback not in pools:
                if at is pool:
                    problems[f"pools.{name}.fallback"] = (
                        f"{at.fallback!r} is no pool; there are {', '.join(sorted(pools))}"
                    )
                break
            if at.fallback in seen:
                problems[f"pools.{name}.fallback"] = f"it leads in a circle: {' → '.join([*seen, at.fallback])}"
                break
            seen.append(at.fallback)
            at = pools[at.fallback]
    return problems

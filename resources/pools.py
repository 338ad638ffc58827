"""Pools: named places to run, defined as ``[pools.<name>]`` in a target's settings."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

__all__ = ["Override", "Pool", "Toleration", "check_pools", "parse_memory", "print_memory"]

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]i?|Ki)?")
_LEAST_MEMORY = 2**22
"""Minimum memory in bytes with which a container runtime starts a container."""


def parse_memory(text: str) -> int:
    """Return the bytes of a Kubernetes quantity, such as ``512Mi`` or ``4G``.

    Raises:
        ValueError: it is not a quantity, or is less than any container needs.
    """
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a memory size; write it as 512Mi or 16Gi")
    value = int(float(match[1]) * _UNITS[match[2] or ""])
    if value < _LEAST_MEMORY:
        raise ValueError(f"{text!r} is less memory than any container needs; did you mean {match[1]}Gi?")
    return value


def print_memory(size: int) -> str:
    """Return the shortest exact quantity for a number of bytes."""
    for unit in ("Gi", "Mi", "Ki"):
        if size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def _is_memory(text: str) -> str:
    parse_memory(text)
    return "".join(text.split())  # Kubernetes accepts no spaces


_Memory = Annotated[str, AfterValidator(_is_memory)]
"""A quantity of bytes in Kubernetes notation."""


class _PoolPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Toleration(_PoolPart):
    """A Kubernetes toleration: a taint that the pool's pods tolerate."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Pool(_PoolPart):
    """A named place to run."""

    cpus: PositiveFloat = 1
    """CPU request of a step, in cores."""
    cpu_limit: PositiveFloat | None = None
    """CPU limit of a step, in cores; no limit if left out."""
    memory: _Memory = "1Gi"
    """Memory of a step, both request and limit, so that only the step's own use can exceed it."""
    memory_cap: _Memory | None = None
    """Maximum memory for retries of a step that ran out of memory; each retry doubles it. No retry if left out."""
    accelerators: int = Field(default=0, ge=0)
    """Number of accelerators for each step."""
    accelerator_resource: str = "nvidia.com/gpu"
    """Resource name of the accelerator in Kubernetes."""
    check_accelerators: bool = True
    """True if a step checks its devices and driver before user code runs. If off, the record says "unchecked"."""
    shared_memory: _Memory | None = None
    """Size of ``/dev/shm``; data loaders of training libraries need it."""
    node_selector: Mapping[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    runtime_class: str | None = None
    priority_class: str | None = None
    service_account: str | None = None
    concurrency: PositiveInt | None = None
    """Maximum number of steps that run here at once, across all runs; also the limit of Dagster's pool of this name."""
    price_per_hour: float | None = Field(default=None, ge=0)
    """Price of one step's resources, in your currency."""
    fallback: str | None = None
    """Fallback pool after too many interruptions, or if no node starts in time."""
    interruptions: int = Field(default=3, ge=0)
    """Number of relaunches here after preemption, eviction or loss, before the step uses the fallback or fails."""
    pending_seconds: PositiveInt = 600
    """Seconds within which a step must start."""
    run_seconds: PositiveInt | None = None
    """Seconds after which a running step is stopped; no limit if left out."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.cpu_limit is not None and self.cpu_limit < self.cpus:
            raise ValueError(f"cpu_limit {self.cpu_limit:g} is below cpus {self.cpus:g}")
        if self.memory_cap is not None and parse_memory(self.memory_cap) < parse_memory(self.memory):
            raise ValueError(f"memory_cap {self.memory_cap} is below memory {self.memory}")
        if self.shared_memory is not None and parse_memory(self.shared_memory) > parse_memory(self.memory):
            raise ValueError(f"shared_memory {self.shared_memory} is part of memory {self.memory}, and exceeds it")
        return self


class Override(_PoolPart):
    """The placement of one asset for one deployment or one run; values left out keep the definition's setting."""

    image: str | None = None
    """Key of an image asset, or an image reference by digest that pins the step to it."""
    pool: str | None = None
    cpus: PositiveFloat | None = None
    memory: _Memory | None = None
    accelerators: int | None = Field(default=None, ge=0)


def check_pools(pools: Mapping[str, Pool]) -> dict[str, str]:
    """Return the errors in pools by their key: a fallback that is unknown or part of a cycle."""
    problems = {}
    for name, pool in pools.items():
        seen: list[str] = [name]
        at: Any = pool
        while at is not None and at.fallback is not None:
            if at.fallback not in pools:
                if at is pool:
                    problems[f"pools.{name}.fallback"] = (
                        f"{at.fallback!r} is not a pool; the pools are {', '.join(sorted(pools))}"
                    )
                break
            if at.fallback in seen:
                problems[f"pools.{name}.fallback"] = f"the fallbacks form a cycle: {' → '.join([*seen, at.fallback])}"
                break
            seen.append(at.fallback)
            at = pools[at.fallback]
    return problems

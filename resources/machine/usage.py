"""Resource usage of a process, or of the container that it has to itself, read on demand from kernel counters.

Nothing runs beside the work, except with GPUs: the kernel does not count their use, so ``nvidia-smi`` samples it.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Final

from ml_assets.resources.machine.cgroups import ControlGroups
from ml_assets.resources.machine.limits import read_kernel_file
from ml_assets.resources.usage import GpuUsage

__all__ = ["GpuSampler", "Used", "process_started_at", "sampling_gpus", "used"]

_ROOT: Final = Path("/")
_KIB, _MIB = 2**10, 2**20
_PATIENCE_SECONDS: Final = 5.0
_SAMPLE_SECONDS: Final = 1
_NVIDIA_SMI: Final = (
    "nvidia-smi",
    "--query-gpu=index,name,utilization.gpu,memory.used,memory.total",
    "--format=csv,noheader,nounits",
    f"--loop={_SAMPLE_SECONDS}",
)


@dataclass(frozen=True)
class Used:
    """Memory and CPU used so far.

    Attributes:
        memory_peak: peak in bytes; a container's includes its page cache.
        memory_needed: bytes that could not be reclaimed.
        cpu_seconds: CPU time of all counted processes.
        whole_container: True if the whole container counts; else this process and its ended children.
    """

    memory_peak: int
    memory_needed: int
    cpu_seconds: float
    whole_container: bool


def used(in_container: bool, root: Path = _ROOT) -> Used:
    """Return the usage since this process, or its container, started.

    Args:
        in_container: True if the container runs only for this process.
        root: parent of ``proc`` and ``sys``.
    """
    largest = max(_own_peak(root), _childrens_peak())
    times = os.times()
    own_cpu = times.user + times.system + times.children_user + times.children_system
    groups = ControlGroups(root) if in_container else None
    peak = groups.memory_peak() if groups else None
    if groups is None or peak is None:
        return Used(largest, largest, own_cpu, whole_container=False)
    # The cache only grows into free memory, so the rest is at most the memory needed at the peak.
    needed = max(largest, peak - groups.page_cache())
    cpu = groups.cpu_seconds()
    return Used(peak, min(needed, peak), own_cpu if cpu is None else cpu, whole_container=True)


def process_started_at() -> datetime:
    """Return the start time of this process."""
    import psutil

    return datetime.fromtimestamp(psutil.Process().create_time(), UTC)


@contextmanager
def sampling_gpus(is_there: bool) -> Iterator["GpuSampler"]:
    """Sample GPU usage once a second while the block runs.

    Args:
        is_there: True if there are GPUs; otherwise nothing is started.
    """
    sampler = GpuSampler()
    process = _start(_NVIDIA_SMI) if is_there else None
    if process is None or process.stdout is None:
        yield sampler
        return
    reader = Thread(target=sampler.read, args=(process.stdout,), name="nvidia-smi", daemon=True)
    reader.start()
    try:
        yield sampler
    finally:
        process.kill()
        process.wait(_PATIENCE_SECONDS)
        reader.join(_PATIENCE_SECONDS)
        process.stdout.close()


@dataclass
class _Gpu:
    name: str
    memory: int
    utilization: float = 0.0
    utilization_max: float = 0.0
    memory_max: int = 0
    samples: int = 0


@dataclass
class GpuSampler:
    """Aggregates the output of ``nvidia-smi``; a value that a GPU does not report counts as 0."""

    _gpus: dict[str, _Gpu] = field(default_factory=dict)

    def read(self, lines: Iterator[str]) -> None:
        """Read lines of index, name, percent, MiB used and MiB in total, separated by commas, until they end."""
        for line in lines:
            values = [value.strip() for value in line.split(",")]
            if len(values) == 5:
                self._add(*values)

    @property
    def usage(self) -> tuple[GpuUsage, ...]:
        """Return the usage of each GPU so far, in the order of their numbers."""
        return tuple(
            GpuUsage(
                name=gpu.name,
                utilization_mean=round(gpu.utilization / gpu.samples, 1),
                utilization_max=gpu.utilization_max,
                memory_peak_bytes=gpu.memory_max,
                memory_bytes=gpu.memory,
                samples=gpu.samples,
            )
            for _, gpu in sorted(self._gpus.items())
        )

    def _add(self, index: str, name: str, utilization: str, memory: str, total: str) -> None:
        gpu = self._gpus.setdefault(index, _Gpu(name, int(_number(total) * _MIB)))
        gpu.samples += 1
        gpu.utilization += _number(utilization)
        gpu.utilization_max = max(gpu.utilization_max, _number(utilization))
        gpu.memory_max = max(gpu.memory_max, int(_number(memory) * _MIB))


def _start(command: tuple[str, ...]) -> "subprocess.Popen[str] | None":
    with contextlib.suppress(OSError):  # The driver may be installed without the program.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    return None


def _own_peak(root: Path) -> int:
    for line in read_kernel_file(root / "proc/self/status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * _KIB
    return _rusage("RUSAGE_SELF")


def _childrens_peak() -> int:
    """Return the largest peak of the ended children."""
    return _rusage("RUSAGE_CHILDREN")


def _rusage(who: str) -> int:
    import resource

    size = resource.getrusage(getattr(resource, who)).ru_maxrss
    return size if sys.platform == "darwin" else size * _KIB


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # For example [N/A] or [Not Supported].
        return 0.0

"""The machine that a step runs on: what its process may use, and what bounds the threads of its libraries.

Cheap enough for every step, and nothing is imported for it: accelerators are read from the driver's own files.
"""

import contextlib
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from resources.provenance import Hardware, Threads

__all__ = ["hardware", "threads"]

_ROOT = Path("/")
_V1_UNLIMITED = 1 << 60
"""Version 1 of control groups says "no limit" with a number near 2**63."""


def hardware(root: Path = _ROOT) -> Hardware:
    """The machine, bounded by CPU affinity and by the control group (version 1 or 2) of a container.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    limits = _Limits(root)
    return Hardware(
        architecture=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(root),
        cpus=min(_usable_cpus(), limits.cpus()),
        memory_bytes=min(_memory(root), limits.memory()),
        accelerators=tuple(_nvidia(root)),
    )


def threads(variables: Mapping[str, str]) -> Threads:
    """What bounds the threads of numerical libraries.

    Args:
        variables: environment variables such as ``OMP_NUM_THREADS``, where set.

    Returns:
        The variables, and the threads of each BLAS and OpenMP library that this process has loaded, by its file's stem.
        There are none without NumPy, which brings them, or without threadpoolctl, which asks them.
    """
    return Threads(variables=dict(variables), libraries=_loaded_libraries())


def _loaded_libraries() -> dict[str, int]:
    if "numpy" not in sys.modules:
        return {}
    try:
        from threadpoolctl import threadpool_info  # type: ignore[import-untyped]  # published without types
    except ImportError:
        return {}
    found = {Path(library["filepath"]).stem: int(library["num_threads"]) for library in threadpool_info()}
    return dict(sorted(found.items()))


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory(root: Path) -> int:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    import psutil

    return int(psutil.virtual_memory().total)


def _processor(root: Path) -> str:
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Hardware", "cpu model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _nvidia(root: Path) -> Iterator[str]:
    """Models of the GPUs that the NVIDIA driver manages (``/proc/driver/nvidia/gpus/<bus>/information``)."""
    for file in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        for line in _read(file).splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "Model":
                yield value.strip()


class _Limits:
    """Limits of the control groups that this process is in; a group inherits those of the groups above it.

    Inside a container the path in ``/proc/self/cgroup`` may be the host's and lead nowhere; the mount then shows the
    container's own group at its top.
    """

    def __init__(self, root: Path) -> None:
        self._mount = root / "sys/fs/cgroup"
        self._paths: dict[str, str] = {}
        for line in _read(root / "proc/self/cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            self._paths |= dict.fromkeys(controllers.split(","), path)

    def memory(self) -> int:
        """Bytes, or more than any machine has."""
        found = [*self._values("", "memory.max"), *self._values("memory", "memory.limit_in_bytes")]
        return min((int(value) for value in found if value.isdigit()), default=_V1_UNLIMITED)

    def cpus(self) -> int:
        """CPUs that the quota is worth, rounded up, or more than any machine has."""
        quotas = [value.split() for value in self._values("", "cpu.max")]
        quotas += [
            [quota, period]
            for quota, period in zip(
                self._values("cpu", "cpu.cfs_quota_us"), self._values("cpu", "cpu.cfs_period_us"), strict=False
            )
        ]
        worth = [
            -(-int(quota) // int(period))
            for quota, period in (pair for pair in quotas if len(pair) == 2)
            if quota.isdigit() and period.isdigit() and int(period)
        ]
        return max(1, min(worth, default=_V1_UNLIMITED))

    def _values(self, controller: str, file: str) -> Iterator[str]:
        """The contents of a file in the process's group and in each group above it."""
        group = Path(self._paths.get(controller, "/"))
        mounts = [self._mount / controller] if controller else [self._mount, self._mount / "unified"]
        for mount in mounts:
            for level in (group, *group.parents):
                content = _read(mount / str(level).lstrip("/") / file).strip()
                if content:
                    yield content


def _read(file: Path) -> str:
    """A file of the kernel, empty where it is absent or may not be read."""
    with contextlib.suppress(OSError):
        return file.read_text(errors="replace")
    return ""

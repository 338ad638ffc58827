"""Resource limits of the process, read from the kernel's files; imports nothing else."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ProcessLimits", "read_kernel_file"]

_V1_UNLIMITED = 1 << 60
"""Control groups version 1 express "no limit" as a number near 2**63."""


class ProcessLimits:
    """Limits of this process's control groups; a group inherits the limits of the groups above it.

    Inside a container the path in ``/proc/self/cgroup`` may be the host's and lead nowhere; the mount then shows the
    container's own group at its top.

    Args:
        root: parent of ``proc`` and ``sys``.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._mount = root / "sys/fs/cgroup"
        self._paths: dict[str, str] = {}
        for line in read_kernel_file(root / "proc/self/cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            self._paths |= dict.fromkeys(controllers.split(","), path)

    def memory(self) -> int:
        """Return the memory limit in bytes; without a limit, more than any machine has."""
        found = [*self._values("", "memory.max"), *self._values("memory", "memory.limit_in_bytes")]
        return min((int(value) for value in found if value.isdigit()), default=_V1_UNLIMITED)

    def cpus(self) -> int:
        """Return the number of usable CPUs: by affinity, and by the quota, rounded up."""
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
        return max(1, min([*worth, _usable_cpus()]))

    def _values(self, controller: str, file: str) -> Iterator[str]:
        """Return the contents of a file in the process's group and in each group above it."""
        group = Path(self._paths.get(controller, "/"))
        mounts = [self._mount / controller] if controller else [self._mount, self._mount / "unified"]
        for mount in mounts:
            for level in (group, *group.parents):
                content = read_kernel_file(mount / str(level).lstrip("/") / file).strip()
                if content:
                    yield content


def read_kernel_file(file: Path) -> str:
    """Return the content of a kernel file; empty if it is absent or unreadable."""
    with contextlib.suppress(OSError):
        return file.read_text(errors="replace")
    return ""


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

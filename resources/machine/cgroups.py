"""Resource usage of a container's control group (Linux, versions 1 and 2)."""

from ml_assets.resources.machine.limits import ProcessLimits

__all__ = ["ControlGroups"]

_NANOSECONDS, _MICROSECONDS = 10**9, 10**6


class ControlGroups(ProcessLimits):
    """Usage counters of the process's own control group.

    Args:
        root: parent of ``proc`` and ``sys``.
    """

    def memory_peak(self) -> int | None:
        """Return the peak memory of the process's own group in bytes, page cache included; None without a counter.

        ``memory.peak`` of version 2 exists since Linux 5.19.
        """
        for value in (*self._values("", "memory.peak"), *self._values("memory", "memory.max_usage_in_bytes")):
            return int(value)
        return None

    def page_cache(self) -> int:
        """Return the bytes of page cache in the own group that the kernel can reclaim."""
        for text in (*self._values("", "memory.stat"), *self._values("memory", "memory.stat")):
            counted = dict(line.split() for line in text.splitlines())
            prefix = "total_" if "total_active_file" in counted else ""
            return sum(int(counted.get(f"{prefix}{name}", 0)) for name in ("active_file", "inactive_file"))
        return 0

    def cpu_seconds(self) -> float | None:
        """Return the CPU seconds of all processes in the own group; None if the kernel has no counter."""
        for text in self._values("", "cpu.stat"):
            counted = dict(line.split() for line in text.splitlines())
            if "usage_usec" in counted:
                return int(counted["usage_usec"]) / _MICROSECONDS
        for value in self._values("cpuacct", "cpuacct.usage"):
            return int(value) / _NANOSECONDS
        return None

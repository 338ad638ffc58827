"""What the control group of a container has used (Linux, versions 1 and 2)."""

from ml_assets.resources.machine.limits import ProcessLimits

__all__ = ["ControlGroups"]

_NANOSECONDS, _MICROSECONDS = 10**9, 10**6


class ControlGroups(ProcessLimits):
    """What the process's own group has used, beside what bounds it.

    Args:
        root: where ``proc`` and ``sys`` are.
    """

    def memory_peak(self) -> int | None:
        """Bytes that the process's own group has held at once, page cache included; None where the kernel counts none.

        ``memory.peak`` of version 2 exists since Linux 5.19.
        """
        for value in (*self._values("", "memory.peak"), *self._values("memory", "memory.max_usage_in_bytes")):
            return int(value)
        return None

    def page_cache(self) -> int:
        """Bytes of files that the own group holds now, and could give back."""
        for text in (*self._values("", "memory.stat"), *self._values("memory", "memory.stat")):
            counted = dict(line.split() for line in text.splitlines())
            prefix = "total_" if "total_active_file" in counted else ""
            return sum(int(counted.get(f"{prefix}{name}", 0)) for name in ("active_file", "inactive_file"))
        return 0

    def cpu_seconds(self) -> float | None:
        """What all processes of the own group have used of CPUs; None where the kernel does not count it."""
        for text in self._values("", "cpu.stat"):
            counted = dict(line.split() for line in text.splitlines())
            if "usage_usec" in counted:
                return int(counted["usage_usec"]) / _MICROSECONDS
        for value in self._values("cpuacct", "cpuacct.usage"):
            return int(value) / _NANOSECONDS
        return None

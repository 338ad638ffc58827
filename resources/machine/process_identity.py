"""The identity of a process, and a check that it still runs.

A process id is not unique: the system reuses it, and each container has its own ids. The identity adds the machine, its
boot, the pid namespace and the process's start time, so that only a process visible from here is ever reported as gone.
"""

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import psutil

__all__ = ["ProcessIdentity"]


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of one boot of one machine, written as JSON."""

    host: str
    machine: str
    """Machine id; empty if there is none, as in most containers."""
    boot: str
    """Id of the machine's boot; empty if the system has none."""
    namespace: str
    """Pid namespace; empty if the system has none."""
    pid: int
    started: str
    """Start time of the process, on a clock that setting the time does not change."""

    @classmethod
    def current(cls) -> Self:
        """Return the identity of this process."""
        pid = os.getpid()
        return cls(
            host=platform.node(),
            machine=_read("/etc/machine-id"),
            boot=_read("/proc/sys/kernel/random/boot_id"),
            namespace=_pid_namespace(),
            pid=pid,
            started=_started(pid) or "",
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the output of `str`.

        Raises:
            ValueError: the text has a different form.
        """
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"not a process's identity: {text!r}") from error

    def is_gone(self) -> bool:
        """Return True if the process has certainly ended; False also if that is unknown from here."""
        here = self.current()
        if (self.host, self.machine, self.namespace) != (here.host, here.machine, here.namespace):
            return False
        if self.boot != here.boot:
            # Without a machine id, another machine may have the same name.
            return bool(self.machine)
        return _started(self.pid) not in (self.started, "")

    def __str__(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))


def _started(pid: int) -> str | None:
    """Return a process's start time; None if it does not exist or is a zombie, "" if the start time is hidden."""
    if not psutil.pid_exists(pid):
        return None
    try:
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():
            # proc_pid_stat(5): the state is the first field after the name in parentheses, the start time the 20th.
            fields = stat.read_text().rpartition(")")[2].split()
            return None if fields[0] in "ZX" else fields[19]
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except (psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):
        return None
    except (psutil.AccessDenied, PermissionError):
        return ""


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""

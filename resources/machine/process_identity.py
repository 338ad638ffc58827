"""Which process did something, and whether it still lives.

A process id alone says little: it is used again, and means another process in another container. The identity written
here adds the machine, its boot, the pid namespace and the moment the process started, so that "gone" is only ever said
of a process that could be seen from here.
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
    """Machine id; empty where there is none, as in most containers."""
    boot: str
    """Id of the machine's boot; empty where the system has none."""
    namespace: str
    """Pid namespace; empty where the system has none."""
    pid: int
    started: str
    """When the process started, on a clock that setting the time does not move."""

    @classmethod
    def current(cls) -> Self:
        """This process."""
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
        """Read what `str` wrote.

        Raises:
            ValueError: the text is something else.
        """
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"not a process's identity: {text!r}") from error

    def is_gone(self) -> bool:
        """Whether the process has certainly ended; False also where that cannot be told from here."""
        here = self.current()
        if (self.host, self.machine, self.namespace) != (here.host, here.machine, here.namespace):
            return False
        if self.boot != here.boot:
            # Without a machine id, another machine may bear the same name.
            return bool(self.machine)
        return _started(self.pid) not in (self.started, "")

    def __str__(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))


def _started(pid: int) -> str | None:
    """When a process started; None if there is none, or only its unreaped remains; "" if that is hidden from us."""
    if not psutil.pid_exists(pid):
        return None
    try:
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():
            # proc_pid_stat(5): the state is the field after the name in parentheses, the start time the twentieth.
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

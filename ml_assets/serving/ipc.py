"""Messages between the supervisor, its generations and their workers."""

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

__all__ = ["Order", "Readiness", "read_status", "report", "write_status"]

_LANES = 8
"""Maximum number of generations that are alive at once. With more, two generations would share their metrics."""
_STATUS = "status.json"
_LONGEST = 4000
"""Maximum size of a report in bytes; a pipe writes this much atomically."""


@dataclass(frozen=True)
class Order:
    """The supervisor's order to a generation. The process of the generation inherits the descriptors."""

    reference: str
    number: int
    directory: str
    """Directory of status and metrics."""
    listener: int
    reports: int
    """Descriptor for reports: one line of JSON for each event."""
    lifeline: int
    """Descriptor that reaches its end when the supervisor exits."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the output of `text`."""
        return cls(**json.loads(text))

    @property
    def text(self) -> str:
        """Return the order as a command-line argument."""
        return json.dumps(asdict(self))

    def place(self, worker: int) -> str:
        """Return the name of a worker's place, which is unique among all running processes."""
        return f"{self.number % _LANES}-{worker}"


@dataclass(frozen=True)
class Readiness:
    """The readiness of the server to accept requests."""

    ready: bool
    detail: str | None = None
    """The reason for not being ready, or the newer version that failed to load."""
    stopping: bool = False
    """True if the whole server is shutting down."""


def report(order: Order, **fields: Any) -> None:
    """Report an event to the supervisor, which may have exited."""
    if len(str(fields.get("error", ""))) > _LONGEST // 6:  # escaping may turn a character into six
        fields["error"] = fields["error"][: _LONGEST // 6]
    with contextlib.suppress(OSError):
        os.write(order.reports, json.dumps(fields).encode() + b"\n")


def read_status(directory: Path) -> Readiness:
    """Return the status that the supervisor wrote last."""
    try:
        return Readiness(**json.loads((directory / _STATUS).read_bytes()))
    except OSError:
        return Readiness(False, "the supervisor process has ended")


def write_status(directory: Path, readiness: Readiness) -> None:
    """Write the status for the workers."""
    temporary = directory / f"{_STATUS}.new"
    temporary.write_text(json.dumps(asdict(readiness)))
    os.replace(temporary, directory / _STATUS)

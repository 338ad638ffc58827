"""What the supervisor, its generations and their workers tell each other."""

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

__all__ = ["Order", "Readiness", "read_status", "report", "write_status"]

_LANES = 8
"""Generations that may be alive at once without mixing up their metrics."""
_STATUS = "status.json"
_LONGEST = 4000
"""Bytes of a report; a pipe takes that much at once."""


@dataclass(frozen=True)
class Order:
    """What a generation is told by its supervisor; descriptors are inherited."""

    reference: str
    number: int
    directory: str
    """Where status and metrics are."""
    listener: int
    reports: int
    """Written to: a line of JSON for each thing that happened."""
    lifeline: int
    """At its end when the supervisor is gone."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` gave."""
        return cls(**json.loads(text))

    @property
    def text(self) -> str:
        """As an argument of a command."""
        return json.dumps(asdict(self))

    def place(self, worker: int) -> str:
        """Name of a worker's place among all processes that run."""
        return f"{self.number % _LANES}-{worker}"


@dataclass(frozen=True)
class Readiness:
    """Whether requests are welcome."""

    ready: bool
    detail: str | None = None
    """Why they are not, or which newer version failed to load."""
    stopping: bool = False
    """Whether the whole server is about to end."""


def report(order: Order, **fields: Any) -> None:
    """Tell the supervisor that something happened; it may be gone."""
    if len(str(fields.get("error", ""))) > _LONGEST // 6:  # a character may become six
        fields["error"] = fields["error"][: _LONGEST // 6]
    with contextlib.suppress(OSError):
        os.write(order.reports, json.dumps(fields).encode() + b"\n")


def read_status(directory: Path) -> Readiness:
    """What the supervisor wrote last."""
    try:
        return Readiness(**json.loads((directory / _STATUS).read_bytes()))
    except OSError:
        return Readiness(False, "the supervisor has gone")


def write_status(directory: Path, readiness: Readiness) -> None:
    """Let the workers know."""
    temporary = directory / f"{_STATUS}.new"
    temporary.write_text(json.dumps(asdict(readiness)))
    os.replace(temporary, directory / _STATUS)

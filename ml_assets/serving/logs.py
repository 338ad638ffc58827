"""JSON log lines on standard error: one line per request, and the messages of the processes."""

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

__all__ = ["LogLines", "set_up_logging"]

_ATOMIC = 4096
"""Maximum size of an atomic write to a pipe; larger writes of several processes may interleave (POSIX's PIPE_BUF)."""


class LogLines(logging.Handler):
    """Writes JSON log lines. Request lines are buffered briefly, so that each costs little time.

    Args:
        descriptor: file to write to.
        constant: fields of every line.
    """

    def __init__(self, descriptor: int = 2, constant: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.constant = dict(constant or {})
        self._descriptor = descriptor
        self._pending = bytearray()

    def line(self, level: str, message: str, **fields: Any) -> None:
        """Buffer a line; `flush` writes it."""
        tree = {"time": datetime.now(UTC), "level": level, "message": message, **self.constant, **fields}
        line = orjson.dumps(tree, default=str, option=orjson.OPT_APPEND_NEWLINE)
        if len(self._pending) + len(line) > _ATOMIC:
            self.flush()
        self._pending += line

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record of Python's logging immediately."""
        fields = getattr(record, "fields", {})
        if record.exc_info:
            fields = {**fields, "traceback": logging.Formatter().formatException(record.exc_info)}
        self.line(record.levelname.lower(), record.getMessage(), logger=record.name, **fields)
        self.flush()

    def flush(self) -> None:
        """Write the buffered lines."""
        content, self._pending = self._pending, bytearray()
        try:
            while content:
                content = content[os.write(self._descriptor, content) :]
        except OSError:  # a closed log must not stop the server
            return


def set_up_logging(**constant: Any) -> LogLines:
    """Format all of this process's Python logging as JSON lines."""
    lines = LogLines(constant=constant)
    root = logging.getLogger()
    root.handlers[:] = [lines]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    return lines

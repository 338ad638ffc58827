"""Runs the checks of a target, all at once and each within a deadline, and returns their findings."""

import importlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from threading import Thread

from ml_assets.resources.errors import MlAssetsError

__all__ = ["Check", "Finding", "Severity", "clock_finding", "fault", "ok", "run_checks", "warning"]

_SAID = 300
"""Number of characters to show of a log line."""
_SKEW_WARNING, _SKEW_FAULT = 5.0, 60.0


class Severity(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    """It works, or its state is unknown."""
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    """The result of a check."""

    severity: Severity
    what: str
    next_step: str | None = None
    """What to do about it, in the imperative; None if all is well."""
    check: str = ""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: the subject of the check.
        look: runs the check; an error of ours that it raises is a fault.
        needs: modules that it imports; their import takes seconds and does not count toward the deadline.
    """

    name: str
    look: Callable[[], Iterable[Finding]]
    needs: Sequence[str] = ()


def ok(what: str) -> Finding:
    """Return the finding that all is well."""
    return Finding(Severity.OK, what)


def warning(what: str, next_step: str) -> Finding:
    """Return the finding that something works, or that its state is unknown."""
    return Finding(Severity.WARNING, what, next_step)


def fault(what: str, next_step: str) -> Finding:
    """Return the finding that something does not work."""
    return Finding(Severity.FAULT, what, next_step)


def clock_finding(whose: str, there: datetime) -> Finding:
    """Return a finding on a clock's difference from this machine's. Latency adds to it, so seconds do not matter."""
    skew = abs(there.timestamp() - time.time())
    if skew < _SKEW_WARNING:
        return ok(f"the clock of {whose} agrees with this machine's")
    what = f"the clock of {whose} differs by {skew:.0f} seconds"
    return (fault if skew > _SKEW_FAULT else warning)(
        what, "synchronize both clocks with NTP: event times and leases depend on them"
    )


def run_checks(checks: Sequence[Check], seconds: float, done: Callable[[str], None] = lambda _: None) -> list[Finding]:
    """Run all checks at once and return their findings in the order of the checks.

    Args:
        checks: the checks to run.
        seconds: deadline of each check, after its imports; a check that takes longer is a fault.
        done: receives the name of each finished check.
    """
    for module in dict.fromkeys(name for check in checks for name in check.needs):
        with suppress(ModuleNotFoundError):  # the check itself reports a missing package
            importlib.import_module(module)
    findings = []
    with _last_warnings() as said:
        running = [_RunningCheck(check) for check in checks]
        deadline = time.monotonic() + seconds
        for each in running:
            each.join(max(0.0, deadline - time.monotonic()))
            findings += each.findings(seconds, said.get(each.check.name))
            done(each.check.name)
    return findings


@contextmanager
def _last_warnings() -> Iterator[dict[str, str]]:
    """Collect the last warning that each thread logged: libraries that retry log the reason there."""
    said: dict[str, str] = {}

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said[record.threadName or ""] = " ".join(record.getMessage().split())

    ear = Ear(logging.WARNING)
    logging.getLogger().addHandler(ear)
    try:
        yield said
    finally:
        logging.getLogger().removeHandler(ear)


class _RunningCheck(Thread):
    """A running check. Nothing waits for a check that hangs, not even the end of the interpreter."""

    def __init__(self, check: Check) -> None:
        super().__init__(name=check.name, daemon=True)
        self.check = check
        self._found: list[Finding] = []
        self.start()

    def run(self) -> None:
        found: list[Finding] = []
        try:
            found += self.check.look()
        except MlAssetsError as error:
            found.append(fault(error.what, error.next_step))
        except Exception as error:  # any error must leave the other checks running
            said = " ".join(str(error).split()) or "no message"
            found.append(
                fault(
                    f"{type(error).__name__}: {said}",
                    "fix the reported cause, or report this if the message names none",
                )
            )
        self._found = found

    def findings(self, seconds: float, said: str | None) -> list[Finding]:
        found = self._found
        if self.is_alive():
            step = "check that it runs and that this machine can reach it, or wait longer with --seconds"
            why = f": {said[:_SAID]}" if said else ""
            found = [fault(f"no answer within {seconds:g} seconds{why}", step)]
        return [Finding(each.severity, each.what, each.next_step, self.check.name) for each in found]

"""Runs parts, each in its own process group, so that a part can be ended with all its processes."""

import os
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from slices.plan import Counts, Limits, Outcome, State, in_order, may_run
from slices.table import Part, Table


class Clock:
    """Seconds since a run started.

    Args:
        started: time of the start, in seconds since the epoch; now when left out.
    """

    def __init__(self, started: float | None = None) -> None:
        self._zero = time.monotonic() - (max(0.0, time.time() - started) if started else 0.0)

    def __call__(self) -> float:
        """Return the seconds."""
        return time.monotonic() - self._zero


class Runner:
    """Runs a table's parts.

    Args:
        table: the parts.
        folder: folder for reports and logs.
        limits: time limits, in seconds since the start.
        clock: returns the seconds since the start.
    """

    def __init__(self, table: Table, folder: Path, limits: Limits, clock: Clock) -> None:
        self._table, self._folder, self._limits, self._clock = table, folder, limits, clock
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.xml"):
            old.unlink()

    def run(self, commits: Sequence[Sequence[str]], turn: int) -> list[Outcome]:
        """Run the mandatory parts, then slices as long as they fit, and return all outcomes."""
        outcomes: list[Outcome] = []
        with preparations([each for each in self._table.mandatory if each.prepared_by], self._folder) as prepared:
            for part in (*self._table.mandatory, *in_order(self._table.slices, commits, turn)):
                began = self._clock()
                if part.name in prepared:
                    self._await(part, prepared[part.name])
                runs = may_run(part, outcomes, self._clock(), self._limits)
                outcomes.append(self._outcome(part, began) if runs else Outcome(part))
        return outcomes

    def _await(self, part: Part, preparation: "subprocess.Popen[bytes]") -> None:
        """Wait until a preparation has ended. If it failed, print its log; the part then does the missing work."""
        try:
            code = preparation.wait(max(0.0, self._limits.interrupt - self._clock()))
        except subprocess.TimeoutExpired:
            return
        if code:
            print(f"The preparation of {part.name} failed with exit code {code}:", flush=True)
            print(log_of(part, self._folder).read_text(errors="replace")[-8000:], flush=True)

    def _outcome(self, part: Part, began: float) -> Outcome:
        """Run a part and return its outcome, with the time since it began."""
        if not part.command:  # the part ran before this program
            return Outcome(part, State.ENDED, self._clock())
        print(f"\n--- {part.name} (budget {part.seconds} s)", flush=True)
        report = self._folder / f"{part.name}.xml"
        command = [word.replace("{report}", str(report)) for word in part.command]
        code = run_for(command, self._limits.interrupt - self._clock(), self._limits.grace)
        counts = read_report(report) if part.tests else Counts()
        state = State.NOT_FINISHED if code is None else State.ENDED
        return Outcome(part, state, self._clock() - began, code or 0, counts)


def run_for(command: Sequence[str], seconds: float, grace: float) -> int | None:
    """Run a command and return its exit code; None if it exceeded the time limit and was ended.

    Args:
        command: program and arguments.
        seconds: time limit, after which it is interrupted, as by Ctrl-C.
        grace: time until its whole process group is killed.
    """
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        _end(process, grace)
        return None
    except BaseException:
        _end(process, grace)
        raise


@contextmanager
def preparations(parts: Sequence[Part], folder: Path) -> Iterator[Mapping[str, "subprocess.Popen[bytes]"]]:
    """Start the preparations of parts at low priority and yield them by name of the part; end those that still run."""
    begun = {}
    try:
        for part in parts:
            with log_of(part, folder).open("wb") as log:
                command = ["nice", "-n", "19", *part.prepared_by]
                begun[part.name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        yield begun
    finally:
        for process in begun.values():
            if process.poll() is None:
                _end(process, 5)


def log_of(part: Part, folder: Path) -> Path:
    """Return the path of a preparation's log."""
    return folder / f"{part.name}.log"


def read_report(path: Path) -> Counts:
    """Return the counts of a JUnit report; zeros if it is missing or incomplete."""
    try:
        report = ElementTree.parse(path)  # noqa: S314 - pytest wrote it
    except (FileNotFoundError, ElementTree.ParseError):
        return Counts()
    cases = report.findall(".//testcase")
    failed, skipped = 0, []
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif (skip := case.find("skipped")) is not None:
            skipped.append(f"{case.get('classname')}::{case.get('name')}: {skip.get('message')}")
    # An interrupted test is listed as a case but not counted in the suite.
    ended = sum(int(suite.get("tests", 0)) for suite in report.iter("testsuite"))
    return Counts(min(ended, len(cases)) - failed - len(skipped), failed, tuple(skipped))


def _end(process: "subprocess.Popen[bytes]", grace: float) -> None:
    """Interrupt a process group, and kill its remaining processes after the grace time."""
    over = time.monotonic() + grace
    with suppress(ProcessLookupError):  # all its processes have ended
        os.killpg(process.pid, signal.SIGINT)
        while time.monotonic() < over:
            process.poll()  # otherwise the first process would remain as a zombie
            os.killpg(process.pid, 0)
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

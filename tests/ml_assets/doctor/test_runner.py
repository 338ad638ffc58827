import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from ml_assets.doctor.runner import Check, Finding, Severity, clock_finding, ok, run_checks, warning
from ml_assets.resources.errors import StoreError


def fine() -> Iterator[Finding]:
    yield ok("fine")
    yield warning("nearly", "look")


def broken() -> Iterator[Finding]:
    yield ok("half")
    raise StoreError("it is broken", next_step="mend it")


def unforeseen() -> Iterator[Finding]:
    yield ok("half")
    raise ZeroDivisionError("by\nzero")


def test_findings_come_in_the_order_of_the_checks_and_name_them() -> None:
    slow = threading.Event()

    def first() -> Iterator[Finding]:
        slow.wait()
        yield ok("first")

    def second() -> Iterator[Finding]:
        slow.set()
        yield ok("second")

    found = run_checks([Check("one", first), Check("two", second)], seconds=480)
    assert [(each.check, each.what) for each in found] == [("one", "first"), ("two", "second")]


def test_an_error_of_ours_is_a_fault_with_its_next_step_beside_what_was_found_before() -> None:
    found = run_checks([Check("it", broken), Check("other", fine)], seconds=480)
    assert [(each.severity, each.what, each.next_step) for each in found] == [
        (Severity.OK, "half", None),
        (Severity.FAULT, "it is broken", "mend it"),
        (Severity.OK, "fine", None),
        (Severity.WARNING, "nearly", "look"),
    ]


def test_any_other_error_is_a_fault_as_well() -> None:
    _, found = run_checks([Check("it", unforeseen)], seconds=480)
    assert (found.severity, found.what) == (Severity.FAULT, "ZeroDivisionError: by zero")


def test_what_hangs_is_a_fault_after_the_deadline_with_what_it_logged() -> None:
    leave = threading.Event()

    def hangs() -> Iterator[Finding]:
        logging.getLogger("some.library").warning("asking %s\nagain", "it")
        leave.wait()
        yield ok("never")

    began = time.monotonic()
    hung, found = run_checks([Check("it", hangs), Check("other", lambda: [ok("fine")])], seconds=0.2)
    leave.set()
    assert time.monotonic() - began < 20
    assert (hung.check, hung.severity, hung.what) == (
        "it",
        Severity.FAULT,
        "no answer within 0.2 seconds: asking it again",
    )
    assert found.severity is Severity.OK


@pytest.mark.parametrize(("seconds", "severity"), [(0, Severity.OK), (20, Severity.WARNING), (3600, Severity.FAULT)])
def test_clocks_may_differ_by_seconds(seconds: int, severity: Severity) -> None:
    for direction in (1, -1):
        assert clock_finding("it", datetime.now(UTC) + direction * timedelta(seconds=seconds)).severity is severity

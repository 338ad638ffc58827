"""Updates `seconds` and `tests` in ``slices.toml`` from JUnit reports, of a CI run or of any other test run."""

import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from slices.table import TABLE, Part, load_table

BESIDE_SECONDS = 10
"""Time of a part outside of its pytest session, in which make checks the environment and the cluster."""
OTHER_FOLDERS = ("tests/torch/", "tests/cluster/", "tests/containers/")


class Time(NamedTuple):
    """Seconds of one test, with its fixtures."""

    worker: float
    """Time of the worker that ran it."""
    session: float
    """Its share of the duration of the session, in which several workers run."""


def rewrite(reports: Sequence[Path], path: Path = TABLE) -> list[str]:
    """Update a table from reports, and return the names of the parts that they cover."""
    times = read_times(reports)
    text, covered = path.read_text(), []
    for part in load_table(path).parts:
        if tests := tests_of(part, times):
            text = with_numbers(text, part.name, estimate(tests), len(tests))
            covered.append(part.name)
    path.write_text(text)
    return covered


def read_times(reports: Sequence[Path]) -> dict[str, Time]:
    """Return the time of each test, by pytest id."""
    times: dict[str, Time] = {}
    for path in reports:
        for suite in ElementTree.parse(path).iter("testsuite"):  # noqa: S314 - pytest wrote it
            cases = [
                (node_id(case.get("classname", ""), case.get("name", "")), float(case.get("time", 0)))
                for case in suite.iter("testcase")
            ]
            share = float(suite.get("time", 0)) / (sum(seconds for _, seconds in cases) or 1)
            times |= {test: Time(seconds, seconds * share) for test, seconds in cases}
    return times


def node_id(classname: str, name: str) -> str:
    """Return the pytest id of a test from the module, class and name in a report."""
    words = classname.split(".")
    module = next((at for at, word in enumerate(words) if word.startswith("test_")), len(words) - 1)
    return "::".join(["/".join(words[: module + 1]) + ".py", *words[module + 1 :], name])


def tests_of(part: Part, times: Mapping[str, Time]) -> dict[str, Time]:
    """Return the tests of a part, without those that the core runs."""
    if part.name == "test":
        return {test: time for test, time in times.items() if not test.startswith(OTHER_FOLDERS)}
    return {
        test: time
        for test, time in times.items()
        if test.startswith(part.files) and not test.startswith(part.deselected)
    }


def estimate(tests: Mapping[str, Time]) -> int:
    """Return the duration of tests together; one worker runs all tests of a file."""
    files: defaultdict[str, float] = defaultdict(float)
    for test, time in tests.items():
        files[test.split("::")[0]] += time.worker
    return round(BESIDE_SECONDS + max(max(files.values()), sum(time.session for time in tests.values())))


def with_numbers(text: str, name: str, seconds: int, tests: int) -> str:
    """Return the table's text with new numbers for a part."""
    section = re.compile(rf"(^\[(?:parts\.|slices\.)?{re.escape(name)}\]\n)seconds = \d+\ntests = \d+\n", re.MULTILINE)
    return section.sub(rf"\g<1>seconds = {seconds}\ntests = {tests}\n", text)

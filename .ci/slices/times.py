"""Rewrites seconds and tests of ``slices.toml`` from JUnit reports, of a CI run or of any other run of the tests."""

import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from slices.table import TABLE, Part, load_table

WORKERS = 2
SESSION_SECONDS = 15
"""What pytest takes beside its tests: to start, to collect, and to end."""
OTHER_FOLDERS = ("tests/torch/", "tests/cluster/", "tests/containers/")


def rewrite(reports: Sequence[Path], path: Path = TABLE) -> list[str]:
    """Rewrite a table with what reports say, and return the names of the parts that they cover."""
    seconds = read_seconds(reports)
    text, covered = path.read_text(), []
    for part in load_table(path).parts:
        if tests := tests_of(part, seconds):
            text = with_numbers(text, part.name, estimate(tests), len(tests))
            covered.append(part.name)
    path.write_text(text)
    return covered


def read_seconds(reports: Sequence[Path]) -> dict[str, float]:
    """Return the seconds of each test, with its fixtures, by pytest's id."""
    cases = [case for path in reports for case in ElementTree.parse(path).iter("testcase")]  # noqa: S314 - pytest wrote it
    return {node_id(case.get("classname", ""), case.get("name", "")): float(case.get("time", 0)) for case in cases}


def node_id(classname: str, name: str) -> str:
    """Return pytest's id of a test that a report names by module and class."""
    words = classname.split(".")
    module = next((at for at, word in enumerate(words) if word.startswith("test_")), len(words) - 1)
    return "::".join(["/".join(words[: module + 1]) + ".py", *words[module + 1 :], name])


def tests_of(part: Part, seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the tests of a part, without those that it leaves to the core."""
    if part.name == "test":
        return {test: time for test, time in seconds.items() if not test.startswith(OTHER_FOLDERS)}
    return {
        test: time
        for test, time in seconds.items()
        if test.startswith(part.files) and not test.startswith(part.deselected)
    }


def estimate(tests: Mapping[str, float]) -> int:
    """Return how long pytest takes for tests, when its workers take one file after the other."""
    files: defaultdict[str, float] = defaultdict(float)
    for test, time in tests.items():
        files[test.split("::")[0]] += time
    return round(SESSION_SECONDS + max(max(files.values()), sum(files.values()) / WORKERS))


def with_numbers(text: str, name: str, seconds: int, tests: int) -> str:
    """Return the table's text with other numbers for a part."""
    section = re.compile(rf"(^\[(?:parts\.|slices\.)?{re.escape(name)}\]\n)seconds = \d+\ntests = \d+\n", re.MULTILINE)
    return section.sub(rf"\g<1>seconds = {seconds}\ntests = {tests}\n", text)

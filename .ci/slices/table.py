"""The parts of a run, as listed in ``slices.toml``."""

import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parents[1] / "slices.toml"
ENGINE_TESTS = ("tests/cluster", "tests/containers")


@dataclass(frozen=True)
class Part:
    """One command of a run."""

    name: str
    seconds: int
    """Budget: its duration on two idle cores."""
    command: tuple[str, ...] = ()
    """The command; ``{report}`` stands for the path of a JUnit report. Empty for a part that has already run."""
    tests: int = 0
    """Approximate number of its tests; 0 for a part without a report."""
    mandatory: bool = False
    required: bool = False
    """True if no later part can run once it has failed."""
    complete: bool = False
    """True if none of its tests may be skipped."""
    files: tuple[str, ...] = ()
    """Test files, or ids of tests."""
    deselected: tuple[str, ...] = ()
    """Tests of its files that the core already runs: their ids, or prefixes of ids."""
    sources: tuple[str, ...] = ()
    """Globs of the source files that it tests."""
    prepared_by: tuple[str, ...] = ()
    """Command that runs in the background from the start, at low priority."""


@dataclass(frozen=True)
class Table:
    """All parts."""

    mandatory: tuple[Part, ...]
    """In the order in which they run, with the core last."""
    slices: tuple[Part, ...]
    goal: int
    """Most seconds for all parts on two idle cores."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts."""
        return self.mandatory + self.slices


def load_table(path: Path = TABLE) -> Table:
    """Return the table of a file."""
    found = tomllib.loads(path.read_text())
    core = _core(found["core"])
    mandatory = [
        Part(
            name,
            given["seconds"],
            tuple(shlex.split(given.get("command", ""))),
            tests=given.get("tests", 0),
            mandatory=True,
            required=given.get("required", False),
            prepared_by=tuple(shlex.split(given.get("prepared_by", ""))),
        )
        for name, given in found["parts"].items()
    ]
    slices = [_slice(name, given, core.files) for name, given in found["slices"].items()]
    return Table((*mandatory, core), tuple(slices), found["goal"])


def _core(given: Mapping[str, Any]) -> Part:
    contract = [f"{suite}::{test}" for suite in given["contract_of"] for test in given["contract"]]
    files = (*contract, *given["files"])
    return Part(
        "core", given["seconds"], _on_engines(files), tests=given["tests"], mandatory=True, complete=True, files=files
    )


def _slice(name: str, given: Mapping[str, Any], core: Sequence[str]) -> Part:
    files = tuple(given["files"])
    deselected = tuple(test for test in core if test.split("::")[0] in files)
    command = tuple(shlex.split(given.get("command", ""))) or _on_engines(files, deselected)
    complete = any(file.startswith(ENGINE_TESTS) for file in files)
    return Part(
        name,
        given["seconds"],
        command,
        tests=given["tests"],
        complete=complete,
        files=files,
        deselected=deselected,
        sources=tuple(given["sources"]),
    )


def _on_engines(tests: Sequence[str], deselected: Sequence[str] = ()) -> tuple[str, ...]:
    options = ["--junit-xml={report}", *(f"--deselect={test}" for test in deselected)]
    return ("make", "test-containers", f"TESTS={' '.join(tests)}", f"PYTEST_OPTIONS={' '.join(options)}")

import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ml_assets.artifacts.formats.interface import Format
from ml_assets.testing import FormatTests


class Words(Format):
    """A format of a project, which writes a directory."""

    name = "words"
    types = (frozenset,)

    def write(self, value: Any, path: Path) -> None:
        path.mkdir()
        for number, word in enumerate(sorted(value)):
            (path / str(number)).write_text(word)

    def read(self, path: Path, wanted: type) -> Any:
        return frozenset(file.read_text() for file in path.iterdir())


class TestWords(FormatTests):
    form = Words()

    def values(self) -> Sequence[Any]:
        return [frozenset({"b", "a", "ü"}), frozenset({"x"})]


class Faulty(FormatTests):
    """The suite on a format with a fault, which is not registered."""

    def __init__(self, **fault: Any) -> None:
        self.form: Any = SimpleNamespace(write=Words().write, read=Words().read)  # type: ignore[misc]
        vars(self.form).update(fault)

    def values(self) -> Sequence[Any]:
        return [frozenset({"a"})]

    def refused(self) -> Sequence[Any]:
        return [frozenset()]


def lossy(path: Path, wanted: type) -> Any:
    return {*Words().read(path, wanted)}


def unstable(value: Any, path: Path) -> None:
    path.write_text(str(random.random()))


def untidy(value: Any, path: Path) -> None:
    Words().write(value, path)
    path.with_suffix(".log").touch()


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        ({"read": lossy}, "test_values_are_read_back_equal"),
        ({"write": untidy}, "test_writing_leaves_nothing_beside_its_path"),
        ({}, "test_other_values_are_refused"),
    ],
)
def test_the_suite_finds_a_fault(fault: dict[str, Any], test: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        getattr(Faulty(**fault), test)(tmp_path)


class Unstable(Faulty):
    def __init__(self) -> None:
        super().__init__(write=unstable)


def test_the_suite_finds_bytes_that_differ(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Unstable().test_equal_values_have_equal_bytes_in_every_process(tmp_path)

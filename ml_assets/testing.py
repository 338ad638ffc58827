"""The conformance suite of formats, for pytest; projects run it on their own formats.

::

    class TestWave(ml_assets.testing.FormatTests):
        form = Wave()

        def values(self):
            return [Sound([]), Sound([0.5, -0.5])]

        def refused(self):
            return [Sound([float("nan")])]
"""

import contextlib
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from ml_assets.artifacts.formats.interface import Format, format_named, format_of
from ml_assets.resources.errors import MlAssetsError

__all__ = ["FormatTests"]

_ELSEWHERE: Final = """
import importlib, json, pathlib, sys
module, name, folder, sys.path[:] = json.loads(sys.argv[1])
tests = getattr(importlib.import_module(module), name)()
importlib.import_module("ml_assets.testing")._write(tests, pathlib.Path(folder))
"""


class FormatTests:
    """Tests of one format; a subclass names the format and gives values.

    The subclass is in a module that another process can import, because one test compares bytes across processes.
    """

    form: ClassVar[Format]
    """The format under test."""

    def values(self) -> Sequence[Any]:
        """Return values that the format stores: equal ones at each call, also in another process."""
        raise NotImplementedError

    def refused(self) -> Sequence[Any]:
        """Return values of the format's types that it refuses; by default none."""
        return ()

    def assert_equal(self, read: Any, written: Any) -> None:
        """Raise AssertionError unless a value that was read equals the one that was written, type included."""
        assert type(read) is type(written)
        assert read == written

    def test_values_are_read_back_equal(self, tmp_path: Path) -> None:
        """Each value is read back equal, as its own type and as the type that was written."""
        for number, (value, same, again) in enumerate(zip(self.values(), self.values(), self.values(), strict=True)):
            path = tmp_path / str(number)
            self.form.write(value, path)
            before = _digest(path)
            self.assert_equal(self.form.read(path, type(same)), same)
            self.assert_equal(self.form.read(path, object), again)
            assert _digest(path) == before, "reading changed the content"

    def test_writing_leaves_nothing_beside_its_path(self, tmp_path: Path) -> None:
        """A format writes at its path and nowhere beside it."""
        for number, value in enumerate(self.values()):
            self.form.write(value, tmp_path / str(number))
        assert {path.name for path in tmp_path.iterdir()} == {str(number) for number in range(len(self.values()))}

    def test_equal_values_have_equal_bytes_in_every_process(self, tmp_path: Path) -> None:
        """Bytes depend only on the value: not on the process, its hash seed, or the time."""
        here, there = tmp_path / "here", tmp_path / "there"
        here.mkdir()
        there.mkdir()
        _write(self, here)
        order = json.dumps([type(self).__module__, type(self).__qualname__, str(there), sys.path])
        done = subprocess.run([sys.executable, "-c", _ELSEWHERE, order], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert _digest(here) == _digest(there)

    def test_other_values_are_refused(self, tmp_path: Path) -> None:
        """A value that would not be read back equal is refused with one of the project's errors."""
        for number, value in enumerate(self.refused()):
            written = False
            with contextlib.suppress(MlAssetsError):
                self.form.write(value, tmp_path / str(number))
                written = True
            assert not written, f"{value!r} was not refused"

    def test_format_is_found_by_its_name_and_types(self) -> None:
        """A value finds its format, and recorded content finds it again."""
        assert type(format_named(self.form.name)) is type(self.form)
        for value in self.values():
            assert type(format_of(type(value))) is type(self.form)

    def test_description_is_metadata_of_dagster(self, tmp_path: Path) -> None:
        """A description has text as keys, and values that Dagster accepts as metadata."""
        import dagster as dg

        for number, value in enumerate(self.values()):
            path = tmp_path / str(number)
            self.form.write(value, path)
            dg.AssetMaterialization("described", metadata=dict(self.form.describe(value, path)))


def _write(tests: FormatTests, folder: Path) -> None:
    for number, value in enumerate(tests.values()):
        tests.form.write(value, folder / str(number))


def _digest(place: Path) -> str:
    """Return the digest of all files at a path, with their relative names."""
    digest = hashlib.sha256()
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    for file in files:
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(place).as_posix()} {content}\n".encode())
    return digest.hexdigest()

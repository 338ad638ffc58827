import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ml_assets.artifacts.formats.documents import Bytes, Json, Text
from ml_assets.resources.errors import InputError, SchemaError
from ml_assets.testing import FormatTests


class Size(enum.IntEnum):
    SMALL = 1


class TestJson(FormatTests):
    form = Json()

    def values(self) -> Sequence[Any]:
        return [
            {"b": [1, 2.5, None, True], "a": {"ü": "\u2028", "": {}}},
            [],
            {},
            0,
            2**80,
            -0.0,
            1e-320,
            True,
        ]

    def refused(self) -> Sequence[Any]:
        circle: list[Any] = []
        circle.append(circle)
        return [
            (1, 2),
            {1: "one"},
            [{"a": (1,)}],
            float("nan"),
            [float("inf")],
            {"a": {1}},
            Size.SMALL,
            ["\ud800"],
            circle,
        ]


class TestText(FormatTests):
    form = Text()

    def values(self) -> Sequence[Any]:
        return ["", "line\r\nline\n", "ü\x00\ufeff", "```"]

    def refused(self) -> Sequence[Any]:
        return ["\ud800"]


class TestBytes(FormatTests):
    form = Bytes()

    def values(self) -> Sequence[Any]:
        return [b"", b"\x00\xff\r\n"]


def test_json_of_equal_dictionaries_is_equal(tmp_path: Path) -> None:
    Json().write({"a": 1, "b": 2}, tmp_path / "one")
    Json().write({"b": 2, "a": 1}, tmp_path / "other")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_json_names_the_place_and_the_type(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"\$\.rows\[1\] has the type pathlib\.PosixPath.* Next: "):
        Json().write({"rows": [1, Path("x")]}, tmp_path / "x")


def test_json_is_read_as_what_it_holds(tmp_path: Path) -> None:
    Json().write(3, tmp_path / "x")
    assert isinstance(Json().read(tmp_path / "x", float), float)
    with pytest.raises(InputError, match=r"holds a value of type int, not dict\. Next: annotate the parameter as int"):
        Json().read(tmp_path / "x", dict)

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ml_assets.artifacts.formats.arrays import NumpyArray
from ml_assets.testing import FormatTests

RECORD = np.dtype([("flag", "i1"), ("number", "f8")], align=True)


class TestNumpyArray(FormatTests):
    form = NumpyArray()

    def values(self) -> Sequence[Any]:
        records = np.empty(2, RECORD)
        records["flag"], records["number"] = [1, 0], [0.5, -0.0]
        return [
            np.arange(6).reshape(2, 3).astype(kind)
            for kind in (
                "bool",
                "int8",
                ">i4",
                "uint64",
                "float16",
                "float32",
                "complex128",
                "M8[s]",
                "m8[ns]",
                "U3",
                "S2",
            )
        ] + [np.array(1.5), np.array([]), np.zeros((0, 3)), np.asfortranarray(np.eye(3)), np.eye(4)[::2, ::2], records]

    def refused(self) -> Sequence[Any]:
        masked = np.ma.masked_array([1, 2], [True, False])
        return [np.array([None]), masked, np.array([(None,)], [("a", "O")]), np.recarray(1, RECORD)]

    def assert_equal(self, read: Any, written: Any) -> None:
        assert (type(read), read.dtype, read.shape) == (np.ndarray, written.dtype, written.shape)
        np.testing.assert_array_equal(read, written, strict=True)


def test_order_in_memory_does_not_count(tmp_path: Path) -> None:
    rows = np.arange(6).reshape(2, 3)
    for name, array in (("one", rows), ("other", np.asfortranarray(rows))):
        NumpyArray().write(array, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()

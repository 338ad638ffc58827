"""The format of NumPy arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ml_assets.artifacts.formats.interface import Format, name_of
from ml_assets.resources.errors import SchemaError

__all__ = ["NumpyArray"]


class NumpyArray(Format):
    """Stores an array as NumPy's own file, in row-major order; arrays of objects are refused."""

    name = "numpy"
    types = (np.ndarray,)
    suffix = ".npy"

    def write(self, value: Any, path: Path) -> None:
        """Write an array; an array in a file (`numpy.memmap`) is read back as an ordinary one."""
        if type(value) not in (np.ndarray, np.memmap):
            raise SchemaError(
                f"{name_of(type(value))} would be read back as numpy.ndarray", next_step="return numpy.asarray(value)"
            )
        if value.dtype.hasobject or value.dtype.kind == "T" or value.dtype.metadata:
            raise SchemaError(
                f"NumPy's files do not hold arrays of the type {value.dtype!r}",
                next_step="convert it to numbers or to text of a fixed length",
            )
        array = np.ascontiguousarray(value).reshape(value.shape)
        if array.dtype.names:
            array = _without_gaps(array)
        with path.open("wb") as file:
            np.save(file, array, allow_pickle=False)

    def read(self, path: Path, wanted: type) -> Any:
        """Return the array."""
        with path.open("rb") as file:
            return np.load(file, allow_pickle=False)

    def describe(self, value: Any, path: Path) -> Mapping[str, Any]:
        """Return shape and type."""
        return {"shape": str(value.shape), "type": str(value.dtype)}


def _without_gaps(array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Return a copy of records whose unused bytes are zero; otherwise they are whatever was in memory."""
    copy = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names or ():
        copy[name] = array[name]
    return copy

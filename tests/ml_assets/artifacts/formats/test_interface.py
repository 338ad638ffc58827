from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from ml_assets.artifacts.formats import interface
from ml_assets.artifacts.formats.interface import Format
from ml_assets.resources.errors import DefinitionError


def test_formats_that_collide_are_refused() -> None:
    with pytest.raises(DefinitionError, match=r"Again and .*Json have the same name 'json'"):

        class Again(Format):
            name = "json"
            types = ()

            def write(self, value: Any, path: Path) -> None: ...

            def read(self, path: Path, wanted: type) -> Any: ...

    with pytest.raises(DefinitionError, match=r"Frames and .*Parquet both store polars\.DataFrame.* Next: .* format="):

        class Frames(Format):
            name = "frames"
            types: ClassVar[tuple[type | str, ...]] = ("polars.DataFrame",)

            def write(self, value: Any, path: Path) -> None: ...

            def read(self, path: Path, wanted: type) -> Any: ...

    assert {each.name for each in interface.all_formats()} >= {"parquet", "numpy", "json", "text", "bytes"}
    assert interface.format_named("frames") is None


@pytest.mark.parametrize("name", ["", "file", "model"])
def test_names_with_another_meaning_are_refused(name: str) -> None:
    with pytest.raises(DefinitionError, match=f"cannot have the name '{name}'"):
        type("Named", (Format,), {"name": name, "types": (), "write": print, "read": print})


def test_a_format_is_found_by_the_nearest_type() -> None:
    class Frame(pd.DataFrame):
        pass

    names = {
        kind: found.name if (found := interface.format_of(kind)) else None
        for kind in (Frame, np.ndarray, bool, set, object)
    }
    assert names == {Frame: "parquet", np.ndarray: "numpy", bool: "json", set: None, object: None}
    assert interface.format_of(object, or_subclass=True) is not None

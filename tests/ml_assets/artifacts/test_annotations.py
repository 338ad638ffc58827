from typing import Annotated, Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from ml_assets.artifacts.annotations import hints_of, with_generic_types


def function(
    array: NDArray[np.float64], words: frozenset[str], counts: dict[str, int], alerts: dg.ResourceParam[list[str]]
) -> NDArray[np.int64]:
    raise NotImplementedError


def kinds(options: dict[str, Any]) -> dict[str, type]:
    return {name: each.dagster_type for name, each in options["ins"].items()}


def test_generic_classes_are_types_without_their_arguments() -> None:
    options = with_generic_types(function, {"ins": {"words": dg.AssetIn("other")}, "group_name": "group"})
    assert kinds(options) == {"array": np.ndarray, "words": frozenset}
    assert options["ins"]["words"].key == dg.AssetKey("other")
    assert options["dagster_type"] is np.ndarray
    assert options["group_name"] == "group"


def test_a_type_that_the_author_gives_stays() -> None:
    assert with_generic_types(function, {"dagster_type": dg.Any})["dagster_type"] is dg.Any


def test_annotations_that_dagster_accepts_stay() -> None:
    def plain(counts: dict[str, int], maybe: list[int] | None, raw: Annotated[int, "raw"]) -> dg.Output[list[str]]:
        raise NotImplementedError

    assert with_generic_types(plain, {}) == {}


def test_names_for_type_checkers_are_no_error() -> None:
    def later() -> "Unknown": ...  # type: ignore[name-defined]  # noqa: F821

    assert hints_of(later) == {}

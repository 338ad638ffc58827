import collections
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from ml_assets.artifacts.formats import interface
from ml_assets.datasets import dataset
from ml_assets.features import feature_set
from ml_assets.resources.errors import DefinitionError, InputError
from ml_assets.resources.provenance import record_of
from tests.ml_assets.test_testing import Words


class Scores(TypedDict):
    auc: float


def returning(annotation: Any, **options: Any) -> dg.AssetsDefinition:
    def made(): ...  # type: ignore[no-untyped-def]

    made.__annotations__["return"] = annotation
    return dataset(**options)(made)


@pytest.mark.parametrize(
    ("annotation", "named"),
    [
        (set, "set"),
        (tuple[int, str], "tuple"),
        (pd.Series, "pandas.core.series.Series"),
        (datetime.date, "datetime.date"),
        (collections.Counter[str] | set[int], "set"),
        (pd.DataFrame | datetime.date, "datetime.date"),
        (dict[str, pd.DataFrame], "pandas.core.frame.DataFrame"),
        (list[list[datetime.date] | None], "datetime.date"),
        (Annotated[bytearray, "raw"], "bytearray"),
        (dg.MaterializeResult[set[int]], "set"),
        (dg.Output[np.float64 | set[int]], "set"),
    ],
)
def test_a_type_that_no_format_stores_is_refused_when_it_is_defined(annotation: Any, named: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        returning(annotation)
    assert f"made: the function is annotated to return {named}, which no format stores" in str(refused.value)
    assert "pandas.core.frame.DataFrame, polars.DataFrame" in str(refused.value)
    assert "a subclass of ml_assets.Format" in refused.value.next_step


@pytest.mark.parametrize(
    "annotation",
    [
        pd.DataFrame,
        pd.DataFrame | None,
        pa.Table,
        pa.RecordBatchReader | None,
        NDArray[np.float64],
        np.ndarray,
        dict[str, list[float | None]],
        Mapping[str, int],
        Sequence[str],
        Scores,
        str,
        bytes,
        bool,
        Path,
        Any,
        object,
        frozenset[str],
        dg.MaterializeResult,
        dg.MaterializeResult[pd.DataFrame],
        dg.Output[dict[str, Any]],
    ],
)
def test_a_type_that_a_format_stores_is_accepted(annotation: Any) -> None:
    returning(annotation)


def test_a_format_that_is_given_decides_alone() -> None:
    returning(set, format=Words())


TABLE = pa.table({"n": [1, 2, 3]})


@dataset()
def streamed() -> pa.RecordBatchReader:
    return TABLE.to_reader()


@feature_set()
def framed(streamed: pd.DataFrame) -> pd.DataFrame:
    return streamed * 2


@feature_set()
def array(framed: pa.Table) -> NDArray[np.int64]:
    return np.asarray(framed["n"])


@feature_set()
def scores(array: NDArray[np.int64]) -> dict[str, list[int]]:
    return {"scores": array.tolist()}


@feature_set()
def text(scores: dict[str, list[int]]) -> str:
    return " ".join(map(str, scores["scores"]))


@feature_set()
def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


@feature_set()
def raw(words: frozenset[str], text: Path, scores: dict) -> bytes:  # type: ignore[type-arg]
    return f"{sorted(words)} {text.read_text()} {scores}".encode()


CHAIN = [streamed, framed, array, scores, text, words, raw]


def test_values_of_every_kind_pass_through_a_pipeline(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    result = dg.materialize(CHAIN, instance=instance, resources=resources)
    assert result.output_for_node("raw") == b"['2', '4', '6'] 2 4 6 {'scores': [2, 4, 6]}"
    records = {}
    for asset in CHAIN:
        (event,) = result.asset_materializations_for_node(asset.op.name)
        records[asset.op.name] = record_of(event.metadata).content
        if asset in (streamed, framed):
            assert event.metadata["dagster/row_count"].value == 3
            assert [column.name for column in event.metadata["dagster/column_schema"].value.columns] == ["n"]
    assert {name: content and content.format for name, content in records.items()} == {
        "streamed": "parquet",
        "framed": "parquet",
        "array": "numpy",
        "scores": "json",
        "text": "text",
        "words": "words",
        "raw": "bytes",
    }
    assert records["streamed"] is not None
    assert records["streamed"].rows == 3
    assert records["words"] is not None
    assert records["words"].version.endswith(".dir")
    definitions = dg.Definitions(assets=CHAIN, resources=resources)
    loaded = definitions.load_asset_value(dg.AssetKey("streamed"), instance=instance)
    assert loaded.read_all().equals(TABLE)


def test_content_of_an_unknown_format_says_what_to_import(
    resources: dict[str, Any], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataset()
    def vocabulary() -> frozenset[str]:
        return frozenset({"a"})

    @feature_set()
    def longest(vocabulary: frozenset[str]) -> str:
        return max(vocabulary)

    dg.materialize([vocabulary], instance=instance, resources=resources)
    monkeypatch.delitem(interface._formats, "words")
    with pytest.raises(InputError, match=r"format 'words'.* Next: import the module that defines the format"):
        dg.materialize([vocabulary, longest], selection=[longest], instance=instance, resources=resources)

"""The public surface as a type checker sees it. `make check` checks this file with mypy; nothing runs it."""

from pathlib import Path
from typing import assert_type

import dagster as dg
import pandas as pd

import ml_assets as ml

image = ml.container_image("train", dockerfile="Dockerfile.train", sources=("src",))


@ml.dataset(image=image)
def numbers() -> pd.DataFrame:
    raise NotImplementedError


@ml.feature_set(pool="cpu")
def squares(numbers: pd.DataFrame) -> pd.DataFrame:
    raise NotImplementedError


class Words(ml.Format):
    name = "words"
    types = (frozenset,)

    def write(self, value: frozenset[str], path: Path) -> None:
        raise NotImplementedError

    def read(self, path: Path, wanted: type) -> frozenset[str]:
        raise NotImplementedError


@ml.dataset(format=Words())
def words() -> frozenset[str]:
    raise NotImplementedError


@ml.model(registered_name="line")
def line(squares: pd.DataFrame) -> ml.TrainedModel:
    raise NotImplementedError


@ml.dataset
def bare() -> pd.DataFrame:
    raise NotImplementedError


@ml.model
def bare_model(squares: pd.DataFrame) -> ml.TrainedModel:
    raise NotImplementedError


@ml.multi_asset(outs={"rows": ml.dataset(), "fit": ml.model(registered_name="fit")})
def both(squares: pd.DataFrame) -> tuple[pd.DataFrame, ml.TrainedModel]:
    raise NotImplementedError


def plain_function() -> pd.DataFrame:
    raise NotImplementedError


@ml.runs_in(image=image)
@dg.asset
def plain() -> None: ...


class SalesSettings(ml.Section, table="sales"):
    days: int = 7


tracked = ml.tracked_dataset("raw", repository=Path(), dvc_file="raw.dvc")
target = ml.Target.from_environment(SalesSettings)

assert_type(image, dg.AssetsDefinition)
assert_type(numbers, dg.AssetsDefinition)
assert_type(squares, dg.AssetsDefinition)
assert_type(words, dg.AssetsDefinition)
assert_type(line, dg.AssetsDefinition)
assert_type(bare, dg.AssetsDefinition)
assert_type(bare_model, dg.AssetsDefinition)
assert_type(both, dg.AssetsDefinition)
assert_type(ml.feature_set(plain_function, pool="cpu"), dg.AssetsDefinition)
assert_type(plain, dg.AssetsDefinition)
assert_type(tracked, dg.AssetsDefinition)
assert_type(target.section(SalesSettings), SalesSettings)
assert_type(target.section(SalesSettings).days, int)
assert_type(ml.on_target(dg.Definitions(assets=[numbers])), dg.Definitions)
assert_type(ml.on_target(dg.Definitions(), without=["executor"]), dg.Definitions)
assert_type(ml.Model(function=plain_function).declared(), dg.AssetsDefinition)
assert_type(target.lineage, ml.Lineage)
assert_type(target.instance, dg.DagsterInstance)

# An unneeded ignore is itself an error, so these lines prove that mypy detects names that do not exist.
ml.datset  # type: ignore[attr-defined]  # noqa: B018
ml.container_image("train")  # type: ignore[call-arg]

"""Assets for tests of ``why``; a test changes their values and definitions."""

import dagster as dg
import pandas as pd

from ml_assets.artifacts.io_manager import STORAGE_KEY
from ml_assets.datasets import dataset
from ml_assets.features import feature_set
from ml_assets.images import container_image

MONTHS = dg.StaticPartitionsDefinition(["1", "2", "3"])
STATE = {"value": 1, "fails": 0}

train = container_image("train", dockerfile="Dockerfile.train", sources=["resources"])


@dataset(image=train, partitions_def=MONTHS)
def flights(context: dg.AssetExecutionContext) -> pd.DataFrame:
    return pd.DataFrame({"value": [STATE["value"]], "month": [context.partition_key]})


@feature_set(image=train, partitions_def=MONTHS)
def departures(flights: pd.DataFrame) -> pd.DataFrame:
    if STATE["fails"]:
        raise ValueError("no such month\nand more")
    return flights.assign(twice=flights["value"] * 2)


@feature_set()
def whole_year(departures: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(departures.values())


@dg.asset
def foreign() -> None:
    """Do nothing; no factory made this asset."""


ASSETS = [train, flights, departures, whole_year, foreign]
UNUSED = {STORAGE_KEY: dg.mem_io_manager}
"""Nothing is materialized with these definitions, but they must be complete."""

definitions = dg.Definitions(assets=ASSETS, resources=UNUSED)

"""A code location with two image assets, and steps that run in one or the other."""

import dagster as dg
import pandas as pd

from ml_assets.datasets import dataset
from ml_assets.features import feature_set
from ml_assets.images import container_image
from ml_assets.target import on_target

SOURCES = ("tests",)

left_image = container_image("left", dockerfile="Dockerfile.left", sources=SOURCES, bases={"BASE_IMAGE": "train"})
right_image = container_image("right", dockerfile="Dockerfile.right", sources=SOURCES, bases={"BASE_IMAGE": "train"})


@dataset(image=left_image, pool="cpu")
def numbers() -> pd.DataFrame:
    """Return some numbers."""
    print("these are numbers")
    return pd.DataFrame({"number": [1, 2, 3]})


@feature_set(image=left_image, pool="cpu")
def doubled(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return twice the numbers."""
    return numbers * 2


@dataset(image=right_image, pool="cpu")
def letters(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return as many letters as there are numbers, in the other image."""
    return pd.DataFrame({"letter": list("abc")[: len(numbers)]})


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions above on the target that the environment selects."""
    return on_target(dg.Definitions(assets=[left_image, right_image, numbers, doubled, letters]))

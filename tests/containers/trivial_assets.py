"""A code location with two assets whose steps run inside the run worker, for tests of deployments."""

import sys

import dagster as dg
import pandas as pd

from ml_assets.datasets import dataset
from ml_assets.target import Target


@dataset()
def numbers() -> pd.DataFrame:
    """Return three numbers."""
    print("numbers are made")
    print("and something goes wrong a little", file=sys.stderr)
    return pd.DataFrame({"number": [1, 2, 3]})


@dg.asset
def failing() -> None:
    """Fail."""
    raise RuntimeError("as it was meant to")


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(
        assets=[numbers, failing], resources=Target.from_environment().resources, executor=dg.in_process_executor
    )

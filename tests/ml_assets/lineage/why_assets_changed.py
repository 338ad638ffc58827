"""A changed asset of `why_assets`: its function was edited and calls another one."""

import pandas as pd

from ml_assets.features import feature_set
from tests.ml_assets.lineage.why_assets import MONTHS, train


@feature_set(image=train, partitions_def=MONTHS)
def departures(flights: pd.DataFrame) -> pd.DataFrame:
    return added(flights)


def added(flights: pd.DataFrame) -> pd.DataFrame:
    return flights.assign(three_times=flights["value"] * 3)

"""Real months of the package's year, read once."""

import pandas as pd
import pytest

from ml_assets.flight_delays.features import departure_features
from ml_assets.flight_delays.source import read_flights, read_weather


@pytest.fixture(scope="session")
def january() -> pd.DataFrame:
    return departure_features(read_flights("2013-01"), read_weather("2013-01"))


@pytest.fixture(scope="session")
def february() -> pd.DataFrame:
    return departure_features(read_flights("2013-02"), read_weather("2013-02"))


@pytest.fixture(scope="session")
def both(january: pd.DataFrame, february: pd.DataFrame) -> pd.DataFrame:
    """Both months, in the form of a window of two months."""
    return pd.concat([january, february], ignore_index=True)

"""Features of departures contain nothing from after the moment of prediction."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.flight_delays.features import (
    HORIZON,
    IDENTITY,
    PATIENCE,
    RECENT,
    RECENT_FEATURES,
    TARGET,
    WEATHER_FEATURES,
    departure_features,
)
from ml_assets.flight_delays.source import read_flights, read_weather

HOUR = pd.Timedelta(hours=1)


def days(frame: pd.DataFrame, first: int, last: int) -> pd.DataFrame:
    return frame[frame["day"].between(first, last)].reset_index(drop=True)


# The week of the clock change.
FLIGHTS = days(read_flights("2013-03"), 7, 12)
WEATHER = days(read_weather("2013-03"), 7, 12)
DEPARTURES = departure_features(FLIGHTS, WEATHER)
FEATURES = [column for column in DEPARTURES.columns if column != TARGET]
OUTCOMES = ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"]


def scheduled(flights: pd.DataFrame) -> pd.Series:
    return flights["time_hour"] + pd.to_timedelta(flights["minute"], unit="min")


def left(flights: pd.DataFrame) -> pd.Series:
    minutes = pd.to_timedelta(flights["dep_delay"].fillna(0).astype("int64"), unit="min")
    return scheduled(flights) + minutes.where(flights["dep_delay"].notna())


def row(departures: pd.DataFrame, flight: pd.Series) -> pd.Series:
    found = departures[(departures[IDENTITY] == flight[IDENTITY]).all(axis=1)]
    assert len(found) == 1
    return found.iloc[0]


def altered(moment: pd.Timestamp, flight: pd.Series, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return flights and weather that differ after the moment; only the flight's own schedule is unchanged."""
    random = np.random.default_rng(seed)
    flights, weather = FLIGHTS.copy(), WEATHER.copy()
    itself = (scheduled(flights) == flight["scheduled_departure"]) & (
        flights[["carrier", "flight", "origin", "dest"]] == flight[["carrier", "flight", "origin", "dest"]]
    ).all(axis=1)
    assert itself.sum() == 1
    # Unknown outcomes are replaced by others that happen after the moment; some flights are cancelled.
    unknown = ~(left(flights) <= moment)
    waited = np.ceil((moment - scheduled(flights)) / pd.Timedelta(minutes=1)).clip(lower=-60)
    other = waited + random.integers(1, 500, len(flights))
    flights.loc[unknown, OUTCOMES] = random.normal(size=(unknown.sum(), len(OUTCOMES)))
    flights.loc[unknown, "dep_delay"] = other.where(random.random(len(flights)) < 0.8)[unknown]
    # Flights scheduled later are replaced by others, and some are removed.
    later = unknown & (scheduled(flights) > moment) & ~itself
    for column in ("carrier", "flight", "origin", "dest", "tailnum", "distance"):
        flights.loc[later, column] = random.permutation(flights.loc[later, column].to_numpy())
    flights = flights[~(later & (random.random(len(flights)) < 0.3))]
    unobserved = weather["time_hour"] + HOUR > moment
    weather.loc[unobserved, WEATHER_FEATURES] = random.normal(50, 50, (unobserved.sum(), len(WEATHER_FEATURES)))
    weather = weather[~(unobserved & (random.random(len(weather)) < 0.3))]
    return flights.sample(frac=1, random_state=seed), weather.sample(frac=1, random_state=seed)


@settings(max_examples=40, deadline=None)
@given(index=st.integers(0, len(DEPARTURES) - 1), seed=st.integers(0, 2**32 - 1))
def test_features_are_the_same_whatever_comes_after_the_moment_of_prediction(index: int, seed: int) -> None:
    flight = DEPARTURES.iloc[index]
    flights, weather = altered(flight["moment"], flight, seed)
    again = row(departure_features(flights, weather), flight)
    pd.testing.assert_series_equal(again[FEATURES], flight[FEATURES], check_names=False, check_exact=True)


@pytest.mark.parametrize("changed", RECENT_FEATURES)
def test_features_change_with_what_came_before_the_moment(changed: str) -> None:
    """The counterpart of the test above: earlier rows do matter, up to the last minute."""
    flight = DEPARTURES[(DEPARTURES["carrier_departures"] > 3) & (DEPARTURES["carrier_waiting"] > 1)].iloc[0]
    moment, flights = flight["moment"], FLIGHTS.copy()
    mine = (flights["origin"] == flight["origin"]) & (flights["carrier"] == flight["carrier"])
    known = mine & (left(flights) <= moment) & (left(flights) > moment - RECENT)
    waiting = mine & (scheduled(flights) <= moment) & ~(left(flights) <= moment)
    if changed.endswith("waiting"):
        flights.loc[waiting & (scheduled(flights) > moment - PATIENCE), "dep_delay"] = 0.0
    elif changed.endswith("departures"):
        flights = flights[~known]
    else:
        flights.loc[known, "dep_delay"] -= 1.0
    assert row(departure_features(flights, WEATHER), flight)[changed] != flight[changed]


@pytest.mark.parametrize("group", [["origin"], ["origin", "carrier"]])
def test_recent_flights_are_what_counting_one_by_one_gives(group: list[str]) -> None:
    for _, flight in DEPARTURES.sample(40, random_state=1).iterrows():
        moment, name = flight["moment"], group[-1]
        flights = FLIGHTS[(FLIGHTS[group] == flight[group]).all(axis=1)]
        recent = flights[(left(flights) <= moment) & (left(flights) > moment - RECENT)]
        due = (scheduled(flights) <= moment) & (scheduled(flights) > moment - PATIENCE)
        assert flight[f"{name}_departures"] == len(recent)
        assert flight[f"{name}_waiting"] == (due & ~(left(flights) <= moment)).sum()
        assert flight[f"{name}_delay"] == pytest.approx(recent["dep_delay"].mean(), nan_ok=True)


def test_weather_is_that_of_the_last_hour_that_had_ended() -> None:
    weather = WEATHER.set_index(["origin", "time_hour"])["temp"]
    for _, flight in DEPARTURES[DEPARTURES["temp"].notna()].sample(40, random_state=1).iterrows():
        assert flight["temp"] == weather[flight["origin"], flight["moment"].floor("h") - HOUR]


def test_weather_that_is_too_old_is_missing() -> None:
    day = DEPARTURES["scheduled_departure"].dt.tz_convert("America/New_York").dt.day
    features = departure_features(FLIGHTS, days(WEATHER, 7, 9))
    assert features.loc[day == 12, WEATHER_FEATURES].isna().all(axis=None)
    assert features.loc[day == 9, "temp"].notna().any()


def test_impossible_wind_is_missing() -> None:
    """In the early hours of 12 February, Newark's station reported 1048 mph."""
    weather = days(read_weather("2013-02"), 11, 12)
    assert weather["wind_speed"].max() > 1000
    assert departure_features(days(read_flights("2013-02"), 11, 12), weather)["wind_speed"].max() < 100


def test_moment_of_prediction_is_two_hours_of_real_time_before_the_schedule_when_the_clock_changes() -> None:
    flight = FLIGHTS.head(1).assign(time_hour=pd.Timestamp("2013-03-10 07:00", tz="UTC"), minute=30)
    found = departure_features(flight, WEATHER).iloc[0]
    assert found["scheduled_departure"] - found["moment"] == HORIZON
    assert found["moment"].tz_convert("America/New_York").isoformat() == "2013-03-10T00:30:00-05:00"
    assert found["minute_of_day"] == 3 * 60 + 30
    assert found["day_of_week"] == 6


def test_cancelled_flights_have_features_and_no_outcome() -> None:
    cancelled = FLIGHTS["dep_delay"].isna().sum()
    assert cancelled > 0
    assert len(DEPARTURES) == len(FLIGHTS)
    assert DEPARTURES[TARGET].isna().sum() == cancelled
    assert DEPARTURES.loc[DEPARTURES[TARGET].isna(), "temp"].notna().all()


def test_order_of_the_inputs_does_not_matter() -> None:
    again = departure_features(FLIGHTS.sample(frac=1, random_state=3), WEATHER.sample(frac=1, random_state=3))
    pd.testing.assert_frame_equal(again, DEPARTURES, check_exact=True)

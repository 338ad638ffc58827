"""Schemas accept the real months and describe the errors in others."""

import pandas as pd
import pytest

from ml_assets.flight_delays.schemas import Violation, departures_schema, flights_schema, violations, weather_schema
from ml_assets.flight_delays.source import read_flights, read_weather

FLIGHTS = read_flights("2013-01")
TOTAL = len(FLIGHTS)


def test_real_months_are_as_promised(january: pd.DataFrame) -> None:
    assert violations(FLIGHTS, flights_schema()) == []
    assert violations(read_weather("2013-01"), weather_schema()) == []
    assert violations(january, departures_schema()) == []


def test_impossible_reading_of_february_is_found() -> None:
    (found,) = violations(read_weather("2013-02"), weather_schema())
    assert found.message == "wind_speed: 1 of 2,010 rows break the rule in_range(0, 150), for example 1048.36058"
    assert found.share == pytest.approx(1 / 2010)


def test_missing_column_is_named() -> None:
    assert violations(FLIGHTS.drop(columns="dest"), flights_schema()) == [Violation("the column dest is missing", 1.0)]


def test_wrong_type_is_named() -> None:
    (found,) = violations(FLIGHTS.astype({"distance": "float64"}), flights_schema())
    assert found == Violation("distance has the type float64 instead of dtype('int64')", 1.0)


def test_change_of_unit_is_found_in_the_values() -> None:
    (found,) = violations(FLIGHTS.assign(dep_delay=FLIGHTS["dep_delay"] * 60), flights_schema())
    assert found.message.startswith("dep_delay: ")
    assert found.share > 0.3


def test_repeated_flights_are_counted() -> None:
    found = violations(pd.concat([FLIGHTS, FLIGHTS.head(2)]), flights_schema())
    assert [violation.message for violation in found] == [f"4 of {TOTAL + 2:,} rows are duplicates"]


def test_prediction_after_departure_is_one_violation(january: pd.DataFrame) -> None:
    late = january.assign(moment=january["scheduled_departure"])
    assert violations(late, departures_schema()) == [
        Violation(f"{TOTAL:,} of {TOTAL:,} rows break the rule: moment before departure", 1.0)
    ]


def test_every_broken_rule_is_listed() -> None:
    broken = FLIGHTS.assign(origin="BOS", flight=-1).drop(columns="minute")
    messages = [violation.message for violation in violations(broken, flights_schema())]
    for part in ("the column minute is missing", "origin: 27,004 of", "flight: 27,004 of"):
        assert any(message.startswith(part) for message in messages), messages

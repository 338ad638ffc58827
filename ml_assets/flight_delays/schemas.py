"""Pandera schemas of flights, weather and departures, and readable descriptions of their violations.

Column names alone are not enough, because a changed unit or a shifted hour is visible only in the values. The bounds
are generous, so that a value outside them is wrong and not merely rare.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from ml_assets.flight_delays.features import IDENTITY, RECENT_FEATURES, TARGET, WEATHER_FEATURES
from ml_assets.flight_delays.training import ORIGINS

if TYPE_CHECKING:
    from pandera.pandas import Column, DataFrameSchema

__all__ = ["Violation", "departures_schema", "flights_schema", "violations", "weather_schema"]

_WEATHER_BOUNDS = {
    "temp": (-40, 120),
    "dewp": (-60, 100),
    "humid": (0, 100),
    "wind_dir": (0, 360),
    "wind_speed": (0, 150),
    "wind_gust": (0, 150),
    "precip": (0, 6),
    "pressure": (940, 1060),
    "visib": (0, 10),
}
_DELAY = (-120, 48 * 60)


@dataclass(frozen=True)
class Violation:
    """One rule that a frame breaks."""

    message: str
    share: float
    """Share of the rows that break it; 1 if the whole column does."""


def flights_schema() -> "DataFrameSchema":
    """Return the schema of flights: one row per scheduled flight of a day; outcomes may be missing."""
    import pandera.pandas as pa

    return pa.DataFrameSchema(
        {
            "month": pa.Column("int64", pa.Check.in_range(1, 12)),
            "day": pa.Column("int64", pa.Check.in_range(1, 31)),
            "hour": pa.Column("int64", pa.Check.in_range(0, 23)),
            "minute": pa.Column("int64", pa.Check.in_range(0, 59)),
            "time_hour": pa.Column("datetime64[ns, UTC]"),
            "carrier": pa.Column("object", pa.Check.str_matches(r"^[A-Z0-9]{2}$")),
            "flight": pa.Column("int64", pa.Check.gt(0)),
            "origin": pa.Column("object", pa.Check.isin(ORIGINS)),
            "dest": pa.Column("object", pa.Check.str_matches(r"^[A-Z]{3}$")),
            "distance": pa.Column("int64", pa.Check.in_range(1, 6000)),
            "dep_delay": pa.Column("float64", pa.Check.in_range(*_DELAY), nullable=True),
            "arr_delay": pa.Column("float64", pa.Check.in_range(*_DELAY), nullable=True),
        },
        unique=["year", "month", "day", "carrier", "flight", "origin"],
    )


def weather_schema() -> "DataFrameSchema":
    """Return the schema of the weather: one row per airport and hour; any reading may be missing."""
    import pandera.pandas as pa

    return pa.DataFrameSchema(
        {
            "origin": pa.Column("object", pa.Check.isin(ORIGINS)),
            "time_hour": pa.Column("datetime64[ns, UTC]"),
            **_readings(),
        },
        unique=["origin", "time_hour"],
    )


def departures_schema() -> "DataFrameSchema":
    """Return the schema of departures: one row per scheduled flight; features without source data are missing."""
    import pandera.pandas as pa

    return pa.DataFrameSchema(
        {
            "scheduled_departure": pa.Column("datetime64[ns, UTC]"),
            "moment": pa.Column("datetime64[ns, UTC]"),
            "origin": pa.Column("object", pa.Check.isin(ORIGINS)),
            "minute_of_day": pa.Column("int32", pa.Check.in_range(0, 1439)),
            "day_of_week": pa.Column("int32", pa.Check.in_range(0, 6)),
            **_readings(),
            **{
                name: pa.Column("float64", pa.Check.in_range(*_DELAY), nullable=True)
                if name.endswith("_delay")
                else pa.Column("float64", pa.Check.ge(0))
                for name in [*RECENT_FEATURES, TARGET]
            },
        },
        checks=pa.Check(lambda rows: rows["moment"] < rows["scheduled_departure"], name="moment before departure"),
        unique=IDENTITY,
    )


def violations(frame: pd.DataFrame, schema: "DataFrameSchema") -> list[Violation]:
    """Return a frame's violations of its schema: one per column and rule, with the number of rows and an example."""
    from pandera.errors import SchemaErrors

    try:
        schema.validate(frame.reset_index(drop=True), lazy=True)
    except SchemaErrors as error:
        return _grouped(error.failure_cases, len(frame))
    return []


def _readings() -> "Mapping[str, Column]":
    import pandera.pandas as pa

    return {
        name: pa.Column("float64", pa.Check.in_range(*_WEATHER_BOUNDS[name]), nullable=True)
        for name in WEATHER_FEATURES
    }


def _grouped(cases: pd.DataFrame, total: int) -> list[Violation]:
    # A rule about whole rows is reported once for each column that it reads.
    whole_rows = cases["schema_context"] == "DataFrameSchema"
    grouped = cases.assign(column=cases["column"].mask(whole_rows, "")).groupby(["column", "check"], sort=False)
    return [_violation(str(column), str(check), found, total) for (column, check), found in grouped]


def _violation(column: str, check: str, cases: pd.DataFrame, total: int) -> Violation:
    example = cases["failure_case"].iloc[0]
    if check == "column_in_dataframe":
        return Violation(f"the column {example} is missing", 1.0)
    if check.startswith("dtype("):
        return Violation(f"{column} has the type {example} instead of {check}", 1.0)
    count = cases["index"].nunique()
    rows = f"{count:,} of {total:,} rows"
    if check == "multiple_fields_uniqueness":
        message = f"{rows} are duplicates"
    elif not column:
        message = f"{rows} break the rule: {check}"
    else:
        message = f"{column}: {rows} break the rule {check}, for example {example}"
    return Violation(message, count / total)

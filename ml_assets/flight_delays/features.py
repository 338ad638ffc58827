"""Features of a departure that are known two hours before its schedule.

**Moment of prediction**: the scheduled departure minus `HORIZON`. Every feature uses only data that was recorded at
that moment, by these rules:

- The flight itself: its schedule (time, carrier, route). The tail number is excluded, because it is that of the
  aircraft that finally flew, and is missing for many cancelled flights.
- The weather: the last hour at the origin that had *ended*. A row of the weather may have been observed late in its
  hour (stations report at minute 51), so it is known only when the hour is over.
- Other flights: a delay is known only after that flight has *actually* left. A flight that has not left counts as
  waiting. A cancelled flight counts as waiting too, because the time of the cancellation is not recorded.

The features of a month depend on no other month, so each month can be computed alone. The first flights of a month have
no earlier flights, so their features of other flights are missing or zero, almost as on any early morning.
"""

import numpy as np
import pandas as pd

__all__ = ["HORIZON", "IDENTITY", "RECENT_FEATURES", "TARGET", "WEATHER_FEATURES", "departure_features"]

HORIZON = pd.Timedelta(hours=2)
"""Time between the prediction and the scheduled departure."""

TARGET = "dep_delay"
"""Minutes between schedule and departure; negative if early, missing if the flight was cancelled."""

IDENTITY = ["scheduled_departure", "carrier", "flight", "origin", "dest"]
"""Columns that identify a flight; each flight has one row."""

WEATHER_FEATURES = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
"""Columns of the weather, in its units."""

RECENT_FEATURES = [
    "origin_departures",
    "origin_delay",
    "carrier_departures",
    "carrier_delay",
    "origin_waiting",
    "carrier_waiting",
]
"""For the same origin, and for the same carrier there: number and mean delay (minutes) of the departures during
`RECENT`, and number of flights past their schedule that have not left."""

RECENT = pd.Timedelta(hours=3)
"""Time during which departures count as recent."""

PATIENCE = pd.Timedelta(hours=4)
"""Time after its schedule during which a flight counts as waiting. After that it is assumed to be cancelled."""

OBSERVATION_AGE = pd.Timedelta(hours=6)
"""Weather older than this is missing."""

STRONGEST_WIND = 150.0
"""Limit in mph. The data contains one impossible value (1048 mph). Values above the limit count as missing."""

NEW_YORK = "America/New_York"


def departure_features(flights: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """Return one row per scheduled flight: its identity, moment of prediction, features and, last, its outcome.

    Args:
        flights: as `source.read_flights` returns them, cancelled flights included.
        weather: as `source.read_weather` returns it, for the same month.

    Returns:
        In the order of the schedule: `IDENTITY`, ``moment``, ``minute_of_day`` and ``day_of_week`` (local; Monday is
        0), ``distance`` (miles), `WEATHER_FEATURES`, `RECENT_FEATURES` and `TARGET`.
    """
    scheduled = flights["time_hour"] + _minutes(flights["minute"])
    frame = flights[["carrier", "flight", "origin", "dest", "distance", TARGET]].assign(
        scheduled_departure=scheduled, moment=scheduled - HORIZON, **_calendar(scheduled)
    )
    frame = frame.sort_values(IDENTITY, kind="stable", ignore_index=True)
    frame = frame.assign(
        **_last_weather(frame, weather), **_recent(frame, ["origin"]), **_recent(frame, ["origin", "carrier"])
    )
    return frame[
        [*IDENTITY, "moment", "minute_of_day", "day_of_week", "distance", *WEATHER_FEATURES, *RECENT_FEATURES, TARGET]
    ]


def _calendar(scheduled: pd.Series) -> dict[str, pd.Series]:
    local = scheduled.dt.tz_convert(NEW_YORK)
    return {"minute_of_day": local.dt.hour * 60 + local.dt.minute, "day_of_week": local.dt.dayofweek}


def _last_weather(frame: pd.DataFrame, weather: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the last ended hour of weather at each moment, in the order of ``frame``."""
    known = weather.assign(known_at=weather["time_hour"] + pd.Timedelta(hours=1)).sort_values("known_at", kind="stable")
    for wind in ("wind_speed", "wind_gust"):
        known[wind] = known[wind].where(known[wind] <= STRONGEST_WIND)
    joined = pd.merge_asof(
        frame[["moment", "origin"]],
        known[["known_at", "origin", *WEATHER_FEATURES]],
        left_on="moment",
        right_on="known_at",
        by="origin",
        tolerance=OBSERVATION_AGE,
    )
    return {name: joined[name].to_numpy() for name in WEATHER_FEATURES}


def _recent(frame: pd.DataFrame, group: list[str]) -> dict[str, np.ndarray]:
    """Return departures, mean delay and waiting flights within ``group`` at each moment, in the order of ``frame``."""
    now, then = frame["moment"], frame["moment"] - RECENT
    flown = frame[frame[TARGET].notna()]
    left = _events(flown, group, flown["scheduled_departure"] + _minutes(flown[TARGET]), flown[TARGET])
    count, delay = (_totals(left, frame, now, group) - _totals(left, frame, then, group)).T
    # A flight waits from its schedule until it leaves or PATIENCE ends. The number of waiting flights is starts minus
    # ends.
    waited = _minutes(frame[TARGET]).fillna(PATIENCE).where(lambda wait: wait < PATIENCE, PATIENCE)
    waited = waited.where(waited > pd.Timedelta(0), pd.Timedelta(0))
    starts = _events(frame, group, frame["scheduled_departure"])
    ends = _events(frame, group, frame["scheduled_departure"] + waited)
    waiting = _totals(starts, frame, now, group)[:, 0] - _totals(ends, frame, now, group)[:, 0]
    name = group[-1]
    mean = np.divide(delay, count, out=np.full(len(frame), np.nan), where=count > 0)
    return {f"{name}_departures": count, f"{name}_delay": mean, f"{name}_waiting": waiting}


def _events(frame: pd.DataFrame, group: list[str], at: pd.Series, amount: pd.Series | float = 0.0) -> pd.DataFrame:
    """Return the events of each group in the order of time, with the running count and sum of amounts."""
    events = frame[group].assign(at=at, amount=amount, count=1.0).sort_values("at", kind="stable")
    events[["count", "amount"]] = events.groupby(group)[["count", "amount"]].cumsum()
    return events


def _totals(events: pd.DataFrame, frame: pd.DataFrame, until: pd.Series, group: list[str]) -> np.ndarray:
    """Return count and sum of amounts of the events at or before ``until``, one row per row of ``frame``."""
    asked = frame[group].assign(until=until)
    joined = pd.merge_asof(asked, events, left_on="until", right_on="at", by=group)
    return joined[["count", "amount"]].fillna(0.0).to_numpy()


def _minutes(delay: pd.Series) -> pd.Series:
    # Convert whole nanoseconds: for floats with gaps, pandas 2.3 reads uninitialised memory and warns about it.
    known = pd.to_timedelta((delay.fillna(0.0) * 60e9).round().astype("int64"), unit="ns")
    return known.where(delay.notna())

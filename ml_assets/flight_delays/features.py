"""What is known about a departure two hours before its schedule.

**Moment of prediction**: the scheduled departure less `HORIZON`. Every feature is made from what stood written at that
moment, by these rules:

- of the flight itself: its schedule (time, carrier, route). Its tail number is left out: it is that of the aircraft
  that flew in the end, and is missing for many cancelled flights;
- of the weather: the last hour at the origin that had *ended*. A row of the weather may have been observed late in its
  hour (stations report at minute 51), so it is known when the hour is over;
- of other flights: a delay is known once that flight has *actually* left; one that has not left only shows as waiting.
  A cancelled flight shows as waiting too, since nobody wrote down when it was given up.

A month stands alone, so that making it again depends on no other month: the first flights of a month have no earlier
flights to learn from, and those features are missing or zero, as they nearly are on any early morning.
"""

import numpy as np
import pandas as pd

__all__ = ["HORIZON", "IDENTITY", "RECENT_FEATURES", "TARGET", "WEATHER_FEATURES", "departure_features"]

HORIZON = pd.Timedelta(hours=2)
"""How long before the scheduled departure the prediction is made."""

TARGET = "dep_delay"
"""Minutes between schedule and departure, negative when early; missing where the flight was cancelled."""

IDENTITY = ["scheduled_departure", "carrier", "flight", "origin", "dest"]
"""Columns that name a flight, one row each."""

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
"""Of the same origin, or of the same carrier there: departures and their mean delay (minutes) over `RECENT`, and
flights past their schedule that have not left."""

RECENT = pd.Timedelta(hours=3)
"""How far back departures count as recent."""

PATIENCE = pd.Timedelta(hours=4)
"""How long after its schedule a flight counts as waiting; then it is taken for cancelled."""

OBSERVATION_AGE = pd.Timedelta(hours=6)
"""Weather older than this is missing."""

STRONGEST_WIND = 150.0
"""mph. The data holds one impossible reading (1048 mph); anything above this is missing."""

NEW_YORK = "America/New_York"


def departure_features(flights: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """One row per scheduled flight: its identity, moment of prediction, features and, last, its outcome.

    Args:
        flights: as `source.read_flights` returns them, cancelled flights included.
        weather: as `source.read_weather` returns it, for the same time.

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
    """Departures, mean delay and waiting flights within ``group`` at each moment, in the order of ``frame``."""
    now, then = frame["moment"], frame["moment"] - RECENT
    flown = frame[frame[TARGET].notna()]
    left = _events(flown, group, flown["scheduled_departure"] + _minutes(flown[TARGET]), flown[TARGET])
    count, delay = (_totals(left, frame, now, group) - _totals(left, frame, then, group)).T
    # A flight waits from its schedule until it leaves or patience ends: those waiting are the starts less the ends.
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
    """Count and sum of amounts of the events at or before ``until``, one row for each row of ``frame``."""
    asked = frame[group].assign(until=until)
    joined = pd.merge_asof(asked, events, left_on="until", right_on="at", by=group)
    return joined[["count", "amount"]].fillna(0.0).to_numpy()


def _minutes(delay: pd.Series) -> pd.Series:
    # From whole nanoseconds: of floats with gaps, pandas 2.3 reads uninitialised memory and warns of what it finds.
    known = pd.to_timedelta((delay.fillna(0.0) * 60e9).round().astype("int64"), unit="ns")
    return known.where(delay.notna())

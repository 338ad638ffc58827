"""Drift between the departures of a month and those of the previous month."""

import numpy as np
import pandas as pd

from ml_assets.flight_delays.features import RECENT_FEATURES

__all__ = ["DRIFTED", "WATCHED", "drift", "stability_index"]

DRIFTED = 0.2
"""Index from which a feature counts as drifted. In credit scoring, where the index was introduced, less than 0.1 counts
as stable and more than 0.25 as changed (N. Siddiqi, Credit Risk Scorecards, 2006)."""

WATCHED = ["carrier", "origin", "minute_of_day", "day_of_week", "distance", *RECENT_FEATURES]
"""Compared features. The weather is excluded: it changes with the season and would cause a warning every month."""


def drift(previous: pd.DataFrame, current: pd.DataFrame) -> dict[str, float]:
    """Return the stability index of every watched feature between two months of departures, largest first."""
    indices = {name: stability_index(previous[name], current[name]) for name in WATCHED}
    return dict(sorted(indices.items(), key=lambda item: -item[1]))


def stability_index(previous: pd.Series, current: pd.Series, bins: int = 10) -> float:
    """Return the population stability index of one feature: 0 for equal distributions, without upper bound.

    It is the sum over classes of ``(q - p) · ln(q / p)``, where p and q are the previous and the current shares. The
    classes of a text are its values; those of a number are the quantiles of the previous sample. Missing values are a
    separate class. Half a row is added to every class, so that a class that is empty on one side counts without making
    the index infinite.
    """
    before, now = _classes(previous, current, bins)
    classes = before.index.union(now.index)
    p, q = (_shares(counts.reindex(classes, fill_value=0)) for counts in (before, now))
    return float(((q - p) * np.log(q / p)).sum())


def _classes(previous: pd.Series, current: pd.Series, bins: int) -> tuple[pd.Series, pd.Series]:
    if not pd.api.types.is_numeric_dtype(previous):
        return previous.astype(str).value_counts(), current.astype(str).value_counts()
    edges = np.unique(previous.quantile(np.linspace(0, 1, bins + 1)[1:-1]).dropna())
    # NaN sorts above every number, so missing values would fall into the last class. They get a class after it.
    before, now = (
        pd.Series(np.where(sample.isna(), len(edges) + 1, np.searchsorted(edges, sample.fillna(0.0)))).value_counts()
        for sample in (previous, current)
    )
    return before, now


def _shares(counts: pd.Series) -> np.ndarray:
    smoothed: np.ndarray = counts.to_numpy(dtype="float64") + 0.5
    shares: np.ndarray = smoothed / smoothed.sum()
    return shares

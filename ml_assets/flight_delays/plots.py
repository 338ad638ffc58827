"""Plots of the delay model, for the Dagster and MLflow pages of each version."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from ml_assets.flight_delays.features import TARGET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["hourly_figure", "importance_figure"]

_INK, _ACCENT, _PALE = "#333333", "#0b6e99", "#b8b8b8"


def hourly_figure(results: pd.DataFrame) -> "Figure":
    """Plot the mean absolute error of model and baseline by scheduled hour, with the actual delays.

    Args:
        results: ``minute_of_day``, the outcome, ``predicted`` and ``baseline``, all in minutes.
    """
    hour = results["minute_of_day"] // 60
    figure, axes = _canvas("Departure delay by scheduled hour")
    delay = results[TARGET].groupby(hour)
    axes.fill_between(
        delay.median().index,
        delay.quantile(0.25),
        delay.quantile(0.75),
        color=_PALE,
        alpha=0.4,
        linewidth=0,
        label="actual, middle half",
    )
    for column, name, colour in (("baseline", "baseline", _INK), ("predicted", "model", _ACCENT)):
        error = (results[column] - results[TARGET]).abs().groupby(hour).mean()
        axes.plot(error.index, error, color=colour, marker="o", markersize=3, label=f"mean error of the {name}")
    axes.set(xlabel="scheduled hour (New York)", ylabel="minutes", xticks=range(0, 25, 3), xlim=(4, 24))
    axes.legend(frameon=False)
    return figure


def importance_figure(estimator: Any, most: int = 15) -> "Figure":
    """Plot the features with the largest gain in the trees, as shares of the whole gain.

    Args:
        estimator: a fitted XGBoost estimator.
        most: maximum number of features to show.
    """
    gain = pd.Series(estimator.get_booster().get_score(importance_type="total_gain"), dtype="float64")
    share = (gain / gain.sum()).sort_values().tail(most)
    figure, axes = _canvas("Feature importance")
    axes.barh(share.index, share, color=_ACCENT)
    axes.set(xlabel="share of the total gain")
    return figure


def _canvas(title: str) -> "tuple[Figure, Axes]":
    # Create a Figure without pyplot, because it needs no screen and leaves no global state.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes

"""Figures of the delay model show the numbers from which they are drawn."""

import io

import pandas as pd
import pytest

from ml_assets.flight_delays.features import TARGET
from ml_assets.flight_delays.plots import hourly_figure, importance_figure
from ml_assets.flight_delays.training import TrainConfig, fit

RESULTS = pd.DataFrame(
    {
        "minute_of_day": [300, 359, 600, 610],
        TARGET: [0.0, 10.0, 5.0, 5.0],
        "predicted": [2.0, 10.0, 6.0, 8.0],
        "baseline": [0.0, 0.0, 0.0, 0.0],
    }
)


def test_hours_show_the_mean_errors_of_baseline_and_model() -> None:
    baseline, model = hourly_figure(RESULTS).axes[0].lines
    assert list(model.get_xdata()) == list(baseline.get_xdata()) == [5, 10]
    assert list(model.get_ydata()) == [1.0, 2.0]
    assert list(baseline.get_ydata()) == [5.0, 5.0]


def test_importance_shows_the_largest_shares_of_the_gain(february: pd.DataFrame) -> None:
    estimator = fit(february.dropna(subset=[TARGET]), TrainConfig(n_estimators=5))
    bars = importance_figure(estimator, most=4).axes[0].patches
    shares = [bar.get_width() for bar in bars]
    assert len(shares) == 4
    assert shares == sorted(shares)
    assert 0 < sum(shares) <= 1


@pytest.mark.parametrize("form", ["png", "svg"])
def test_figures_can_be_saved_without_a_screen(form: str) -> None:
    buffer = io.BytesIO()
    hourly_figure(RESULTS).savefig(buffer, format=form)
    assert buffer.tell() > 1000

"""The delay model: trained on the months before the month that evaluates it, and compared with a realistic baseline.

The target is the departure delay in minutes. Most flights leave a few minutes early and a few leave hours late, so the
model minimizes a pseudo-Huber loss: it is near the median for ordinary flights, without ignoring the late ones. A
cancelled flight has no delay. It is excluded from training and scores, but still gets a prediction, because the
cancellation is not known beforehand.

Window, features and defaults were chosen on March to June 2013 alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
import numpy as np
import pandas as pd
from pydantic import Field

import ml_assets as ml
from ml_assets.flight_delays.features import IDENTITY, NEW_YORK, RECENT_FEATURES, TARGET
from ml_assets.flight_delays.plots import hourly_figure, importance_figure

if TYPE_CHECKING:
    from xgboost import XGBRegressor

__all__ = [
    "Baseline",
    "TrainConfig",
    "fit",
    "fit_baseline",
    "mean_error",
    "predict",
    "predictors",
    "score",
    "train",
    "unseen",
]

LATE = 15.0
"""Minutes from which a flight counts as late, as defined by the Bureau of Transportation Statistics."""

FIRST_DAYS = 21
"""Number of days of its own month on which a model without a previous month is trained. The rest evaluates it."""

TRAINED_BEFORE = "trained_before"
"""Attribute stored with the weights: all flights of the training were scheduled before this time."""

CARRIERS = ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"]
ORIGINS = ["EWR", "JFK", "LGA"]

SCHEDULED = ("minute_of_day", "day_of_week", "distance")
"""Predictors that every flight has."""

# Temperature, dew point, pressure and humidity are excluded, because they follow the season, and the months of the
# training are of another season. They increase the error.
NUMERIC_PREDICTORS = [
    "minute_of_day",
    "day_of_week",
    "distance",
    "wind_speed",
    "wind_gust",
    "precip",
    "visib",
    *RECENT_FEATURES,
]


class TrainConfig(dg.Config):
    """Parameters of the training of the delay model. The nightly run uses the defaults."""

    n_estimators: int = Field(300, ge=1, description="Number of trees.")
    max_depth: int = Field(6, ge=1, le=16, description="Depth of each tree.")
    learning_rate: float = Field(0.05, gt=0, le=1, description="Share of each tree's correction that is applied.")
    min_child_weight: float = Field(20.0, ge=0, description="Minimum weight of a leaf; larger is smoother.")
    subsample: float = Field(0.8, gt=0, le=1, description="Share of the flights that each tree uses.")
    colsample_bytree: float = Field(0.8, gt=0, le=1, description="Share of the features that each tree uses.")
    huber_slope: float = Field(5.0, gt=0, description="Error in minutes above which the loss is no longer quadratic.")
    seed: int = Field(0, ge=0, description="Seed of the random samples of the trees.")
    threads: int = Field(1, ge=1, description="CPU threads. On shared CPUs, one is many times faster than several.")
    device: Literal["cpu", "cuda"] = Field("cpu", description="Device of the training; cuda needs a GPU.")


@dataclass(frozen=True)
class Baseline:
    """The median delay of the same carrier from the same airport at the same hour; of all flights if there are none."""

    medians: pd.Series
    overall: float

    def predict(self, departures: pd.DataFrame) -> np.ndarray:
        """Return the delay in minutes, one value per row."""
        slots = pd.MultiIndex.from_arrays(_slots(departures))
        return self.medians.reindex(slots).fillna(self.overall).to_numpy()


def train(departures: pd.DataFrame, month: str, config: TrainConfig) -> ml.TrainedModel:
    """Train on the flights before a month, and evaluate on the flights of that month.

    If there is no earlier month, the training uses the first `FIRST_DAYS` days of the month itself.

    Args:
        departures: features and outcomes from `features.departure_features`, of the months before and of ``month``
            itself.
        month: the month to evaluate on, as ``YYYY-MM``.
        config: parameters of the training.

    Raises:
        InputError: there are no flights with an outcome in the month, or before it.
        SettingsError: the requested device is not available.
    """
    before, judged, boundary = _split(departures[departures[TARGET].notna()], month)
    estimator, baseline = fit(before, config), fit_baseline(before)
    estimator.get_booster().set_attr(**{TRAINED_BEFORE: boundary.isoformat()})
    results = judged.assign(predicted=estimator.predict(predictors(judged)), baseline=baseline.predict(judged))
    return ml.TrainedModel(
        estimator,
        input_example=_example(predictors(judged.head(999))),
        metrics=_metrics(results, before),
        figures={"by_hour": hourly_figure(results), "importance": importance_figure(estimator)},
        parameters={
            "trained_from": before["scheduled_departure"].min().isoformat(),
            TRAINED_BEFORE: boundary.isoformat(),
            "judged_on": month,
        },
    )


def _example(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows plus one row without optional values, so that the signature marks these columns as optional."""
    may_be_missing = [name for name in NUMERIC_PREDICTORS if name not in SCHEDULED]
    lacking = rows.tail(1).assign(**dict.fromkeys(may_be_missing, np.nan))
    return pd.concat([rows, lacking], ignore_index=True)


def fit(departures: pd.DataFrame, config: TrainConfig) -> "XGBRegressor":
    """Train the estimator on flights that have an outcome. Equal rows and config give byte-identical weights.

    Raises:
        SettingsError: the requested device is not available.
    """
    import xgboost

    if config.device == "cuda" and not xgboost.build_info().get("USE_CUDA"):
        raise ml.SettingsError(
            "device is 'cuda', but the installed XGBoost supports only the CPU",
            next_step="set device to 'cpu', or install the extra xgboost instead of xgboost-cpu",
        )
    parameters = config.model_dump(exclude={"seed", "threads"})
    estimator = xgboost.XGBRegressor(
        objective="reg:pseudohubererror",
        tree_method="hist",
        random_state=config.seed,
        n_jobs=config.threads,
        **parameters,
    )
    return estimator.fit(predictors(departures), departures[TARGET])


def fit_baseline(departures: pd.DataFrame) -> Baseline:
    """Fit the baseline on flights that have an outcome."""
    return Baseline(departures.groupby(_slots(departures))[TARGET].median(), float(departures[TARGET].median()))


def predict(model: ml.TrainedModel, departures: pd.DataFrame) -> pd.DataFrame:
    """Predict every scheduled flight that the model was not trained on, cancelled ones too.

    Returns:
        `IDENTITY`, ``moment``, ``predicted`` and ``actual`` delay in minutes; ``actual`` is missing if the flight was
        cancelled.
    """
    rows = unseen(model, departures)
    predicted = np.asarray(model.predict(predictors(rows)), dtype="float64")
    return rows[[*IDENTITY, "moment"]].assign(predicted=predicted, actual=rows[TARGET])


def unseen(model: ml.TrainedModel, departures: pd.DataFrame) -> pd.DataFrame:
    """Return the departures that were scheduled after all flights of the model's training."""
    boundary = pd.Timestamp(model.estimator.get_booster().attr(TRAINED_BEFORE))
    return departures[departures["scheduled_departure"] >= boundary].reset_index(drop=True)


def mean_error(model: ml.TrainedModel, departures: pd.DataFrame) -> float:
    """Return the mean absolute error in minutes over the flights that left and were not part of the training."""
    results = predict(model, departures)
    return float((results["predicted"] - results["actual"]).abs().mean())


def predictors(departures: pd.DataFrame) -> pd.DataFrame:
    """Return the estimator's input: only numbers, with one column (1 or 0) for each carrier and origin.

    A carrier that is not listed has 0 in all of its columns.
    """
    columns: dict[str, Any] = {name: departures[name].astype("float64") for name in NUMERIC_PREDICTORS}
    for column, values in (("carrier", CARRIERS), ("origin", ORIGINS)):
        columns |= {f"{column}_{value}": (departures[column] == value).astype("float64") for value in values}
    return pd.DataFrame(columns)


def score(predicted: pd.Series, actual: pd.Series) -> dict[str, float]:
    """Evaluate predictions, all in minutes.

    Returns:
        ``mae``, ``rmse``, ``within_15`` (share of flights with an error of at most 15 minutes) and, if some flights
        were late and some were not, ``auc_late`` (quality of ranking late flights above others; 0.5 is random).
    """
    from sklearn.metrics import roc_auc_score

    error = predicted - actual
    late = actual > LATE
    figures = {
        "mae": float(error.abs().mean()),
        "rmse": float((error**2).mean() ** 0.5),
        "within_15": float((error.abs() <= LATE).mean()),
    }
    return figures | ({"auc_late": float(roc_auc_score(late, predicted))} if late.nunique() == 2 else {})


def _metrics(results: pd.DataFrame, before: pd.DataFrame) -> dict[str, float]:
    actual = results[TARGET]
    model, baseline = score(results["predicted"], actual), score(results["baseline"], actual)
    return {
        **model,
        **_prefixed("baseline", baseline),
        "median_mae": float((actual - before[TARGET].median()).abs().mean()),
        "skill": 1 - model["mae"] / baseline["mae"],
        "flights_trained": float(len(before)),
        "flights_judged": float(len(results)),
    }


def _prefixed(prefix: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in figures.items()}


def _split(flown: pd.DataFrame, month: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.Timestamp]:
    """Return the flights for training, those for evaluation, and the time between them."""
    scheduled = flown["scheduled_departure"]
    start = pd.Timestamp(f"{month}-01", tz=NEW_YORK)
    end = start + pd.DateOffset(months=1)
    boundary = start if (scheduled < start).any() else start + pd.DateOffset(days=FIRST_DAYS)
    before, judged = flown[scheduled < boundary], flown[(scheduled >= boundary) & (scheduled < end)]
    if before.empty or judged.empty:
        raise ml.InputError(
            f"of {len(flown)} flights that left, {len(before)} before {boundary:%Y-%m-%d} are available for training "
            f"and {len(judged)} after it for evaluation",
            next_step=f"materialize departures of {month} and of the months before it",
        )
    return before, judged, boundary.tz_convert("UTC")


def _slots(departures: pd.DataFrame) -> list[pd.Series]:
    return [departures["carrier"], departures["origin"], departures["minute_of_day"] // 60]

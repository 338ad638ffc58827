"""The delay model: its training data, its evaluation, and exact repeatability of its training."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xgboost
from pydantic import ValidationError

from ml_assets.artifacts.trained_model import TrainedModel
from ml_assets.flight_delays.features import IDENTITY, TARGET
from ml_assets.flight_delays.training import (
    TrainConfig,
    fit,
    fit_baseline,
    mean_error,
    predict,
    predictors,
    score,
    train,
    unseen,
)
from ml_assets.resources.errors import InputError, SettingsError

SMALL = TrainConfig(n_estimators=15, learning_rate=0.3)


def weights(model: TrainedModel) -> bytes:
    return bytes(model.estimator.get_booster().save_raw("ubj"))


@pytest.fixture(scope="module")
def trained(both: pd.DataFrame) -> TrainedModel:
    return train(both, "2013-02", SMALL)


def test_equal_inputs_give_equal_bytes_of_weights(both: pd.DataFrame, trained: TrainedModel) -> None:
    again = train(both.copy(), "2013-02", SMALL)
    assert weights(again) == weights(trained)
    assert again.metrics == trained.metrics


def test_another_seed_gives_other_weights(both: pd.DataFrame, trained: TrainedModel) -> None:
    assert weights(train(both, "2013-02", SMALL.model_copy(update={"seed": 1}))) != weights(trained)


def test_outcomes_of_the_judged_month_do_not_reach_the_weights(
    both: pd.DataFrame, january: pd.DataFrame, trained: TrainedModel
) -> None:
    other = both.copy()
    other.loc[len(january) :, TARGET] = 99.0
    model = train(other, "2013-02", SMALL)
    assert weights(model) == weights(trained)
    assert model.metrics["mae"] != trained.metrics["mae"]


def test_model_beats_the_baseline_on_the_month_it_has_not_seen(both: pd.DataFrame) -> None:
    metrics = train(both, "2013-02", TrainConfig(n_estimators=100, learning_rate=0.1)).metrics
    assert metrics["mae"] < metrics["baseline_mae"] < metrics["median_mae"]
    assert metrics["auc_late"] > metrics["baseline_auc_late"] > 0.5
    assert metrics["skill"] == pytest.approx(1 - metrics["mae"] / metrics["baseline_mae"])


def test_cancelled_flights_are_neither_trained_on_nor_judged(both: pd.DataFrame, trained: TrainedModel) -> None:
    metrics = trained.metrics
    assert metrics["flights_trained"] + metrics["flights_judged"] == both[TARGET].notna().sum() < len(both)


def test_first_month_is_trained_on_its_first_three_weeks(january: pd.DataFrame) -> None:
    model = train(january, "2013-01", SMALL)
    local = unseen(model, january)["scheduled_departure"].dt.tz_convert("America/New_York")
    assert local.min() > pd.Timestamp("2013-01-22", tz="America/New_York")
    assert local.dt.day.min() == 22
    assert model.metrics["flights_judged"] == unseen(model, january)[TARGET].notna().sum()


def test_predictions_leave_out_what_the_model_was_trained_on(both: pd.DataFrame, trained: TrainedModel) -> None:
    found = predict(trained, both)
    expected = both[both["scheduled_departure"] >= pd.Timestamp("2013-02-01", tz="America/New_York")]
    pd.testing.assert_frame_equal(found[IDENTITY], expected[IDENTITY].reset_index(drop=True))


def test_every_flight_of_the_judged_month_is_predicted_cancelled_ones_too(
    february: pd.DataFrame, trained: TrainedModel
) -> None:
    found = predict(trained, february)
    assert len(found) == len(february)
    assert found["predicted"].notna().all()
    assert found["actual"].isna().sum() == february[TARGET].isna().sum() > 0
    assert (found["predicted"] - found["actual"]).abs().mean() == pytest.approx(trained.metrics["mae"], rel=1e-6)
    assert mean_error(trained, february) == pytest.approx(trained.metrics["mae"], rel=1e-6)


def test_weights_keep_the_end_of_the_training_through_a_file(
    tmp_path: Path, both: pd.DataFrame, trained: TrainedModel
) -> None:
    trained.estimator.save_model(tmp_path / "model.ubj")
    loaded = xgboost.XGBRegressor()
    loaded.load_model(tmp_path / "model.ubj")
    pd.testing.assert_frame_equal(predict(TrainedModel(loaded), both), predict(trained, both))


def test_predictors_are_numbers_and_hold_nothing_of_the_outcome(february: pd.DataFrame) -> None:
    found = predictors(february)
    assert set(found.dtypes) == {np.dtype("float64")}
    pd.testing.assert_frame_equal(predictors(february.assign(**{TARGET: 7.0})), found)
    assert (found.filter(regex="^carrier_[A-Z0-9]{2}$").sum(axis=1) == 1).all()
    assert (found.filter(like="origin_").filter(regex="[A-Z]{3}$").sum(axis=1) == 1).all()


def test_carrier_that_nobody_listed_is_predicted_all_the_same(february: pd.DataFrame, trained: TrainedModel) -> None:
    assert predict(trained, february.head(3).assign(carrier="ZZ"))["predicted"].notna().all()


def test_baseline_is_the_median_of_carrier_origin_and_hour_or_of_all() -> None:
    frame = pd.DataFrame(
        {
            "carrier": ["AA", "AA", "AA", "UA"],
            "origin": ["JFK", "JFK", "JFK", "EWR"],
            "minute_of_day": [300, 310, 359, 360],
            TARGET: [1.0, 3.0, 8.0, 40.0],
        }
    )
    asked = frame.head(2).assign(carrier=["AA", "DL"])
    assert fit_baseline(frame).predict(asked).tolist() == [3.0, 5.5]


def test_scores_are_what_their_names_say() -> None:
    found = score(pd.Series([0.0, 10.0, 50.0, 0.0]), pd.Series([0.0, 20.0, 20.0, -5.0]))
    assert found == {
        "mae": pytest.approx(45 / 4),
        "rmse": pytest.approx(((100 + 900 + 25) / 4) ** 0.5),
        "within_15": 0.75,
        "auc_late": 1.0,
    }


def test_ranking_is_not_scored_where_no_flight_was_late() -> None:
    assert "auc_late" not in score(pd.Series([0.0, 1.0]), pd.Series([0.0, 2.0]))


@pytest.mark.parametrize("month", ["2013-03", "2012-12"])
def test_month_without_flights_is_refused(both: pd.DataFrame, month: str) -> None:
    with pytest.raises(InputError, match=rf"Next: materialize departures of {month}"):
        train(both, month, SMALL)


def test_cuda_is_refused_where_xgboost_has_none(february: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xgboost, "build_info", lambda: {"USE_CUDA": False})
    with pytest.raises(SettingsError, match="supports only the CPU"):
        fit(february.dropna(subset=[TARGET]), SMALL.model_copy(update={"device": "cuda"}))


@pytest.mark.parametrize("wrong", [{"max_depth": 0}, {"learning_rate": 2.0}, {"device": "tpu"}])
def test_config_refuses_values_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainConfig(**wrong)  # type: ignore[arg-type]

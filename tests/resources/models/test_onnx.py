import datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest

from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.models.onnx import export_onnx

ROWS = 400


def numbers() -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(ROWS, 4)), columns=["a", "b", "c", "d"])
    return frame.assign(n=random.integers(0, 50, ROWS))


def with_words() -> pd.DataFrame:
    random = np.random.default_rng(1)
    return numbers().assign(word=random.choice(["x", "y", "z"], ROWS), flag=random.random(ROWS) > 0.5)


def fitted(kind: str) -> tuple[Any, pd.DataFrame]:
    """Return an estimator and the rows on which it was fitted."""
    import xgboost
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rows = numbers()
    target = rows.a * 3 + rows.b.abs()
    late = np.where(target > 1, "late", "punctual")
    encoded = ColumnTransformer([("word", OneHotEncoder(), ["word"]), ("rest", StandardScaler(), ["a", "n"])])
    gaps = rows.mask(rows > 2)
    match kind:
        case "xgboost":
            return xgboost.XGBRegressor(n_estimators=9, n_jobs=1).fit(gaps, target), gaps
        case "stopped early":
            early = xgboost.XGBRegressor(n_estimators=80, early_stopping_rounds=1, learning_rate=1.0, n_jobs=1)
            return early.fit(rows[:200], target[:200], eval_set=[(rows[200:], target[200:])], verbose=False), rows
        case "booster":
            return xgboost.train({"nthread": 1}, xgboost.DMatrix(gaps, target), num_boost_round=9), gaps
        case "xgboost classes":
            return xgboost.XGBClassifier(n_estimators=9, n_jobs=1).fit(rows, (target > 1).astype(int)), rows
        case "boosting":
            return HistGradientBoostingRegressor(max_iter=9).fit(gaps, target), gaps
        case "boosting classes":
            return HistGradientBoostingClassifier(max_iter=9).fit(rows, late), rows
        case "forest":
            return RandomForestRegressor(9, random_state=0).fit(rows, target), rows
        case "several outputs":
            return RandomForestRegressor(9, random_state=0).fit(rows, np.c_[target, -target]), rows
        case "pipeline":
            return make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, late), rows
        case _:
            return make_pipeline(encoded, Ridge()).fit(with_words(), target), with_words()[["a", "n", "word"]]


def predicted(estimator: Any, rows: pd.DataFrame) -> np.ndarray:
    import xgboost

    return np.asarray(estimator.predict(xgboost.DMatrix(rows) if isinstance(estimator, xgboost.Booster) else rows))


KINDS = [
    "xgboost",
    "stopped early",
    "booster",
    "xgboost classes",
    "boosting",
    "boosting classes",
    "forest",
    "several outputs",
    "pipeline",
    "columns by name",
]


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_predicts_what_the_estimator_does_with_equal_bytes_each_time(kind: str, tmp_path: Path) -> None:
    contents = []
    for name in ("first", "second"):
        estimator, rows = fitted(kind)
        expected = predicted(estimator, rows)
        difference = export_onnx(estimator, tmp_path / name, rows, expected)
        contents.append((tmp_path / name).read_bytes())
        check(contents[-1], rows, expected, difference)
    assert contents[0] == contents[1]


def check(content: bytes, rows: pd.DataFrame, expected: np.ndarray, difference: float) -> None:
    session = onnxruntime.InferenceSession(content)
    types = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64", "tensor(string)": "O"}
    inputs = session.get_inputs()
    if len(inputs) == 1:
        fed = {"features": rows.to_numpy(types[inputs[0].type])}
    else:
        fed = {each.name: rows[[each.name]].to_numpy(types[each.type]) for each in inputs}
    answer = session.run(["predictions"], fed)[0].reshape(expected.shape)
    if expected.dtype.kind in "OU" or expected.dtype.kind == "i":
        assert difference == 0.0
        assert list(answer) == list(expected)
        assert [output.name for output in session.get_outputs()] == ["predictions", "probabilities"]
    else:
        # Not equal to the difference, because more threads add in another order.
        assert answer == pytest.approx(expected, abs=1e-4)
        assert 0 < difference < 1e-4


def test_bytes_name_no_program_and_no_version(tmp_path: Path) -> None:
    estimator, rows = fitted("pipeline")
    export_onnx(estimator, tmp_path / "model.onnx", rows, predicted(estimator, rows))
    model = onnx.load(tmp_path / "model.onnx")
    assert (model.producer_name, model.producer_version, model.graph.name) == ("", "", "model")


def test_estimator_that_no_converter_knows_is_refused_with_its_reason(tmp_path: Path) -> None:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    rows = numbers()
    estimator = make_pipeline(FunctionTransformer(np.exp), Ridge()).fit(rows[["a"]], rows.b)
    with pytest.raises(DefinitionError, match="FunctionTransformer is not supported") as refusal:
        export_onnx(estimator, tmp_path / "model.onnx", rows[["a"]], estimator.predict(rows[["a"]]))
    assert "served=False" in refusal.value.next_step
    assert not (tmp_path / "model.onnx").exists()


def test_estimator_that_predicts_other_values_as_onnx_is_refused(tmp_path: Path) -> None:
    import xgboost

    rows = numbers()
    both = {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]}
    estimator = xgboost.XGBRegressor(n_estimators=5, n_jobs=1, **both).fit(rows, rows.a)
    with pytest.raises(DefinitionError, match="predicts different values"):
        export_onnx(estimator, tmp_path / "model.onnx", rows, estimator.predict(rows))


def test_column_of_times_is_refused_by_name(tmp_path: Path) -> None:
    from sklearn.dummy import DummyRegressor

    rows = pd.DataFrame({"when": [datetime.datetime(2013, 1, 1)] * 2})
    with pytest.raises(DefinitionError, match=r"its column 'when' has the type datetime64"):
        export_onnx(DummyRegressor().fit(rows, [1.0, 2.0]), tmp_path / "model.onnx", rows, np.zeros(2))

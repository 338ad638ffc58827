"""What training accepts is served as trained; the rest is refused with its reason."""

import datetime
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import xgboost
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC

from ml_assets.artifacts.model_server import ModelServer, predict_frame
from ml_assets.resources.errors import DefinitionError, ModelUnavailable
from ml_assets.resources.models.flavors import save_model
from ml_assets.serving.inference_protocol import read_inference_request
from ml_assets.serving.invocations import read_invocation
from ml_assets.serving.servable import Servable, open_servable

RANDOM = np.random.default_rng(0)
ROWS = pd.DataFrame(RANDOM.normal(size=(200, 3)), columns=["a", "b", "c"])
TARGET = ROWS.a * 2 + ROWS.b.abs()
LATE = np.where(TARGET > 1, "late", "on time")
PAIRS = np.c_[TARGET > 1, ROWS.a > 0]
CLASSES = RANDOM.integers(0, 3, 200)
KINDS = ROWS.assign(kind=RANDOM.choice(["x", "y"], 200))
WORDS = pd.DataFrame({"word": ["a", "a", "b", "b", None, None] * 10})
WORTH = np.array([0, 0, 5, 5, 100, 100] * 10)
TEXT = pd.DataFrame({"text": ["Grüße and HELLO", "good bye", "", "hello a ärger bye"] * 10})
GAPS = ROWS.mask(ROWS > 1).assign(
    count=pd.array([1, None] * 100, dtype="Int64"), flag=pd.array([True, None] * 100, dtype="boolean")
)
FLAGS = ROWS.assign(flag=RANDOM.random(200) > 0.5, count=RANDOM.integers(0, 2**40, 200))


def fit(estimator: Any, rows: pd.DataFrame, target: Any, **options: Any) -> tuple[Any, pd.DataFrame]:
    return estimator.fit(rows, target, **options), rows


def encoded(column: str) -> Any:
    """Return a step that encodes one column and passes the others."""
    return ColumnTransformer([("one hot", OneHotEncoder(handle_unknown="ignore"), [column])], remainder="passthrough")


def only(column: str, step: Any) -> Any:
    return ColumnTransformer([("step", step, column)])


def ordinal(**options: Any) -> Any:
    return make_pipeline(
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, **options), LinearRegression()
    )


def booster(objective: str, target: Any, **parameters: Any) -> tuple[Any, pd.DataFrame]:
    settings = {"objective": objective, "nthread": 1, **parameters}
    return xgboost.train(settings, xgboost.DMatrix(ROWS, target), num_boost_round=5), ROWS


def one_hot(frame: pd.DataFrame, column: str, target: Any) -> tuple[Any, pd.DataFrame]:
    return fit(make_pipeline(encoded(column), Ridge()), frame, target)


def numbered() -> tuple[Any, pd.DataFrame]:
    """Return a model whose columns have integers as names, and are selected by them."""
    scaled = ColumnTransformer([("scale", StandardScaler(), [0, 1])], remainder="passthrough")
    return fit(make_pipeline(scaled, Ridge()), pd.DataFrame(ROWS.to_numpy()), TARGET)


def like_outputs() -> tuple[Any, pd.DataFrame]:
    frame = KINDS.rename(columns={"kind": "predictions", "a": "probabilities", "b": "variable"})
    return fit(make_pipeline(encoded("predictions"), LogisticRegression()), frame, LATE)


def filled() -> tuple[Any, pd.DataFrame]:
    imputer = SimpleImputer(missing_values=None, strategy="constant", fill_value="z")
    return fit(make_pipeline(imputer, OneHotEncoder(handle_unknown="ignore"), Ridge()), WORDS, WORTH)


def text() -> tuple[Any, pd.DataFrame]:
    words = only("text", TfidfVectorizer(ngram_range=(1, 2)))
    return fit(make_pipeline(words, Ridge()), TEXT, np.arange(40) % 4)


def stopped_early() -> tuple[Any, pd.DataFrame]:
    estimator = xgboost.XGBRegressor(n_estimators=80, early_stopping_rounds=1, learning_rate=1.0, n_jobs=1)
    return fit(estimator, ROWS, TARGET, eval_set=[(ROWS[100:], -TARGET[100:])], verbose=False)


BOTH_EMPTY = WORDS.assign(word=["a", "b", "b", "", None, None] * 10)
WITH_NAN = WORDS.fillna({"word": np.nan})
CATEGORIES = KINDS.assign(kind=KINDS.kind.astype("category"))
ODD_NAMES = KINDS.rename(columns={"a": "od280/od315", "b": "", "c": "ä %"})
XGB = {"n_estimators": 3, "n_jobs": 1}
SERVED: dict[str, Callable[[], tuple[Any, pd.DataFrame]]] = {
    "missing text": lambda: fit(
        make_pipeline(OneHotEncoder(handle_unknown="ignore"), LinearRegression()), WORDS, WORTH
    ),
    "missing text and empty text": lambda: one_hot(BOTH_EMPTY, "word", WORTH),
    "missing text as NaN": lambda: one_hot(WITH_NAN, "word", WORTH),
    "missing text, encoded by order": lambda: fit(ordinal(), WORDS, WORTH),
    "missing text with a code": lambda: fit(ordinal(encoded_missing_value=-2), WITH_NAN, WORTH),
    "missing text that is filled": filled,
    "discriminant of two classes": lambda: fit(LinearDiscriminantAnalysis(), ROWS, LATE),
    "discriminant of three classes": lambda: fit(LinearDiscriminantAnalysis(), ROWS, CLASSES),
    "calibrated by a sigmoid": lambda: fit(CalibratedClassifierCV(GaussianNB(), cv=2), ROWS, LATE),
    "integers as column names": numbered,
    "several labels": lambda: fit(MultiOutputClassifier(LogisticRegression()), ROWS, PAIRS.astype(int)),
    "several booleans": lambda: fit(RandomForestClassifier(5, random_state=0), ROWS, PAIRS),
    "booleans": lambda: fit(LogisticRegression(), ROWS, PAIRS[:, 0]),
    "floats as labels": lambda: fit(LogisticRegression(), ROWS, np.where(PAIRS[:, 0], 1.0, 2.0)),
    "SVC": lambda: fit(SVC(), ROWS, LATE),
    "SVC of three classes": lambda: fit(SVC(), ROWS, CLASSES),
    "LinearSVC": lambda: fit(LinearSVC(), ROWS, LATE),
    "columns named like outputs": like_outputs,
    "one text column named like an output": lambda: one_hot(
        WORDS.rename(columns={"word": "predictions"}), "predictions", WORTH
    ),
    "odd column names": lambda: one_hot(ODD_NAMES, "kind", TARGET),
    "quadratic discriminant": lambda: fit(QuadraticDiscriminantAnalysis(), ROWS, LATE),
    "several numbers": lambda: fit(RandomForestRegressor(5, random_state=0), ROWS, np.c_[TARGET, -TARGET]),
    "one column of numbers": lambda: fit(Ridge(), ROWS, np.c_[TARGET]),
    "partial least squares": lambda: fit(PLSRegression(), ROWS, TARGET),
    "text": text,
    "missing numbers": lambda: fit(HistGradientBoostingRegressor(max_iter=3), ROWS.mask(ROWS > 1), TARGET),
    "missing integers and booleans": lambda: fit(xgboost.XGBRegressor(**XGB), GAPS, TARGET),
    "booleans and long integers": lambda: fit(make_pipeline(StandardScaler(), LogisticRegression()), FLAGS, LATE),
    "booleans as categories": lambda: fit(make_pipeline(encoded("flag"), StandardScaler(), Ridge()), FLAGS, TARGET),
    "categories of pandas": lambda: one_hot(CATEGORIES, "kind", TARGET),
    "dropped columns": lambda: fit(
        make_pipeline(only("kind", TfidfVectorizer(token_pattern="x|y")), Ridge()), KINDS, TARGET
    ),
    "XGBoost in a pipeline": lambda: fit(make_pipeline(encoded("kind"), xgboost.XGBClassifier(**XGB)), KINDS, CLASSES),
    "XGBoost stopped early": stopped_early,
    "booster of a probability": lambda: booster("binary:logistic", PAIRS[:, 0]),
    "booster of probabilities": lambda: booster("multi:softprob", CLASSES, num_class=3),
    "booster of classes": lambda: booster("multi:softmax", CLASSES, num_class=3),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def served(estimator: Any, rows: pd.DataFrame, directory: Path) -> Servable:
    save_model(estimator, directory, input_example=rows, server=ModelServer())
    return open_servable(directory)


@pytest.mark.parametrize("name", SERVED)
def test_server_returns_what_the_estimator_does(name: str, folder: Path) -> None:
    estimator, rows = SERVED[name]()
    servable = served(estimator, rows, folder / name)
    outputs = predict_frame(servable, rows)
    given = xgboost.DMatrix(rows) if isinstance(estimator, xgboost.Booster) else rows
    expected = np.asarray(estimator.predict(given))
    assert set(outputs) == {output.name for output in servable.outputs}
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(outputs["predictions"], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    else:
        assert outputs["predictions"].tolist() == expected.tolist()
        assert (outputs["predictions"].dtype.kind == "b") == (expected.dtype.kind == "b")
    if "probabilities" in outputs:
        np.testing.assert_allclose(outputs["probabilities"], estimator.predict_proba(rows), atol=1e-4)
    if "decision_function" in outputs:
        np.testing.assert_allclose(
            outputs["decision_function"], estimator.decision_function(rows), rtol=1e-4, atol=1e-4
        )
    for output in servable.outputs:
        assert output.shape == (-1, *outputs[output.name].shape[1:])
    assert servable.shares_runs


def test_missing_text_of_a_request_is_the_missing_text_of_the_training(folder: Path) -> None:
    servable = served(*SERVED["missing text and empty text"](), folder / "requests")
    body = {"dataframe_split": {"columns": ["word"], "data": [["a"], [None], [""]]}}
    answers = servable.run(read_invocation(json.dumps(body).encode(), "application/json", servable))["predictions"]
    estimator, _ = SERVED["missing text and empty text"]()
    np.testing.assert_allclose(
        answers, estimator.predict(pd.DataFrame({"word": ["a", None, ""]})), rtol=1e-4, atol=1e-3
    )


def test_column_named_like_an_output_is_sent_by_its_name(folder: Path) -> None:
    servable = served(*SERVED["columns named like outputs"](), folder / "named")
    assert [spec.name for spec in servable.inputs] == ["probabilities", "variable", "c", "predictions"]
    tensors = [
        {"name": name, "datatype": "FP64", "shape": [1], "data": [0.5]} for name in ("probabilities", "variable", "c")
    ]
    tensors.append({"name": "predictions", "datatype": "BYTES", "shape": [1], "data": ["x"]})
    request = read_inference_request(json.dumps({"inputs": tensors}).encode(), None, servable)
    assert set(request.outputs) == {"predictions", "probabilities"}
    assert servable.run(request.feeds)["predictions"].tolist()[0] in ("late", "on time")


def isotonic() -> tuple[Any, pd.DataFrame]:
    return fit(CalibratedClassifierCV(GaussianNB(), method="isotonic"), ROWS, LATE)


def scaled_trees() -> tuple[Any, pd.DataFrame]:
    return fit(make_pipeline(StandardScaler(), xgboost.XGBRegressor(n_estimators=50, n_jobs=1)), ROWS, TARGET)


def own_function() -> tuple[Any, pd.DataFrame]:
    return fit(make_pipeline(FunctionTransformer(np.exp), Ridge()), ROWS, TARGET)


def times() -> tuple[Any, pd.DataFrame]:
    return fit(DummyRegressor(), pd.DataFrame({"when": [datetime.datetime(2013, 1, 1)] * 2}), [1.0, 2.0])


LABELS = "'(late|on time)' as trained, '(late|on time)' as served"
REFUSED: dict[str, tuple[Callable[[], tuple[Any, pd.DataFrame]], str, str]] = {
    "isotonic": (
        isotonic,
        rf"the output predictions differs for row \d+ of the input example: {LABELS} \(columns: {{'a': ",
        "docs/models.md",
    ),
    "scaler": (scaled_trees, "the output predictions differs for row", "remove scalers before the trees"),
    "converter": (
        lambda: fit(DummyRegressor(), ROWS, TARGET),
        r"skl2onnx has no converter for sklearn\.dummy\.DummyRegressor",
        "docs/models.md",
    ),
    "function": (own_function, "the converter fails: RuntimeError: FunctionTransformer is not supp", "served=False"),
    "times": (times, "its column 'when' has the type datetime64", "convert it to numbers, booleans or strings"),
    "dart": (
        lambda: booster("reg:squarederror", TARGET, booster="dart"),
        "the converter of XGBoost supports the booster gbtree, not dart",
        "gbtree",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_model_that_would_be_served_differently_is_refused_with_the_true_reason(name: str, tmp_path: Path) -> None:
    train, reason, next_step = REFUSED[name]
    estimator, rows = train()
    with pytest.raises(DefinitionError, match=f"cannot be served as ONNX: {reason}") as refusal:
        save_model(estimator, tmp_path, input_example=rows, server=ModelServer())
    assert next_step in refusal.value.next_step
    assert not (tmp_path / "model.onnx").exists()
    assert not (tmp_path / "example.json").exists()


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    rows = pd.DataFrame(ROWS.to_numpy(), columns=[1, "1", "b"])
    with pytest.raises(DefinitionError, match="several columns named '1'"):
        save_model(Ridge().fit(rows.to_numpy(), TARGET), tmp_path, input_example=rows, server=ModelServer())


@pytest.fixture(scope="module")
def trees(folder: Path) -> Path:
    estimator = xgboost.XGBClassifier(n_estimators=5, n_jobs=1, base_score=0.4).fit(ROWS, PAIRS[:, 0])
    save_model(estimator, folder / "trees", input_example=ROWS, server=ModelServer())
    return folder / "trees"


def test_changed_graph_is_refused_because_the_recorded_outputs_differ(trees: Path, tmp_path: Path) -> None:
    shutil.copytree(trees, tmp_path / "model")
    graph = onnx.load(trees / "model.onnx")
    (node,) = [node for node in graph.graph.node if node.op_type == "TreeEnsembleClassifier"]
    (base,) = [attribute for attribute in node.attribute if attribute.name == "base_values"]
    base.floats[:] = [1000.0] * len(base.floats)
    onnx.save(graph, tmp_path / "model" / "model.onnx")
    with pytest.raises(ModelUnavailable, match=r"the recorded (predictions|probabilities) differ"):
        open_servable(tmp_path / "model")


def test_recorded_outputs_are_rounded_to_what_every_processor_computes(trees: Path) -> None:
    outputs = json.loads((trees / "example.json").read_text())["outputs"]
    assert set(outputs) == {"predictions", "probabilities"}
    flat = np.array(outputs["probabilities"]).reshape(-1)
    np.testing.assert_array_equal(flat, np.round(flat, 6))


def test_bytes_name_no_program_and_no_version(trees: Path) -> None:
    model = onnx.load(trees / "model.onnx")
    assert (model.producer_name, model.producer_version, model.graph.name) == ("", "", "model")

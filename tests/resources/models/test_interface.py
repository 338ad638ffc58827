"""Flavors of a project: a plain Python model, and a transformer of one's own."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

import ml_assets as ml
from ml_assets.artifacts.model_server import ModelServer
from ml_assets.resources.errors import DefinitionError, InputError
from ml_assets.resources.models.flavors import load_model, predict_with, save_model
from ml_assets.resources.models.interface import FLAVORS

ROWS = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.0, 1.0, 0.5]})


class RuleModel:
    """A model of plain Python."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def predict(self, frame: pd.DataFrame) -> list[float]:
        return [self.factor * value for value in frame["a"]]


class Rules(ml.Flavor):
    name = "rules"
    types = (RuleModel,)
    file = "rules.json"

    def write(self, estimator: RuleModel, file: Path, example: pd.DataFrame) -> None:
        file.write_text(json.dumps({"factor": estimator.factor}))

    def read(self, file: Path, class_name: str) -> RuleModel:
        return RuleModel(**json.loads(file.read_text()))


class OnnxRules(Rules):
    """The same with an ONNX form."""

    name = "onnx-rules"
    types = ()
    weight = 0.0

    def conversions(self, estimator: RuleModel, columns: Any, missing_text: str) -> Iterator[Any]:
        import skl2onnx
        from skl2onnx.common.data_types import DoubleTensorType

        linear = Ridge(alpha=0.0).fit(ROWS, estimator.predict(ROWS))
        linear.coef_ = linear.coef_ + self.weight
        types = [("features", DoubleTensorType([None, len(columns)]))]
        yield lambda: skl2onnx.convert_sklearn(linear, initial_types=types, target_opset={"": 18, "ai.onnx.ml": 3})


class WrongRules(OnnxRules):
    name = "wrong-rules"
    weight = 0.5


class Random(Rules):
    name = "random"
    types = ()

    def write(self, estimator: RuleModel, file: Path, example: pd.DataFrame) -> None:
        super().write(estimator, file, example)
        file.with_name("noise").write_bytes(os.urandom(8))


class Doubled(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A transformer of the project."""

    def fit(self, rows: Any, target: Any = None) -> "Doubled":
        self.n_features_in_ = rows.shape[1]
        return self

    def transform(self, rows: Any) -> Any:
        return np.asarray(rows) * 2


class OwnSteps(ml.ScikitLearn):
    name = "own-steps"
    trusted = (*ml.ScikitLearn.trusted, "tests")


def test_model_of_a_projects_flavor_is_stored_and_loaded(tmp_path: Path) -> None:
    saved = save_model(RuleModel(3.0), tmp_path, input_example=ROWS)
    assert saved.flavor == "rules"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "rules.json", "signature.json"]
    assert isinstance(load_model(tmp_path), RuleModel)
    assert list(predict_with(tmp_path, ROWS)) == [3.0, 6.0, 9.0]
    assert list(ml.TrainedModel(load_model(tmp_path), directory=tmp_path).predict(ROWS)) == [3.0, 6.0, 9.0]


def test_mlflow_loads_a_model_of_a_projects_flavor(tmp_path: Path) -> None:
    import mlflow.pyfunc

    save_model(RuleModel(3.0), tmp_path / "model", input_example=ROWS)
    Rules().write_for_mlflow(RuleModel(3.0), tmp_path / "model", str(tmp_path / "mlflow"), pip_requirements=[])
    assert list(mlflow.pyfunc.load_model(str(tmp_path / "mlflow")).predict(ROWS)) == [3.0, 6.0, 9.0]


def test_model_without_an_onnx_form_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"its library has no conversion.*served=False"):
        save_model(RuleModel(3.0), tmp_path, input_example=ROWS, server=ModelServer())


def test_conversion_of_a_projects_flavor_is_compared_too(tmp_path: Path) -> None:
    save_model(RuleModel(3.0), tmp_path / "right", input_example=ROWS, server=ModelServer(), flavor=OnnxRules())
    served = ml.TrainedModel(None, directory=tmp_path / "right")
    np.testing.assert_allclose(served.predict(ROWS), [3.0, 6.0, 9.0], rtol=1e-6)
    with pytest.raises(DefinitionError, match="the output predictions differs for row 0 of the input example"):
        save_model(RuleModel(3.0), tmp_path / "wrong", input_example=ROWS, server=ModelServer(), flavor=WrongRules())


def test_flavor_that_writes_random_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="'random' writes different bytes into noise for the same model"):
        save_model(RuleModel(3.0), tmp_path, input_example=ROWS, flavor=Random())


def test_flavor_that_is_not_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(RuleModel(3.0), tmp_path, input_example=ROWS)
    monkeypatch.delitem(FLAVORS, "rules")
    with pytest.raises(InputError, match=r"the flavor 'rules' is not registered.*import its module"):
        load_model(tmp_path)


def test_two_flavors_cannot_have_one_name() -> None:
    with pytest.raises(DefinitionError, match=r"Copy cannot be registered: the name 'rules' is that of .*\.Rules"):

        class Copy(Rules):
            pass

    assert type(FLAVORS["rules"]) is Rules


def test_transformer_of_ones_own_is_stored_if_its_package_is_trusted(tmp_path: Path) -> None:
    pipeline = make_pipeline(Doubled(), Ridge()).fit(ROWS, [1.0, 2.0, 3.0])
    with pytest.raises(DefinitionError, match=r"unsupported libraries: tests\..*Doubled.*ml_assets\.ScikitLearn"):
        save_model(pipeline, tmp_path / "refused", input_example=ROWS)
    save_model(pipeline, tmp_path / "kept", input_example=ROWS, flavor=OwnSteps())
    np.testing.assert_array_equal(predict_with(tmp_path / "kept", ROWS), pipeline.predict(ROWS))


def test_serving_in_python_is_refused_when_it_is_declared() -> None:
    with pytest.raises(DefinitionError, match=r"served must be True or False, got 'python'.*served=False"):
        ml.model(served="python")  # type: ignore[arg-type]

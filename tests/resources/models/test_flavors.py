import hashlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml_assets.artifacts.model_server import ModelServer
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import AcceleratorUnavailable, DefinitionError, InputError
from ml_assets.resources.models.flavors import load_model, save_model

# Runs in its own process: trains each estimator and saves it in a folder of its name.
TRAIN = """
import sys
from pathlib import Path
from tests.resources.models.test_flavors import KINDS, fitted, frame
from ml_assets.artifacts.model_server import ModelServer
from ml_assets.resources.models.flavors import save_model
for kind in KINDS:
    save_model(fitted(kind), Path(sys.argv[1], kind), input_example=frame(), server=ModelServer())
"""
KINDS = ["xgboost", "booster", "forest", "boosting", "pipeline"]


def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    columns = {
        "distance": random.integers(100, 3000, 200),
        "wind": random.normal(size=200),
        "delay": random.normal(size=200),
    }
    return pd.DataFrame(columns)


def fitted(kind: str) -> Any:
    import xgboost
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rows = frame()
    target = rows.wind * 2 + rows.distance / 1000
    if kind == "booster":
        return xgboost.train({"max_depth": 3, "nthread": 2}, xgboost.DMatrix(rows, target), num_boost_round=5)
    encoded = ColumnTransformer(
        [("code", OneHotEncoder(), ["distance"]), ("scale", StandardScaler(), ["wind", "delay"])]
    )
    estimators = {
        "xgboost": lambda: xgboost.XGBRegressor(n_estimators=5, max_depth=3, n_jobs=2, random_state=1),
        "forest": lambda: RandomForestRegressor(5, random_state=1),
        "boosting": lambda: HistGradientBoostingRegressor(max_iter=5, random_state=1),
        "pipeline": lambda: make_pipeline(encoded, Ridge()),
    }
    return estimators[kind]().fit(rows, target)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The output of two processes that differ in the order of their sets."""
    folders = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    for folder, seed in zip(folders, "12", strict=True):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", TRAIN, folder], check=True, env=environment)
    return folders


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_that_train_alike_write_the_same_bytes(kind: str, trained: tuple[Path, Path]) -> None:
    first, second = (contents(folder / kind) for folder in trained)
    assert first
    assert first == second


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_model_predicts_what_the_saved_one_does(kind: str, tmp_path: Path) -> None:
    import xgboost

    estimator, rows = fitted(kind), frame()
    save_model(estimator, tmp_path / "model", input_example=rows, server=ModelServer())
    loaded = load_model(tmp_path / "model")
    given = xgboost.DMatrix(rows) if kind == "booster" else rows
    assert type(loaded) is type(estimator)
    np.testing.assert_array_equal(loaded.predict(given), estimator.predict(given))


def test_model_trained_on_other_data_has_other_bytes(tmp_path: Path) -> None:
    from sklearn.linear_model import Ridge

    rows = frame()
    for name, target in (("first", rows.wind), ("second", rows.delay)):
        save_model(Ridge().fit(rows, target), tmp_path / name, input_example=rows)
    assert contents(tmp_path / "first")["model.skops"] != contents(tmp_path / "second")["model.skops"]


def test_directory_holds_weights_signature_class_and_what_is_served(tmp_path: Path) -> None:
    saved = save_model(fitted("xgboost"), tmp_path, input_example=frame(), server=ModelServer())
    assert sorted(contents(tmp_path)) == ["example.json", "model.json", "model.onnx", "model.ubj", "signature.json"]
    example = json.loads((tmp_path / "example.json").read_text())
    assert example["inputs"] == {
        "columns": ["distance", "wind", "delay"],
        "data": frame().head(5).astype(object).to_numpy().tolist(),
    }
    predicted = fitted("xgboost").predict(frame().head(5))
    assert example["outputs"] == {"predictions": pytest.approx(predicted, abs=2e-5)}
    assert json.loads((tmp_path / "model.json").read_text()) == {
        "flavor": "xgboost",
        "class": "xgboost.sklearn.XGBRegressor",
    }
    inputs = json.loads((tmp_path / "signature.json").read_text())["inputs"]
    assert [(column["name"], column["type"]) for column in inputs] == [
        ("distance", "long"),
        ("wind", "double"),
        ("delay", "double"),
    ]
    assert len(saved.input_example) == 5


def test_model_that_is_not_served_is_kept_without_what_is(tmp_path: Path) -> None:
    saved = save_model(fitted("forest"), tmp_path, input_example=frame())
    assert sorted(contents(tmp_path)) == ["model.json", "model.skops", "signature.json"]
    assert saved.largest_difference is None


def test_missing_values_of_the_example_are_null(tmp_path: Path) -> None:
    rows = frame().assign(wind=np.nan)
    save_model(fitted("xgboost"), tmp_path, input_example=rows, server=ModelServer())
    assert {row[1] for row in json.loads((tmp_path / "example.json").read_text())["inputs"]["data"]} == {None}


def test_column_that_a_later_row_misses_is_optional(tmp_path: Path) -> None:
    rows = frame()
    rows.loc[100, "wind"] = np.nan
    save_model(fitted("xgboost"), tmp_path, input_example=rows)
    inputs = json.loads((tmp_path / "signature.json").read_text())["inputs"]
    assert [column["name"] for column in inputs if not column["required"]] == ["wind"]


def test_listing_is_what_the_data_version_is_the_digest_of(tmp_path: Path) -> None:
    saved = save_model(fitted("boosting"), tmp_path / "model", input_example=frame(), server=ModelServer())
    store = DvcStore(remote=str(tmp_path / "remote"), cache=str(tmp_path / "cache"))
    digest = hashlib.md5(saved.listing, usedforsecurity=False).hexdigest()
    assert store.put(saved.directory).version == f"md5:{digest}.dir"


def test_unknown_type_is_refused_naming_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"XGBoost.*scikit-learn.*got builtins\.dict"):
        save_model({}, tmp_path, input_example=frame())


def test_unfitted_estimator_is_refused(tmp_path: Path) -> None:
    from sklearn.linear_model import Ridge

    with pytest.raises(DefinitionError, match="fitted"):
        save_model(Ridge(), tmp_path, input_example=frame())


def test_pipeline_with_a_class_of_another_library_is_refused(tmp_path: Path) -> None:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    pipeline = make_pipeline(FunctionTransformer(own_step), Ridge()).fit(frame(), frame().wind)
    with pytest.raises(DefinitionError, match="own_step"):
        save_model(pipeline, tmp_path, input_example=frame())


def own_step(rows: pd.DataFrame) -> pd.DataFrame:
    return rows


def test_setting_that_the_file_format_forgets_is_refused(tmp_path: Path) -> None:
    import xgboost

    estimator = xgboost.XGBRegressor(n_estimators=2, missing=-1.0).fit(frame(), frame().wind)
    with pytest.raises(DefinitionError, match=r"missing=-1\.0"):
        save_model(estimator, tmp_path, input_example=frame())


@pytest.mark.parametrize("damage", ["remove", "truncate"])
def test_damaged_directory_cannot_be_loaded(damage: str, tmp_path: Path) -> None:
    save_model(fitted("pipeline"), tmp_path, input_example=frame())
    weights = tmp_path / "model.skops"
    if damage == "remove":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(InputError, match=r"the model in .* cannot be read"):
        load_model(tmp_path)


def test_model_that_was_trained_on_the_cpu_instead_of_its_accelerator_is_refused(tmp_path: Path) -> None:
    import xgboost

    if Path("/proc/driver/nvidia/gpus").exists():
        pytest.skip("this machine has an NVIDIA GPU, and nothing to fall back from")
    estimator = xgboost.XGBRegressor(device="cuda", n_estimators=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # XGBoost gives its own warning once in a process
        estimator.fit(frame()[["wind"]], frame()["delay"])
    with pytest.raises(AcceleratorUnavailable, match="found no device cuda"):
        save_model(estimator, tmp_path / "model", input_example=frame()[["wind"]].head(2))

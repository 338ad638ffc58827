"""Accepted metrics and figures of a trained model."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from ml_assets.artifacts.trained_model import TrainedModel, rows_of
from ml_assets.resources.errors import SchemaError

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("name", ["R2 (%)", "", ".", "../auc", "/auc", "a//b", "auc/", "auc\n", "a" * 251, 5])
def test_metric_name_that_mlflow_refuses_is_refused(name: Any) -> None:
    with pytest.raises(SchemaError) as refused:
        TrainedModel(object(), metrics={name: 0.9})
    assert refused.value.what.startswith(f"MLflow does not accept {name!r} as the name of a metric")
    assert "letters, digits" in refused.value.next_step


@pytest.mark.parametrize("name", ["R2", "test/auc", "mean-error: 90.5 per cent", "größe_2", ".hidden", "a" * 250])
def test_metric_name_that_mlflow_takes_is_kept(name: str) -> None:
    from mlflow.utils.validation import _validate_metric

    _validate_metric(name, 0.9, 0, 0)
    assert TrainedModel(object(), metrics={name: 0.9}).metrics == {name: 0.9}


@pytest.mark.parametrize("value", [None, "0.9", [0.9], 1j, float("inf"), float("-inf"), float("nan"), 10**400])
def test_metric_that_is_no_finite_number_is_refused(value: Any) -> None:
    with pytest.raises(SchemaError, match=r"^the metric 'auc' must be a finite number, got .*\. Next: "):
        TrainedModel(object(), metrics={"auc": value})


def test_numbers_of_every_library_are_metrics() -> None:
    metrics = {"a": 1, "b": 0.5, "c": np.float32(0.5), "d": np.int64(3), "e": np.array(0.5), "f": np.bool_(True)}
    assert TrainedModel(object(), metrics=metrics).metrics == metrics


@pytest.mark.parametrize(
    "name", ["a/b", "a\\b", "", ".hidden", "..", "50%", "what?", "a#b", "a\0b", "a\nb", "é" * 130, 5]
)
def test_figure_name_that_is_no_plain_file_name_is_refused(name: Any) -> None:
    with pytest.raises(SchemaError) as refused:
        TrainedModel(object(), figures={name: PNG})
    assert refused.value.what.startswith(f"{name!r} cannot be the name of a figure, ")


@pytest.mark.parametrize("figure", [None, "residuals.png", [PNG], object()])
def test_what_is_no_figure_is_refused(figure: Any) -> None:
    with pytest.raises(SchemaError, match=rf"^the figure 'residuals' must be .*, got {type(figure).__name__}.* Next: "):
        TrainedModel(object(), figures={"residuals": figure})


def test_figures_and_their_bytes_are_kept() -> None:
    figures = {"by hour (late)": Figure(), "importance.v2": PNG}
    assert TrainedModel(object(), figures=figures).figures == figures


@pytest.mark.parametrize("given", [{"metrics": [0.9]}, {"figures": PNG}, {"metrics": None}])
def test_metrics_and_figures_without_names_are_refused(given: dict[str, Any]) -> None:
    (kind,) = given
    with pytest.raises(SchemaError, match=rf"^{kind} must be a mapping from name to value, got "):
        TrainedModel(object(), **given)


def test_loaded_model_needs_no_more_than_its_estimator() -> None:
    assert TrainedModel(object()).input_example is None


@pytest.mark.parametrize("values", ["12", 1.0, None, [None], ["a"], {"last": 1.0}, {0: [1.0]}, [1j]])
def test_history_that_is_no_number_per_step_is_refused(values: Any) -> None:
    with pytest.raises(SchemaError, match=r"^the history of 'loss' must be one number per step, .*\. Next: "):
        TrainedModel(object(), history={"loss": values})


@pytest.mark.parametrize("values", [[], (1, 2.5), np.array([1.0, float("nan")]), {0: 1.0, 10: 0.5}, {np.int64(3): 1}])
def test_history_of_a_metric_is_kept(values: Any) -> None:
    assert TrainedModel(object(), history={"train/loss": values}).history["train/loss"] is values


def test_name_of_a_history_is_that_of_a_metric() -> None:
    with pytest.raises(SchemaError, match="MLflow does not accept"):
        TrainedModel(object(), history={"R2 (%)": [0.9]})


def test_columns_of_an_array_are_named_by_position() -> None:
    rows = rows_of(np.arange(6, dtype="float32").reshape(3, 2))
    assert (list(rows.columns), list(rows.dtypes)) == (["0", "1"], [np.dtype("float32")] * 2)
    frame = pd.DataFrame({"x": [1]})
    assert rows_of(frame) is frame


@pytest.mark.parametrize("rows", [np.arange(3), np.zeros((1, 2, 2)), [[1, 2]], pd.Series([1])])
def test_rows_that_are_no_table_are_refused(rows: Any) -> None:
    with pytest.raises(SchemaError, match=r"expected rows as a pandas DataFrame or a NumPy array .*, got "):
        rows_of(rows)

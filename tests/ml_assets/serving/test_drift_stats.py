from pathlib import Path

import numpy as np
import pytest

from ml_assets.serving.batching import BatchReport
from ml_assets.serving.drift_stats import Observer
from ml_assets.serving.metrics import Metrics
from ml_assets.serving.servable import Servable, open_servable
from tests.ml_assets.serving.models import write_typed


def _report(rows: list[list[float]], predictions: list[object]) -> BatchReport:
    feeds = {"features": np.array(rows, dtype=np.float32)}
    outputs = {"predictions": np.array(predictions)}
    return BatchReport(feeds, outputs, len(rows), 0.001, [0.0])


def test_features_are_summed_up_without_what_is_missing(servable: Servable) -> None:
    observer = Observer(servable)
    observer.add(_report([[1, 2, 0], [float("nan"), 4, 1]], [0.5, 1.5]))
    observer.add(_report([[3, 6, 1]], [2.5]))
    seen = observer.take()
    assert seen is not None
    assert seen.features == {
        "distance": {"rows": 3, "missing": 1, "sum": 4, "squares": 10},
        "hour": {"rows": 3, "missing": 0, "sum": 12, "squares": 56},
        "late": {"rows": 3, "missing": 0, "sum": 2, "squares": 2},
    }
    assert seen.predictions == [0.5, 1.5, 2.5]
    assert observer.take() is None


def test_features_that_have_an_input_each_are_summed_up_and_strings_counted(tmp_path: Path) -> None:
    write_typed(tmp_path / "typed", carrier=False, distance=False)
    typed = open_servable(tmp_path / "typed")
    assert typed.table is not None
    observer = Observer(typed)
    for rows in ([["UA", 7, 1.5, True], [None, 8, None, False]], [["AA", 9, 2.5, True]]):
        feeds = typed.table.feeds(rows, lambda row, column: f"{row}, {column}")
        observer.add(BatchReport(feeds, typed.run(feeds), len(rows), 0.001, [0.0]))
    seen = observer.take()
    assert seen is not None
    assert seen.features == {
        "carrier": {"rows": 3, "missing": 1},
        "flight": {"rows": 3, "missing": 0, "sum": 24, "squares": 194},
        "distance": {"rows": 3, "missing": 1, "sum": 4, "squares": 8.5},
        "late": {"rows": 3, "missing": 0, "sum": 2, "squares": 2},
    }
    metrics = Metrics(None, "", typed.identity)
    metrics.observed(seen)
    text = metrics.exposition().decode()
    assert 'feature_missing{feature="carrier"' in text
    assert 'feature_sum{feature="flight"' in text
    assert 'feature_sum{feature="carrier"' not in text


@pytest.mark.parametrize("labels", [[1, 0, 1], ["late", "early", "late"]])
def test_labels_are_counted(servable: Servable, labels: list[object]) -> None:
    observer = Observer(servable)
    observer.add(_report([[1, 2, 0]] * 3, labels))
    seen = observer.take()
    assert seen is not None
    assert seen.labels == {str(labels[0]): 2, str(labels[1]): 1}
    assert seen.predictions == []


def test_no_more_rows_are_kept_than_it_takes_to_sum_them_up(servable: Servable) -> None:
    observer = Observer(servable)
    batch = _report([[1, 2, 0]] * 1000, [1.0] * 1000)
    taken = [observer.add(batch) for _ in range(10)]
    assert sum(seen.features["hour"]["rows"] for seen in taken if seen) == 10_000


def test_sample_of_predictions_is_bounded(servable: Servable) -> None:
    observer = Observer(servable)
    observer.add(_report([[1, 2, 0]] * 4000, [0.5] * 4000))
    seen = observer.take()
    assert seen is not None
    assert 0 < len(seen.predictions) <= 128

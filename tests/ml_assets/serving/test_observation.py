import numpy as np
import pytest

from ml_assets.serving.batching import BatchReport
from ml_assets.serving.observation import Observer
from ml_assets.serving.servable import Servable
from tests.ml_assets.serving.models import COLUMNS


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
    assert list(seen.features) == list(COLUMNS)
    assert seen.measures["rows"] == [3, 3, 3]
    assert seen.measures["missing"] == [1, 0, 0]
    assert seen.measures["sum"] == [4, 12, 2]
    assert seen.measures["squares"] == [10, 56, 2]
    assert seen.predictions == [0.5, 1.5, 2.5]
    assert observer.take() is None


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
    assert sum(seen.measures["rows"][0] for seen in taken if seen) == 10_000


def test_sample_of_predictions_is_bounded(servable: Servable) -> None:
    observer = Observer(servable)
    observer.add(_report([[1, 2, 0]] * 4000, [0.5] * 4000))
    seen = observer.take()
    assert seen is not None
    assert 0 < len(seen.predictions) <= 128

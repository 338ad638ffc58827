"""Compares the past result with the new one: finds the first difference, and whether it is within tolerance."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ml_assets.artifacts.formats.parquet import Parquet
from ml_assets.artifacts.io_manager import ArtifactStorage
from ml_assets.reproduction.rerun import Rerun
from ml_assets.reproduction.verdict import Outcome
from ml_assets.resources.errors import InputError, StoreError, TrackingError
from ml_assets.resources.identity import Digest
from ml_assets.resources.provenance import Content, ProvenanceRecord

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Comparison", "compare", "first_difference"]


@dataclass(frozen=True)
class Comparison:
    """The outcome, the first difference, and the parts that could not be compared."""

    outcome: Outcome
    difference: str | None = None
    warnings: tuple[str, ...] = ()


def compare(record: ProvenanceRecord, made: Rerun, storage: ArtifactStorage, tolerance: float) -> Comparison:
    """Judge the result of the rerun.

    Args:
        record: the record of the past materialization.
        made: the result of the rerun.
        storage: storage of the past result, and of a model's metrics and input example.
        tolerance: largest accepted difference of numbers; see `first_difference`.
    """
    if record.data_version == made.record.data_version:
        return Comparison(Outcome.IDENTICAL)
    then, now = record.content, made.record.content
    if then is None or now is None or then.format != now.format:
        return Comparison(Outcome.DIFFERENT, f"format: {then and then.format} → {now and now.format}")
    try:
        before = storage.store.fetch(Digest.parse(then.version))
    except StoreError as error:
        gone = f"the recorded result cannot be compared: {error.what}"
        return Comparison(Outcome.DIFFERENT, f"data version: {then.version} → {now.version}", (gone,))
    after = made.store.kept.fetch(Digest.parse(now.version))
    if then.format == "model":
        return _compare_models(record, made, storage, (before, after), tolerance)
    if then.format == "parquet":
        frames = [Parquet().read(path, pd.DataFrame) for path in (before, after)]
        return _judged(first_difference(frames[0], frames[1], tolerance), "only the bytes of the file")
    return Comparison(Outcome.DIFFERENT, _first_file(before, after, then))


def first_difference(before: pd.DataFrame, after: pd.DataFrame, tolerance: float) -> str | None:
    """Return the first difference between two frames, in words; None if there is none.

    Columns, their types, the number of rows and the index must be equal. Numbers may differ by the tolerance times the
    magnitude of the first, or by the tolerance itself if that magnitude is below 1. Missing values are equal.
    """
    if list(before.columns) != list(after.columns):
        return f"columns: {', '.join(map(str, before.columns))} → {', '.join(map(str, after.columns))}"
    for name in before.columns:
        if before[name].dtype != after[name].dtype:
            return f"type of column {name}: {before[name].dtype} → {after[name].dtype}"
    if len(before) != len(after):
        return f"rows: {len(before)} → {len(after)}"
    if not before.index.equals(after.index):
        return "index"
    for name in before.columns:
        first = _first_apart(before[name], after[name], tolerance)
        if first is not None:
            return f"column {name}, row {first}: {_shown(before[name].iloc[first])} → {_shown(after[name].iloc[first])}"
    return None


def _shown(value: Any) -> str:
    return repr(value.item() if hasattr(value, "item") else value)


def _first_apart(before: "pd.Series[Any]", after: "pd.Series[Any]", tolerance: float) -> int | None:
    import numpy as np

    if pd.api.types.is_float_dtype(before.dtype):
        apart = ~_close(
            before.to_numpy(dtype=float, na_value=np.nan), after.to_numpy(dtype=float, na_value=np.nan), tolerance
        )
    elif before.dtype == object:
        apart = np.array([not _same(*pair) for pair in zip(before, after, strict=True)], dtype=bool)
    else:
        apart = ~((before == after) | (before.isna() & after.isna())).fillna(False).to_numpy(dtype=bool)
    return int(apart.argmax()) if apart.any() else None


def _same(before: Any, after: Any) -> bool:
    import numpy as np

    if isinstance(before, np.ndarray) or isinstance(after, np.ndarray):
        return bool(np.array_equal(before, after))
    return bool(before == after) or (pd.isna(before) is True and pd.isna(after) is True)


def _close(before: "np.ndarray[Any, Any]", after: "np.ndarray[Any, Any]", tolerance: float) -> "np.ndarray[Any, Any]":
    import numpy as np

    with np.errstate(invalid="ignore"):
        near = np.isfinite(before) & (np.abs(after - before) <= tolerance * np.maximum(1.0, np.abs(before)))
    close: np.ndarray[Any, Any] = near | (before == after) | (np.isnan(before) & np.isnan(after))
    return close


def _judged(difference: str | None, otherwise: str, warnings: tuple[str, ...] = ()) -> Comparison:
    outcome = Outcome.DIFFERENT if difference else Outcome.WITHIN_TOLERANCE
    return Comparison(outcome, difference or otherwise, warnings)


def _first_file(before: Path, after: Path, content: Content) -> str:
    if not before.is_dir() or not after.is_dir():
        return f"bytes of the file (recorded size {content.size}, new size {after.stat().st_size})"
    then, now = _files(before), _files(after)
    for name in sorted({*then, *now}):
        if name not in then or name not in now:
            return f"file {name}: only in the {'recorded' if name in then else 'new'} result"
        if then[name].read_bytes() != now[name].read_bytes():
            return f"bytes of file {name}"
    return "listing of the directory"


def _files(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


def _compare_models(
    record: ProvenanceRecord, made: Rerun, storage: ArtifactStorage, models: tuple[Path, Path], tolerance: float
) -> Comparison:
    from ml_assets.resources.models.flavors import predict_with
    from ml_assets.resources.tracking.logged_model import tracked_model

    for name, what in (("model.json", "library or class"), ("signature.json", "signature")):
        before, after = ((folder / name).read_text() for folder in models)
        if before != after:
            return Comparison(Outcome.DIFFERENT, f"{what} of the model")
    try:
        then, now = (
            tracked_model(tracking.tracking_uri, tracking.experiment, each.mlflow.run_id if each.mlflow else "(none)")
            for each, tracking in ((record, storage.tracking), (made.record, made.tracking))
        )
    except TrackingError as error:
        gone = f"the recorded metrics and predictions are unknown: {error.what}"
        return Comparison(Outcome.DIFFERENT, "weights of the model", (gone,))
    difference = next(_apart(then.metrics, now.metrics, tolerance), None)
    if difference is None:
        try:
            predicted = [_column(predict_with(folder, then.input_example)) for folder in models]
        except InputError as error:
            return Comparison(
                Outcome.DIFFERENT, "weights of the model", (f"predictions cannot be compared: {error.what}",)
            )
        difference = first_difference(predicted[0], predicted[1], tolerance)
        difference = f"prediction on the recorded input example, {difference}" if difference else None
    return _judged(difference, "only the weights of the model, not its metrics and predictions")


def _apart(then: Mapping[str, float], now: Mapping[str, float], tolerance: float) -> Iterator[str]:
    import numpy as np

    for name in sorted({*then, *now}):
        if name not in then or name not in now:
            yield f"metric {name}: {then.get(name)} → {now.get(name)}"
        elif not _close(np.array([then[name]]), np.array([now[name]]), tolerance)[0]:
            yield f"metric {name}: {then[name]!r} → {now[name]!r}"


def _column(predicted: Any) -> pd.DataFrame:
    import numpy as np

    values = np.asarray(predicted)
    return pd.DataFrame(values.reshape(len(values), -1)).rename(columns=str)

"""Models as directories of canonical bytes: the same training gives the same bytes and the same data version.

A directory holds ``model.json`` (which library and class), ``signature.json`` and the weights in the library's own
format: ``model.ubj`` for XGBoost; ``model.skops`` for scikit-learn, because it is MLflow's only format that
executes no code from the file on load, and because it can be written without memory addresses and times;
``model.onnx`` and ``weights.safetensors`` for PyTorch (see `torch`).
A served model adds ``model.onnx``, and ``example.json`` with a few rows for the warm-up. MLflow's directory holds these
files under ``servable/``, with the listing whose digest is the data version. A server can verify each of them and needs
no others.
"""

import hashlib
import importlib.metadata
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from ml_assets.resources.dvc.scan import listing
from ml_assets.resources.errors import DefinitionError, InputError
from ml_assets.resources.mlflow_internals import no_map_of_all_packages
from ml_assets.resources.models.libraries import FLAVORS, Flavor, accepted, class_name, flavor_of
from ml_assets.resources.models.onnx import ONNX_FILE, export_onnx

__all__ = ["SavedModel", "is_served", "load_model", "log_model", "predict", "predict_with", "save_model"]

_DESCRIPTION = "model.json"
_SIGNATURE = "signature.json"
_EXAMPLE = "example.json"
_EXAMPLE_ROWS = 5
_COMPARED_ROWS = 1000
_SERVABLE = "servable"
_LISTING = "listing.json"


@dataclass(frozen=True)
class SavedModel:
    """A model in its canonical directory, with a few example rows.

    Attributes:
        largest_difference: between its predictions and those of its ONNX form; None without ONNX form.
    """

    directory: Path
    flavor: str
    input_example: pd.DataFrame
    largest_difference: float | None

    @property
    def listing(self) -> bytes:
        """Return the bytes whose MD5 is the directory's DVC hash: names and MD5 of its files."""
        files = sorted(self.directory.iterdir())
        return listing({file.name: hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() for file in files})


def save_model(
    estimator: Any, destination: Path, *, input_example: pd.DataFrame, signature: Any = None, served: bool = True
) -> SavedModel:
    """Write a fitted estimator as a canonical directory, and verify that it predicts the same when loaded.

    Args:
        estimator: an XGBoost ``Booster`` or estimator, a scikit-learn estimator that predicts, or a PyTorch module.
        destination: the directory, created if it does not exist.
        input_example: rows as ``predict`` accepts them; the first five are stored, and up to a thousand are compared.
        signature: an MLflow ``ModelSignature``; inferred from these rows and their prediction if left out, so a
            column is optional if it has a missing value there.
        served: True to write it as ONNX too.

    Raises:
        DefinitionError: the estimator's type is not supported, it cannot predict the example, it predicts differently
            when loaded, or it must be served and cannot be converted to ONNX.
    """
    flavor = flavor_of(estimator)
    rows = input_example.head(_COMPARED_ROWS).reset_index(drop=True)
    example, predicted = rows.head(_EXAMPLE_ROWS), _predict(flavor, estimator, rows)
    destination.mkdir(parents=True, exist_ok=True)
    flavor.write(estimator, destination / flavor.file, rows)
    _write_json(destination / _DESCRIPTION, {"flavor": flavor.name, "class": class_name(estimator)})
    _write_json(destination / _SIGNATURE, _signature_tree(signature or _infer_signature(rows, predicted)))
    loaded = load_model(destination)
    if not _equal(predicted, _predict(flavor, loaded, rows)):
        raise DefinitionError(
            f"{class_name(estimator)} predicts different values after saving and loading",
            next_step="use only settings that the library's file format stores",
        )
    difference = None
    if served:
        difference = export_onnx(loaded, destination / ONNX_FILE, rows, predicted)
        _write_json(destination / _EXAMPLE, _rows(example))
    return SavedModel(destination, flavor.name, example, difference)


def load_model(directory: Path) -> Any:
    """Load the estimator of a canonical directory, as its own library's class.

    Raises:
        InputError: the directory is not a canonical model directory, or its content cannot be read.
    """
    try:
        description = json.loads((directory / _DESCRIPTION).read_text())
        flavor = FLAVORS[description["flavor"]]
        return flavor.read(directory / flavor.file, description["class"])
    except Exception as error:
        raise InputError(
            f"the model in {directory} cannot be read: {type(error).__name__}: {error}",
            next_step=f"materialize the model again, or read it with a version of ml-assets that supports {accepted()}",
        ) from error


def is_served(directory: Path) -> bool:
    """Return True if the model of a canonical directory was written to be served."""
    return (directory / _EXAMPLE).exists()


def predict(estimator: Any, frame: pd.DataFrame) -> Any:
    """Return an estimator's predictions, one value or row of values for each row.

    Raises:
        DefinitionError: its type is not supported, or it rejects the frame.
    """
    return _predict(flavor_of(estimator), estimator, frame)


def predict_with(directory: Path, frame: pd.DataFrame) -> Any:
    """Return the predictions of a canonical directory's model, one value or row of values for each row.

    Raises:
        InputError: the directory is not a canonical model directory, or the model rejects the frame.
    """
    try:
        return predict(load_model(directory), frame)
    except DefinitionError as error:
        raise InputError(error.what, next_step="pass the columns that the model was fitted on") from error


def log_model(saved: SavedModel, *, run_id: str, name: str, tags: dict[str, str]) -> str:
    """Log the model unchanged as an MLflow logged model of a run, and return the logged model's id.

    MLflow's flavor writes the directory that MLflow can serve; its weights are then replaced with those of `saved`.
    """
    from mlflow.models import Model, ModelSignature

    flavor = FLAVORS[saved.flavor]
    estimator = load_model(saved.directory)
    signature = json.loads((saved.directory / _SIGNATURE).read_text())

    def write(path: str, **options: Any) -> None:
        flavor.write_for_mlflow(estimator, path, **options)
        (Path(path) / flavor.file).write_bytes((saved.directory / flavor.file).read_bytes())
        if saved.largest_difference is not None:
            _write_servable(saved, Path(path) / _SERVABLE)

    with _without_integer_hint(), no_map_of_all_packages():
        information = Model.log(
            artifact_path=None,
            name=name,
            flavor=SimpleNamespace(__name__=f"mlflow.{flavor.name}", save_model=write),
            run_id=run_id,
            tags=tags,
            signature=ModelSignature.from_dict({part: json.dumps(columns) for part, columns in signature.items()}),
            input_example=saved.input_example,
            # Given, because otherwise MLflow loads the model in a new process to infer them, which takes many seconds.
            pip_requirements=_requirements(flavor),
        )
    return str(information.model_id)


def _predict(flavor: Flavor, estimator: Any, example: pd.DataFrame) -> Any:
    try:
        return flavor.predict(estimator, example)
    except Exception as error:
        raise DefinitionError(
            f"{class_name(estimator)} cannot predict its input example: {type(error).__name__}: {error}",
            next_step="return a fitted estimator, and an input example with the columns that it was fitted on",
        ) from error


def _equal(before: Any, after: Any) -> bool:
    import numpy

    first, second = numpy.asarray(before), numpy.asarray(after)
    if first.dtype.kind == "f":
        # Devices sum in different orders.
        return first.shape == second.shape and bool(numpy.allclose(first, second, rtol=1e-4, equal_nan=True))
    return bool(numpy.array_equal(first, second))


def _infer_signature(example: pd.DataFrame, predicted: Any) -> Any:
    from mlflow.models import infer_signature

    with _without_integer_hint():
        return infer_signature(example, predicted)


@contextmanager
def _without_integer_hint() -> Iterator[None]:
    """Suppress MLflow's warning that missing values turn integer columns into floats; here frames keep their types."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*schema contains integer column", category=UserWarning)
        yield


def _signature_tree(signature: Any) -> dict[str, Any]:
    return {part: json.loads(columns) for part, columns in signature.to_dict().items() if columns is not None}


def _requirements(flavor: Flavor) -> list[str]:
    found = []
    for distribution in ("mlflow", *flavor.distributions):
        try:
            found.append(f"{distribution}=={importlib.metadata.version(distribution)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _write_servable(saved: SavedModel, folder: Path) -> None:
    folder.mkdir()
    for name in (ONNX_FILE, _SIGNATURE, _EXAMPLE):
        (folder / name).write_bytes((saved.directory / name).read_bytes())
    (folder / _LISTING).write_bytes(saved.listing)


def _rows(frame: pd.DataFrame) -> dict[str, Any]:
    """Return columns and rows as JSON values; missing values are null."""
    columns = [
        [None if missing else value for value, missing in zip(frame[name].tolist(), frame[name].isna(), strict=True)]
        for name in frame
    ]
    return {"columns": list(map(str, frame.columns)), "data": [list(row) for row in zip(*columns, strict=True)]}


def _write_json(file: Path, tree: dict[str, Any]) -> None:
    file.write_text(json.dumps(tree, indent=1, sort_keys=True) + "\n")

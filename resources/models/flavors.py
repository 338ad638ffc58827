"""Models as directories of canonical bytes: the same training gives the same bytes and the same data version.

A directory holds ``model.json`` (which library and class), ``signature.json`` and the weights in the library's own
format: ``model.ubj`` for XGBoost; ``model.skops`` for scikit-learn, because it is MLflow's only format that
executes no code from the file on load, and because it can be written without memory addresses and times;
``model.onnx`` and ``weights.safetensors`` for PyTorch (see `torch`).
A served model adds ``model.onnx``, and ``example.json`` with a few rows and their outputs (see `served`). MLflow's
directory holds these files under ``servable/``, with the listing whose digest is the data version. A server can verify
each of them and needs no others.
"""

import hashlib
import importlib.metadata
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pandas as pd

from ml_assets.resources.dvc.scan import listing
from ml_assets.resources.errors import DefinitionError, InputError, MissingPackage
from ml_assets.resources.mlflow_internals import no_map_of_all_packages
from ml_assets.resources.models.columns import columns_of
from ml_assets.resources.models.graph import ONNX_FILE
from ml_assets.resources.models.interface import Flavor, class_name
from ml_assets.resources.models.libraries import flavor_named, flavor_of
from ml_assets.resources.models.outputs import PREDICTIONS
from ml_assets.resources.models.served import EXAMPLE_FILE, Server, write_served

__all__ = ["SavedModel", "is_served", "load_model", "log_model", "predict", "predict_with", "save_model"]

_DESCRIPTION = "model.json"
_SIGNATURE = "signature.json"
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
        contents = _contents(self.directory)
        return listing({name: hashlib.md5(each, usedforsecurity=False).hexdigest() for name, each in contents.items()})


def save_model(
    estimator: Any,
    destination: Path,
    *,
    input_example: pd.DataFrame,
    server: Server | None = None,
    flavor: Flavor | None = None,
) -> SavedModel:
    """Write a fitted estimator as a canonical directory, and verify that it predicts the same when loaded.

    Args:
        estimator: an XGBoost ``Booster`` or estimator, a scikit-learn estimator that predicts, or a PyTorch module.
        destination: the directory, created if it does not exist.
        input_example: rows as ``predict`` accepts them; the first five are stored, and up to a thousand are compared.
            They and their prediction give the signature, so a column is optional if it has a missing value there.
        server: the model server's code, which must predict the same; None for a model that is not served.
        flavor: operations of its library; found by its type if left out.

    Raises:
        DefinitionError: the estimator's type is not supported, it cannot predict the example, it predicts differently
            when loaded, or it must be served and cannot be.
    """
    flavor = flavor or flavor_of(estimator)
    _check_names(input_example)
    rows = input_example.head(_COMPARED_ROWS).reset_index(drop=True)
    predicted = _predict(flavor, estimator, rows)
    destination.mkdir(parents=True, exist_ok=True)
    flavor.write(estimator, destination / flavor.file, rows)
    if not type(flavor).__module__.startswith("ml_assets."):
        _check_bytes(flavor, estimator, destination, rows)
    _write_json(destination / _DESCRIPTION, {"flavor": flavor.name, "class": class_name(estimator)})
    signature = _infer_signature(rows, predicted)
    _write_json(destination / _SIGNATURE, signature)
    loaded = load_model(destination)
    if not _equal(predicted, _predict(flavor, loaded, rows)):
        raise DefinitionError(
            f"{class_name(estimator)} predicts different values after saving and loading",
            next_step="use only settings that the library's file format stores",
        )
    difference = None
    if server is not None:
        difference = write_served(estimator, loaded, flavor, destination, rows, columns_of(signature), server)
    example = rows.head(_EXAMPLE_ROWS).rename(columns=str)
    return SavedModel(destination, flavor.name, example, difference)


def load_model(directory: Path) -> Any:
    """Load the estimator of a canonical directory, as its own library's class.

    Raises:
        InputError: the directory is not a canonical model directory, or its content cannot be read.
        MissingPackage: the model's library is not installed.
    """
    try:
        flavor, recorded_class = _description(directory)
        return flavor.read(directory / flavor.file, recorded_class)
    except MissingPackage:
        raise
    except DefinitionError as error:
        raise InputError(f"the model in {directory} cannot be read: {error.what}", next_step=error.next_step) from error
    except Exception as error:
        raise InputError(
            f"the model in {directory} cannot be read: {type(error).__name__}: {error}",
            next_step="materialize the model again",
        ) from error


def is_served(directory: Path) -> bool:
    """Return True if the model of a canonical directory was written to be served."""
    return (directory / EXAMPLE_FILE).exists()


def predict(estimator: Any, frame: pd.DataFrame, directory: Path | None = None) -> Any:
    """Return an estimator's predictions, one value or row of values for each row.

    Args:
        estimator: the estimator.
        frame: the rows.
        directory: the canonical directory that it was loaded from, which records its flavor.

    Raises:
        DefinitionError: its type is not supported, or it rejects the frame.
    """
    return _predict(_description(directory)[0] if directory else flavor_of(estimator), estimator, frame)


def predict_with(directory: Path, frame: pd.DataFrame) -> Any:
    """Return the predictions of a canonical directory's model, one value or row of values for each row.

    Raises:
        InputError: the directory is not a canonical model directory, or the model rejects the frame.
    """
    try:
        return predict(load_model(directory), frame, directory)
    except DefinitionError as error:
        raise InputError(error.what, next_step="pass the columns that the model was fitted on") from error


def log_model(saved: SavedModel, *, run_id: str, name: str, tags: dict[str, str]) -> str:
    """Log the model unchanged as an MLflow logged model of a run, and return the logged model's id.

    MLflow's flavor writes the directory that MLflow can serve; its weights are then replaced with those of `saved`.
    """
    from mlflow.models import Model, ModelSignature

    flavor = flavor_named(saved.flavor)
    estimator = load_model(saved.directory)
    signature = json.loads((saved.directory / _SIGNATURE).read_text())

    def write(path: str, **options: Any) -> None:
        flavor.write_for_mlflow(estimator, saved.directory, path, **options)
        if (Path(path) / flavor.file).exists():
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


def _description(directory: Path) -> tuple[Flavor, str]:
    """Return the recorded flavor and class of a canonical directory."""
    tree = json.loads((directory / _DESCRIPTION).read_text())
    return flavor_named(tree["flavor"]), tree["class"]


def _check_bytes(flavor: Flavor, estimator: Any, written: Path, rows: pd.DataFrame) -> None:
    """Raise an error if a project's flavor writes other bytes the second time: the data version would be random."""
    with TemporaryDirectory(prefix="ml-assets-model-") as folder:
        flavor.write(estimator, Path(folder) / flavor.file, rows)
        different = [
            name for name, content in _contents(Path(folder)).items() if content != (written / name).read_bytes()
        ]
    if different:
        raise DefinitionError(
            f"the flavor {flavor.name!r} writes different bytes into {different[0]} for the same model",
            next_step="write no times, random names, or the order of a set",
        )


def _contents(directory: Path) -> dict[str, bytes]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {file.relative_to(directory).as_posix(): file.read_bytes() for file in files}


def _predict(flavor: Flavor, estimator: Any, example: pd.DataFrame) -> Any:
    try:
        return flavor.methods(estimator)[PREDICTIONS](example)
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


def _check_names(example: pd.DataFrame) -> None:
    names = [str(name) for name in example.columns]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DefinitionError(
            f"the input example has several columns named {repeated[0]!r}",
            next_step="give each column a name of its own; as text they must differ too",
        )


def _infer_signature(example: pd.DataFrame, predicted: Any) -> dict[str, Any]:
    from mlflow.models import infer_signature

    with _without_integer_hint():
        signature = infer_signature(example.rename(columns=str), predicted)
    return {part: json.loads(columns) for part, columns in signature.to_dict().items() if columns is not None}


@contextmanager
def _without_integer_hint() -> Iterator[None]:
    """Suppress MLflow's warning that missing values turn integer columns into floats; here frames keep their types."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*schema contains integer column", category=UserWarning)
        yield


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
    for name in (ONNX_FILE, _SIGNATURE, EXAMPLE_FILE):
        (folder / name).write_bytes((saved.directory / name).read_bytes())
    (folder / _LISTING).write_bytes(saved.listing)


def _write_json(file: Path, tree: dict[str, Any]) -> None:
    file.write_text(json.dumps(tree, indent=1, sort_keys=True) + "\n")

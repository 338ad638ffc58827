"""The metrics and the input example of a model, from its MLflow run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from ml_assets.resources.errors import TrackingError
from ml_assets.resources.tracking.store import open_store, tracking_errors
from ml_assets.resources.tracking.tags import RunTags

__all__ = ["TrackedModel", "set_run_tags", "tracked_model"]

_FILES = ("MLmodel", "input_example.json")


@dataclass(frozen=True)
class TrackedModel:
    """Metrics by name, and the input example with the types of its signature."""

    metrics: Mapping[str, float]
    input_example: pd.DataFrame


def tracked_model(uri: str, experiment: str, run_id: str) -> TrackedModel:
    """Read the run of a model.

    Args:
        uri: of the tracking server or file.
        experiment: name of any experiment, used to check that a server answers.
        run_id: id of the run.

    Raises:
        TrackingError: run, model or example are gone, or the server does not answer or refuses.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.models import Model

    client, _ = open_store(uri, experiment, None)
    with tracking_errors(uri), TemporaryDirectory(prefix="ml-assets-model-") as folder:
        run = client.get_run(run_id)
        if run.info.lifecycle_stage == "deleted":
            raise _gone(run_id, "was deleted")
        models = run.outputs.model_outputs if run.outputs else []
        if not models:
            raise _gone(run_id, "has no model")
        # The function may have logged models of its own, which do not have the data version.
        found = [client.get_logged_model(each.model_id) for each in models]
        own = [each for each in found if RunTags.DATA_VERSION in each.tags] or found
        where = own[-1].artifact_location
        for name in _FILES:
            download_artifacts(artifact_uri=f"{where}/{name}", dst_path=folder, tracking_uri=uri)
        example = Model.load(str(Path(folder) / _FILES[0])).load_input_example(folder)
        if not isinstance(example, pd.DataFrame):
            raise _gone(run_id, "has no input example")
        return TrackedModel(dict(run.data.metrics), example)


def set_run_tags(uri: str, experiment: str, run_id: str, tags: Mapping[str, str]) -> None:
    """Add tags to a run that has ended, or replace those of the same name.

    Raises:
        TrackingError: the run is gone, or the server does not answer or refuses.
    """
    from mlflow.entities import RunTag

    client, _ = open_store(uri, experiment, None)
    with tracking_errors(uri):
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def _gone(run_id: str, why: str) -> TrackingError:
    return TrackingError(f"the MLflow run {run_id} {why}", next_step="restore it, if possible")

"""The artifacts of MLflow runs: their size, and their deletion while runs and metrics stay."""

from collections.abc import Iterable, Iterator
from typing import Any

from ml_assets.resources.tracking.store import open_store, tracking_errors

__all__ = ["RunArtifacts"]

_COLLECTED = "ml_assets.collected"
"""Tag of a run whose artifacts were deleted: the time, in ISO 8601."""


class RunArtifacts:
    """The artifacts and logged models of runs, accessed through MLflow.

    Args:
        uri: of the tracking server.
        experiment: name of any experiment, used to check that the server answers.

    Raises:
        TrackingError: the server does not answer, or refuses.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self._uri = uri
        self._client, _ = open_store(uri, experiment, None)

    def sizes(self, run_ids: Iterable[str]) -> dict[str, int]:
        """Return the artifact bytes of runs; omit runs that do not exist or have no artifacts (any more).

        Raises:
            TrackingError: the server does not answer, or refuses.
        """
        sizes = {run_id: sum(map(_size, self._places(run_id))) for run_id in run_ids}
        return {run_id: size for run_id, size in sizes.items() if size}

    def remove(self, run_id: str, moment: str) -> None:
        """Delete a run's artifacts and logged models, and tag the run with the time.

        Raises:
            TrackingError: the server does not answer, or refuses.
        """
        with tracking_errors(self._uri):
            for place in self._places(run_id):
                for entry in place.list_artifacts():
                    place.delete_artifacts(entry.path)
            self._client.set_tag(run_id, _COLLECTED, moment)

    def _places(self, run_id: str) -> list[Any]:
        """Return MLflow's repositories of the run's artifacts, and of the models that it logged."""
        from mlflow.exceptions import MlflowException
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with tracking_errors(self._uri):
            try:
                run = self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return []
            models = [self._client.get_logged_model(each.model_id) for each in _logged(run)]
            locations = [run.info.artifact_uri, *(model.artifact_location for model in models)]
            return [get_artifact_repository(location, tracking_uri=self._uri) for location in locations]


def _logged(run: Any) -> list[Any]:
    return list(run.outputs.model_outputs) if run.outputs else []


def _size(place: Any) -> int:
    return sum(entry.file_size or 0 for entry in _files(place, None))


def _files(place: Any, folder: str | None) -> Iterator[Any]:
    for entry in place.list_artifacts(folder):
        if entry.is_dir:
            yield from _files(place, entry.path)
        else:
            yield entry

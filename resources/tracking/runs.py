"""MLflow runs: one for each asset, partition and attempt, with its recorded values.

`MlflowTracking.run` opens a run around a step's work and ends it with the status of that work. A killed step cannot end
its run; `MlflowTracking.close_abandoned` ends it instead.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dagster import ConfigurableResource
from pydantic import field_validator

from ml_assets.resources.errors import TrackingError
from ml_assets.resources.machine.process_identity import ProcessIdentity
from ml_assets.resources.mlflow_internals import fluent_state_kept
from ml_assets.resources.provenance import MlflowRun
from ml_assets.resources.sqlite_url import sqlite_file
from ml_assets.resources.tracking.open_run import DESCRIPTION_TAG, TrackedRun
from ml_assets.resources.tracking.patience import Patience
from ml_assets.resources.tracking.store import (
    check_server,
    check_uri,
    open_store,
    public_uri,
    tracking_errors,
)
from ml_assets.resources.tracking.tags import RunTags
from ml_assets.resources.tracking.user_code import close_left_open, contained

__all__ = ["MlflowTracking"]

_logger = logging.getLogger(__name__)
_NOTE_LENGTH = 5000


class MlflowTracking(ConfigurableResource[None]):
    """The tracking server, or a local SQLite file."""

    tracking_uri: str
    """``sqlite:////absolute/path.db`` or ``http(s)://server``."""
    experiment: str
    artifact_location: str | None = None
    """Artifact location of a new experiment; by default beside a SQLite file, or chosen by the server."""
    ui_url: str | None = None
    """Address of the MLflow UI, as browsers reach it."""
    wait_seconds: float = 600
    """Longest wait of a step, in all, for a server that stops answering while the step runs."""

    @field_validator("tracking_uri")
    @classmethod
    def _is_accepted(cls, uri: str) -> str:
        check_uri(uri)
        return uri

    @contextmanager
    def run(self, *, name: str, tags: Mapping[str, str], parameters: Mapping[str, Any]) -> Iterator[TrackedRun]:
        """Record the block as one MLflow run, which is also the active run of MLflow's own functions.

        The run ends as FINISHED, as FAILED after an exception, or as KILLED after an interruption, with the error in
        its description. It names its process, and the attempt that it repeats.

        Args:
            name: the run's name.
            tags: by the names of `RunTags`; asset, Dagster run, step and attempt let the next attempt find this one.
            parameters: of any type that can be printed; nested mappings become dotted names.

        Raises:
            TrackingError: the store does not answer within seconds or refuses, at the start or when the run ends.
        """
        client, experiment_id = open_store(self.tracking_uri, self.experiment, self.artifact_location)
        with tracking_errors(self.tracking_uri):
            repeated = _close_earlier_attempts(client, experiment_id, tags)
            own = _columns(tags) | {RunTags.PROCESS: str(ProcessIdentity.current())}
            own |= {RunTags.REPEATS: repeated} if repeated else {}
            created = client.create_run(experiment_id, run_name=name, tags={**tags, **own})
        identity = self._identity(created.info.run_id, experiment_id)
        patience = Patience(self.tracking_uri, self.experiment, self.wait_seconds)
        tracked = TrackedRun(client, identity, {**tags, **own}, patience)
        with _fluent_state(self.tracking_uri):
            try:
                with contained(tracked):
                    with tracking_errors(self.tracking_uri):
                        _activate(created.info.run_id, experiment_id)
                    tracked.log_parameters(parameters)
                    yield tracked
            except BaseException as error:
                unreachable = self._end_after(error, tracked)
                if unreachable and type(error).__module__.startswith("mlflow."):
                    raise unreachable from error
                raise
            tracked.end("FINISHED")
            patience.repeat(lambda: close_left_open(tracked, "FINISHED"))

    def close_abandoned(self, has_ended: Callable[[Mapping[str, str]], bool]) -> list[str]:
        """End abandoned runs as KILLED. Safe to call often, and from several processes at once.

        Args:
            has_ended: returns True if the Dagster run or step that these tags (of `RunTags`) name has ended; called
                only if the run's process is not known to be gone.

        Returns:
            The ids of the runs that were ended.

        Raises:
            TrackingError: the store does not answer within seconds or refuses.
        """
        file = sqlite_file(self.tracking_uri)
        if file is not None and not file.exists():
            return []
        client, experiment_id = open_store(self.tracking_uri, self.experiment, self.artifact_location)
        with tracking_errors(self.tracking_uri):
            running = _search(client, experiment_id, "attributes.status = 'RUNNING'")
        closed = []
        for run in running:
            tags = run.data.tags
            if RunTags.DAGSTER_RUN in tags and (_is_gone(tags) or has_ended(tags)):
                with tracking_errors(self.tracking_uri):
                    if _kill(client, run.info.run_id, "its process ended without ending the run"):
                        closed.append(run.info.run_id)
        return closed

    def _identity(self, run_id: str, experiment_id: str) -> MlflowRun:
        page = f"{self.ui_url.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}" if self.ui_url else None
        return MlflowRun(
            run_id=run_id, experiment_id=experiment_id, tracking_uri=public_uri(self.tracking_uri), url=page
        )

    def _end_after(self, error: BaseException, tracked: TrackedRun) -> TrackingError | None:
        """End the run with the status for `error`, without hiding that error; return the reason if this fails."""
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        try:
            if sqlite_file(self.tracking_uri) is None:
                check_server(self.tracking_uri, self.experiment)
            with tracking_errors(self.tracking_uri):
                tracked.client.set_tag(tracked.identity.run_id, DESCRIPTION_TAG, _described(error, tracked.tags))
                tracked.client.set_terminated(tracked.identity.run_id, status)
                close_left_open(tracked, status)
        except TrackingError as unreachable:
            note = (
                f"The MLflow run {tracked.identity.run_id} could not be ended ({unreachable.what}); "
                "it will be closed as killed when the server answers again."
            )
            error.add_note(note)
            _logger.warning(note)
            return unreachable
        return None


def _columns(tags: Mapping[str, str]) -> dict[str, str]:
    """Return MLflow's own tags, which its UI shows as columns."""
    columns = {
        "mlflow.user": tags.get(RunTags.LAUNCHED_BY),
        "mlflow.source.name": tags.get(RunTags.ASSET),
        "mlflow.source.type": "JOB",
        "mlflow.source.git.commit": tags.get(RunTags.COMMIT),
    }
    return {name: value for name, value in columns.items() if value}


def _described(error: BaseException, tags: Mapping[str, str]) -> str:
    """Return the error, followed by the run's description."""
    told = f"{type(error).__name__}: {error}"[:_NOTE_LENGTH]
    return "\n\n".join(text for text in (told, tags.get(DESCRIPTION_TAG)) if text)


def _close_earlier_attempts(client: Any, experiment_id: str, tags: Mapping[str, str]) -> str | None:
    """End the open runs of earlier attempts at this step, and return the id of the attempt that this one repeats.

    A Dagster run has one attempt at a step at a time, so any other RUNNING run is dead. The first attempt of a
    run that re-executes another repeats the last attempt there.
    """
    earlier = [run for run in _attempts(client, experiment_id, tags) if _attempt(run.data.tags) < _attempt(tags)]
    for run in earlier:
        if run.info.status == "RUNNING":
            _kill(client, run.info.run_id, "a later attempt began")
    if not earlier and RunTags.DAGSTER_PARENT_RUN in tags:
        parent = {**tags, RunTags.DAGSTER_RUN: tags[RunTags.DAGSTER_PARENT_RUN]}
        earlier = _attempts(client, experiment_id, parent)
    return max(earlier, key=lambda run: (_attempt(run.data.tags), run.info.start_time)).info.run_id if earlier else None


def _attempts(client: Any, experiment_id: str, tags: Mapping[str, str]) -> list[Any]:
    """Return the attempts at the step that the tags name, for the same asset and partition."""
    if not (tags.get(RunTags.DAGSTER_RUN) and tags.get(RunTags.DAGSTER_STEP)):
        return []
    condition = " and ".join(f"tags.`{name}` = '{tags[name]}'" for name in (RunTags.DAGSTER_RUN, RunTags.DAGSTER_STEP))
    same = (RunTags.ASSET, RunTags.PARTITION)
    found = _search(client, experiment_id, condition)
    return [run for run in found if all(run.data.tags.get(name) == tags.get(name) for name in same)]


def _attempt(tags: Mapping[str, str]) -> int:
    return int(tags.get(RunTags.ATTEMPT, 0))


def _search(client: Any, experiment_id: str, condition: str) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], condition, max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _is_gone(tags: Mapping[str, str]) -> bool:
    try:
        return ProcessIdentity.parse(tags[RunTags.PROCESS]).is_gone()
    except (KeyError, ValueError):
        return False


def _kill(client: Any, run_id: str, reason: str) -> bool:
    """End a run as KILLED, unless it has ended meanwhile."""
    if client.get_run(run_id).info.status != "RUNNING":
        return False
    client.set_tag(run_id, DESCRIPTION_TAG, f"Closed as killed: {reason}.")
    with _quiet():
        client.set_terminated(run_id, "KILLED")
    return True


def _activate(run_id: str, experiment_id: str) -> None:
    import mlflow

    mlflow.set_experiment(experiment_id=experiment_id)
    # Nested, because the process may have an active run already.
    mlflow.start_run(run_id=run_id, nested=True)


@contextmanager
def _fluent_state(uri: str) -> Iterator[None]:
    """Point MLflow's own functions at the store and its registry, and restore their previous state afterwards."""
    import mlflow

    with fluent_state_kept(), _quiet():
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress MLflow's output of the tracking URI at the end of a run, because the URI may hold a password."""
    from mlflow import environment_variables

    variable = environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT
    before = variable.get_raw()
    variable.set(True)
    try:
        yield
    finally:
        variable.unset() if before is None else variable.set(before)

"""MLflow: one run for each asset, partition and attempt, and what is recorded in it.

`MlflowTracking.run` opens a run around a step's work and ends it as what became of that work. A step that is killed
outright cannot do so; `MlflowTracking.close_abandoned` does it in its place.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dagster import ConfigurableResource
from pydantic import field_validator

from ml_assets.resources.errors import TrackingError
from ml_assets.resources.machine.process_identity import ProcessIdentity
from ml_assets.resources.provenance import MlflowRun
from ml_assets.resources.tracking.open_run import DESCRIPTION_TAG, TrackedRun
from ml_assets.resources.tracking.store import (
    check_server,
    check_uri,
    open_store,
    public_uri,
    sqlite_file,
    tracking_errors,
)
from ml_assets.resources.tracking.tags import RunTags

__all__ = ["MlflowTracking"]

_logger = logging.getLogger(__name__)
_NOTE_LENGTH = 5000


class MlflowTracking(ConfigurableResource[None]):
    """The tracking server, or the SQLite file that stands for one."""

    tracking_uri: str
    """``sqlite:////absolute/path.db`` or ``http(s)://server``."""
    experiment: str
    artifact_location: str | None = None
    """Where a new experiment keeps its artifacts; by default beside a SQLite file, or where the server chooses."""
    ui_url: str | None = None
    """Address of the MLflow UI as people's browsers see it."""

    @field_validator("tracking_uri")
    @classmethod
    def _is_accepted(cls, uri: str) -> str:
        check_uri(uri)
        return uri

    @contextmanager
    def run(self, *, name: str, tags: Mapping[str, str], parameters: Mapping[str, Any]) -> Iterator[TrackedRun]:
        """Record what happens inside as one MLflow run, which is also the active run of MLflow's own functions.

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
        tracked = TrackedRun(client, identity, {**tags, **own}, self.tracking_uri)
        with _fluent_state(self.tracking_uri):
            try:
                with tracking_errors(self.tracking_uri):
                    _activate(created.info.run_id, experiment_id)
                tracked.log_parameters(parameters)
                yield tracked
            except BaseException as error:
                unreachable = self._end_after(error, tracked)
                if unreachable and type(error).__module__.startswith("mlflow."):
                    raise unreachable from error
                raise
            with tracking_errors(self.tracking_uri):
                _end(tracked, "FINISHED")

    def close_abandoned(self, has_ended: Callable[[Mapping[str, str]], bool]) -> list[str]:
        """End, as KILLED, the runs whose step can no longer end them. May be called often, and by several at once.

        Args:
            has_ended: whether the Dagster run or step that these tags (of `RunTags`) name has ended; asked only where
                the run's process is not known to be gone.

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
                    if _kill(client, run.info.run_id, "its process ended without saying so"):
                        closed.append(run.info.run_id)
        return closed

    def _identity(self, run_id: str, experiment_id: str) -> MlflowRun:
        page = f"{self.ui_url.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}" if self.ui_url else None
        return MlflowRun(
            run_id=run_id, experiment_id=experiment_id, tracking_uri=public_uri(self.tracking_uri), url=page
        )

    def _end_after(self, error: BaseException, tracked: TrackedRun) -> TrackingError | None:
        """End the run as what `error` means, without hiding that error; returned is why that could not be done."""
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        try:
            if sqlite_file(self.tracking_uri) is None:
                check_server(self.tracking_uri, self.experiment)
            with tracking_errors(self.tracking_uri):
                tracked.client.set_tag(tracked.identity.run_id, DESCRIPTION_TAG, _described(error, tracked.tags))
                _end(tracked, status)
        except TrackingError as unreachable:
            note = (
                f"The MLflow run {tracked.identity.run_id} could not be ended ({unreachable.what}); "
                "it is closed as killed when the server answers again."
            )
            error.add_note(note)
            _logger.warning(note)
            return unreachable
        return None


def _columns(tags: Mapping[str, str]) -> dict[str, str]:
    """MLflow's own tags, which its UI has columns for."""
    columns = {
        "mlflow.user": tags.get(RunTags.LAUNCHED_BY),
        "mlflow.source.name": tags.get(RunTags.ASSET),
        "mlflow.source.type": "JOB",
        "mlflow.source.git.commit": tags.get(RunTags.COMMIT),
    }
    return {name: value for name, value in columns.items() if value}


def _described(error: BaseException, tags: Mapping[str, str]) -> str:
    """The error, above what the run was described with."""
    told = f"{type(error).__name__}: {error}"[:_NOTE_LENGTH]
    return "\n\n".join(text for text in (told, tags.get(DESCRIPTION_TAG)) if text)


def _close_earlier_attempts(client: Any, experiment_id: str, tags: Mapping[str, str]) -> str | None:
    """End what is still open of earlier attempts at this step, and return the id of the attempt that this one repeats.

    A Dagster run has one attempt at a step at a time, so whatever calls itself RUNNING is dead. The first attempt of a
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
    """The attempts at the step that the tags name, for the same asset and partition."""
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
    """End a run as KILLED unless it has ended meanwhile."""
    if client.get_run(run_id).info.status != "RUNNING":
        return False
    client.set_tag(run_id, DESCRIPTION_TAG, f"Closed as killed: {reason}.")
    with _quiet():
        client.set_terminated(run_id, "KILLED")
    return True


def _activate(run_id: str, experiment_id: str) -> None:
    import mlflow

    mlflow.set_experiment(experiment_id=experiment_id)
    # Nested, as the process may have an active run already.
    mlflow.start_run(run_id=run_id, nested=True)


def _end(tracked: TrackedRun, status: str) -> None:
    """End the run, and those that the step began inside it and left open."""
    import mlflow

    run_id = tracked.identity.run_id
    while run_id in _active_runs():
        mlflow.end_run(status)
    if tracked.client.get_run(run_id).info.status != status:
        tracked.client.set_terminated(run_id, status)


def _active_runs() -> list[str]:
    from mlflow.tracking import fluent

    return [run.info.run_id for run in fluent._active_run_stack.get()]


@contextmanager
def _fluent_state(uri: str) -> Iterator[None]:
    """Point MLflow's own functions at the store, and put back what they pointed at.

    MLflow keeps this in its modules and in environment variables, and has no public way to put it back.
    """
    import mlflow
    from mlflow.environment_variables import MLFLOW_EXPERIMENT_ID, MLFLOW_TRACKING_URI
    from mlflow.tracking import fluent
    from mlflow.tracking._tracking_service import utils as service

    stack, experiment = fluent._active_run_stack.get(), fluent._active_experiment_id
    depth, tracking_uri = len(stack), service._tracking_uri
    with _environment(MLFLOW_EXPERIMENT_ID, MLFLOW_TRACKING_URI), _quiet():
        mlflow.set_tracking_uri(uri)
        try:
            yield
        finally:
            del stack[depth:]
            fluent._active_experiment_id = experiment
            mlflow.set_tracking_uri(tracking_uri)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow from printing the tracking URI, which may hold a password, whenever a run ends."""
    from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT

    with _environment(MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT):
        MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
        yield


@contextmanager
def _environment(*variables: Any) -> Iterator[None]:
    """Put MLflow's environment variables back as they were."""
    before = [(variable, variable.get_raw()) for variable in variables]
    try:
        yield
    finally:
        for variable, value in before:
            variable.unset() if value is None else variable.set(value)

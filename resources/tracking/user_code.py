"""Runs an asset's function so that nothing it does with MLflow or with forks outlasts it."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from ml_assets.resources.errors import TrackingError
from ml_assets.resources.mlflow_internals import active_run_ids, fluent_state_kept, forget_run
from ml_assets.resources.tracking.open_run import TrackedRun
from ml_assets.resources.tracking.store import check_server, public_uri, tracking_errors
from ml_assets.resources.tracking.tags import RunTags

__all__ = ["close_left_open", "contained"]

_logger = logging.getLogger(__name__)
_PARENT = "mlflow.parentRunId"
_ANY_EXPERIMENT = "Default"
_INHERITED = (RunTags.DAGSTER_RUN, RunTags.DAGSTER_STEP, RunTags.PROCESS)


@contextmanager
def contained(tracked: TrackedRun | None) -> Iterator[None]:
    """Run a function of the user in the block, then restore every setting of MLflow's own functions.

    Runs that the function leaves active become inactive; `close_left_open` ends them. A process that the function has
    forked, and that returns into the block's end, exits there, so that the step has one end.

    Args:
        tracked: the step's MLflow run, to which new runs are linked as children; None if it has none.
    """
    process = os.getpid()
    if tracked is None and "mlflow" not in sys.modules:
        try:
            yield
        finally:
            _exit_if_forked(process)
        return
    with fluent_state_kept():
        yield from _watched(tracked, process)


def _watched(tracked: TrackedRun | None, process: int) -> Iterator[None]:
    import mlflow

    before = active_run_ids()
    if tracked is not None:
        _link_new_runs(tracked)
    try:
        yield
    finally:
        _exit_if_forked(process)
        left = {run_id: str(mlflow.get_tracking_uri()) for run_id in active_run_ids() - before}
        for run_id in left:
            forget_run(run_id)
        if tracked is not None:
            tracked.left_open.update(left)
        else:
            status = "FINISHED" if sys.exc_info()[0] is None else "FAILED"
            for run_id, uri in left.items():
                _close(uri, run_id, status)


def close_left_open(tracked: TrackedRun, status: str) -> None:
    """End the runs that the step's function left open, in any thread or process, and name those it cannot end."""
    names = [name for name in (RunTags.DAGSTER_RUN, RunTags.DAGSTER_STEP) if tracked.tags.get(name)]
    if names:
        same = " and ".join(f"tags.`{name}` = '{tracked.tags[name]}'" for name in names)
        running = f"attributes.status = 'RUNNING' and {same}"
        with tracking_errors(tracked.uri):
            found = tracked.client.search_runs([tracked.identity.experiment_id], running)
        # The runs of the factory have an asset, and end by themselves.
        ours = {run.info.run_id: tracked.uri for run in found if RunTags.ASSET not in run.data.tags}
        tracked.left_open.update(ours)
    while tracked.left_open:
        run_id, uri = tracked.left_open.popitem()
        if run_id != tracked.identity.run_id:
            _close(uri, run_id, status)


def _link_new_runs(tracked: TrackedRun) -> None:
    """Let MLflow tag each run that the function starts, also in threads and other processes, as part of this step."""
    from mlflow.environment_variables import MLFLOW_RUN_CONTEXT

    tags = {_PARENT: tracked.identity.run_id}
    tags |= {name: tracked.tags[name] for name in _INHERITED if name in tracked.tags}
    MLFLOW_RUN_CONTEXT.set(json.dumps({**json.loads(MLFLOW_RUN_CONTEXT.get() or "{}"), **tags}))


def _close(uri: str, run_id: str, status: str) -> None:
    from mlflow import MlflowClient

    try:
        if urlsplit(uri).scheme in ("http", "https"):
            check_server(uri, _ANY_EXPERIMENT)
        with tracking_errors(uri):
            client: Any = MlflowClient(tracking_uri=uri)
            if client.get_run(run_id).info.status == "RUNNING":
                client.set_terminated(run_id, status)
    except TrackingError as error:
        _logger.warning(f"the step left the MLflow run {run_id} open in {public_uri(uri)}: {error.what}")


def _exit_if_forked(process: int) -> None:
    """End this process, if it is a fork, with the status that Python would give it."""
    if os.getpid() == process:
        return
    error = sys.exc_info()[1]
    code = error.code if isinstance(error, SystemExit) else error
    if code is not None and not isinstance(code, int):
        print("".join(traceback.format_exception(error)) if code is error else code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)

"""Removes containers that no run owns any more: their run ended, and nobody was there to stop them."""

import time
from collections.abc import Sequence

import dagster as dg

from ml_assets.executors.engine import ContainerEngine

__all__ = ["sweep"]

_PATIENCE_SECONDS = 30


def sweep(engine: ContainerEngine, instance: dg.DagsterInstance) -> Sequence[str]:
    """End and remove the containers of finished runs.

    Containers of other Dagster instances on the same engine are left alone: only a run that this instance knows, and
    knows to have ended, gives its containers up. One that failed stays as long as its engine keeps it.

    Returns:
        Names of the containers that were still running.

    Raises:
        EngineUnreachable: the engine does not answer.
    """
    running = []
    for run_id in engine.all_runs():
        run = instance.get_run_by_id(run_id)
        if run is None or not run.is_finished:
            continue
        for name, seen in engine.observe(run_id).items():
            if seen.has_ended:
                engine.remove(name, succeeded=run.is_success)
            else:
                running.append(name)
    left = set(running)
    patience = time.monotonic() + _PATIENCE_SECONDS
    while left and time.monotonic() < patience:
        left = {name for name in left if not engine.stop(name)}
        time.sleep(0.5 if left else 0)
    return running

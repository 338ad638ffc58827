"""Removal of containers whose run ended without stopping them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import dagster as dg

from ml_assets.executors.engine import ContainerEngine

__all__ = ["Leftover", "SweepOutcome", "find_leftovers", "sweep"]

_PATIENCE_SECONDS = 30


class SweepOutcome(StrEnum):
    """The outcome for a leftover container."""

    ENDED = "ended"
    """It was running, and has been stopped."""
    ENDING = "ending"
    """It was asked to end, and has not ended yet."""
    REMOVED = "removed"
    """It had ended."""
    KEPT = "kept"
    """It had ended in a run that did not succeed. The engine keeps it for a while for inspection."""


@dataclass(frozen=True)
class Leftover:
    """A container whose run has ended."""

    name: str
    run_id: str
    run_status: dg.DagsterRunStatus
    was_running: bool
    outcome: SweepOutcome | None = None
    """None until it is swept."""


def find_leftovers(engine: ContainerEngine, instance: dg.DagsterInstance) -> Sequence[Leftover]:
    """Return the containers of finished runs.

    Containers of other Dagster instances on the same engine are not leftovers. A leftover belongs to a run that this
    instance has recorded as ended.

    Raises:
        EngineUnreachable: the engine does not answer.
    """
    found = []
    for run_id in engine.all_runs():
        run = instance.get_run_by_id(run_id)
        if run is not None and run.is_finished:
            seen = engine.observe(run_id)
            found += [Leftover(name, run_id, run.status, not each.has_ended) for name, each in seen.items()]
    return found


def sweep(engine: ContainerEngine, instance: dg.DagsterInstance) -> Sequence[Leftover]:
    """End and remove the containers of finished runs. A failed container stays as long as its engine keeps it.

    Returns:
        The containers that were found, each with its outcome.

    Raises:
        EngineUnreachable: the engine does not answer.
    """
    found = find_leftovers(engine, instance)
    for each in found:
        if not each.was_running:
            engine.remove(each.name, succeeded=_succeeded(each))
    ending = engine.stop_all({each.name for each in found if each.was_running}, _PATIENCE_SECONDS)
    kept = {name for names in engine.all_runs().values() for name in names} if found else set()
    return [replace(each, outcome=_outcome(each, ending, kept)) for each in found]


def _outcome(leftover: Leftover, ending: set[str], kept: set[str]) -> SweepOutcome:
    if leftover.was_running:
        return SweepOutcome.ENDING if leftover.name in ending else SweepOutcome.ENDED
    return SweepOutcome.KEPT if leftover.name in kept and not _succeeded(leftover) else SweepOutcome.REMOVED


def _succeeded(leftover: Leftover) -> bool:
    return leftover.run_status is dg.DagsterRunStatus.SUCCESS

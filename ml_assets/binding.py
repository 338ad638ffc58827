"""A project's definitions with the parts that a target adds to them."""

from collections.abc import Collection, Iterable

import dagster as dg

from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.suggestion import suggestion

__all__ = ["EXECUTOR", "bound"]

EXECUTOR = "executor"
"""Name of the executor among the parts; Dagster has one for each code location."""


def bound(
    definitions: dg.Definitions,
    ours: dg.Definitions,
    *,
    without: Collection[str],
    known: Iterable[str],
    target: str | None,
) -> dg.Definitions:
    """Return definitions with parts added.

    Args:
        definitions: all definitions of a code location.
        ours: resources, jobs, sensors and executor to add.
        without: names of parts to leave out.
        known: names that may be left out although this target does not add them.
        target: name of the target if its steps need its executor; None if the definitions may have their own.

    Raises:
        DefinitionError: the definitions have one of the parts too, or no part has a name of `without`.
    """
    theirs = {kind: set(names) for kind, names in _names(definitions).items()}
    _refuse_unknown(without, [EXECUTOR, *(name for names in _names(ours).values() for name in names), *known])
    for kind, names in _names(ours).items():
        for name in names:
            if name in theirs[kind] and name not in without:
                raise DefinitionError(
                    f"the definitions have a {kind} {name}, which the target adds too",
                    next_step="call on_target once, on all definitions of the code location; if it is your own "
                    f"{kind}, rename it, or keep it with on_target(definitions, without=[{name!r}])",
                )
    if target is not None and definitions.executor is not None and EXECUTOR not in without:
        raise DefinitionError(
            f"the definitions have an executor, but target {target} runs steps in containers",
            next_step="remove executor= from the definitions, or keep it with "
            f"on_target(definitions, without=[{EXECUTOR!r}])",
        )
    keeps_executor = EXECUTOR in without or definitions.executor is not None
    added = dg.Definitions(
        jobs=[job for job in ours.jobs or () if job.name not in without],
        resources={key: value for key, value in (ours.resources or {}).items() if key not in without},
        sensors=[sensor for sensor in ours.sensors or () if sensor.name not in without],
        executor=None if keeps_executor else ours.executor,
    )
    return dg.Definitions.merge(definitions, added)


def _names(definitions: dg.Definitions) -> dict[str, list[str]]:
    """Return the names of parts by kind. Sensors and schedules share their names."""
    return {
        "resource": list(definitions.resources or ()),
        "job": [job.name for job in definitions.jobs or ()],
        "sensor": [each.name for each in (*(definitions.sensors or ()), *(definitions.schedules or ()))],
    }


def _refuse_unknown(without: Collection[str], parts: Collection[str]) -> None:
    if isinstance(without, str):
        raise DefinitionError(f"without is the text {without!r}", next_step=f"pass a list: without=[{without!r}]")
    for name in without:
        if name not in parts:
            raise DefinitionError(
                f"without names {name!r}, which no target adds{suggestion(name, parts)}",
                next_step=f"choose from: {', '.join(dict.fromkeys(parts))}",
            )

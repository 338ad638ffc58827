"""The parts of the provenance record that the running step itself knows."""

import inspect
import platform
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.containers import ContainerSpec
from ml_assets.dagster_internals import (
    AUTOMATION_CONDITION_TAG,
    BACKFILL_ID_TAG,
    PARENT_RUN_ID_TAG,
    RETRY_NUMBER_TAG,
    SCHEDULE_NAME_TAG,
    SCHEDULED_EXECUTION_TIME_TAG,
    SENSOR_NAME_TAG,
    TICK_ID_TAG,
    USER_TAG,
)
from ml_assets.placement import current_placement
from ml_assets.resources.image_builders.interface import ImageBuilder
from ml_assets.resources.provenance import Launch, LaunchKind, RunEnvironment, Source
from ml_assets.resources.settings import operating_system_user

__all__ = [
    "launch_of",
    "parameters_of",
    "plant_seeds",
    "run_environment",
    "source_file",
    "why_not_reproducible",
    "without_secrets",
]


_REASONS = 10
"""Files of the code that are named as reasons."""


def launch_of(tags: Mapping[str, str]) -> Launch:
    """Return who or what launched the run with these tags.

    A backfill started by an automation condition counts as automation. A re-execution counts as launched by its user,
    although Dagster copies the tags of the first run. An automatic retry by Dagster counts as launched by whatever
    launched the first run. If the tags name no user, the user is the account of the process.
    """
    parent = tags.get(PARENT_RUN_ID_TAG)
    user = Launch(kind=LaunchKind.USER, name=tags.get(USER_TAG) or operating_system_user(), parent_run_id=parent)
    if parent is not None and RETRY_NUMBER_TAG not in tags:
        return user
    if AUTOMATION_CONDITION_TAG in tags:
        name, tick = tags.get(SENSOR_NAME_TAG), tags.get(TICK_ID_TAG)
        return Launch(kind=LaunchKind.AUTOMATION, name=name, tick=tick, parent_run_id=parent)
    if SCHEDULE_NAME_TAG in tags:
        tick = tags.get(SCHEDULED_EXECUTION_TIME_TAG) or tags.get(TICK_ID_TAG)
        return Launch(kind=LaunchKind.SCHEDULE, name=tags[SCHEDULE_NAME_TAG], tick=tick, parent_run_id=parent)
    if SENSOR_NAME_TAG in tags:
        tick = tags.get(TICK_ID_TAG)
        return Launch(kind=LaunchKind.SENSOR, name=tags[SENSOR_NAME_TAG], tick=tick, parent_run_id=parent)
    if BACKFILL_ID_TAG in tags:
        return Launch(kind=LaunchKind.BACKFILL, name=tags[BACKFILL_ID_TAG], parent_run_id=parent)
    return user


def parameters_of(arguments: Mapping[str, Any], step: dg.StepExecutionContext) -> dict[str, Any]:
    """Return the step's run config as plain values, including defaults."""
    value = arguments.get("config")
    if isinstance(value, dg.Config):
        return value.model_dump(mode="json")
    config = step.op_config
    return dict(config) if isinstance(config, Mapping) else {}


def without_secrets(parameters: Mapping[str, Any], step: dg.StepExecutionContext) -> dict[str, Any]:
    """Return the parameters without secrets: a variable's name replaces a value that comes from the environment."""
    config: Any = step.dagster_run.run_config or step.job_def.run_config or {}
    for name in step.node_handle.path:
        config = config.get("ops", {}).get(name) or {}
    masked: dict[str, Any] = _masked(dict(parameters), config.get("config"))
    return masked


def _masked(value: Any, given: Any) -> Any:
    if isinstance(given, Mapping) and set(given) == {"env"} and not isinstance(value, Mapping):
        return f"env:{given['env']}"
    if isinstance(value, Mapping) and isinstance(given, Mapping):
        return {name: _masked(item, given.get(name)) for name, item in value.items()}
    if isinstance(value, list) and isinstance(given, list):
        return [_masked(item, raw) for item, raw in zip(value, given, strict=False)]
    return value


def plant_seeds(seed: int | None, parameters: Mapping[str, Any]) -> dict[str, int]:
    """Seed the global random generators, and return the seeds.

    A parameter named ``seed`` (or ending in ``_seed``) takes precedence over the factory's ``seed``.
    """
    seeds = {
        name: value
        for name, value in parameters.items()
        if (name == "seed" or name.endswith("_seed")) and isinstance(value, int) and not isinstance(value, bool)
    }
    planted = seeds.get("seed", seed)
    if planted is not None:
        import numpy

        random.seed(planted)
        numpy.random.seed(planted % 2**32)
        seeds |= {"random": planted, "numpy": planted % 2**32}
    return seeds


def why_not_reproducible(source: Source) -> tuple[str, ...]:
    """Return why a materialization from this source cannot be reproduced; empty if it can."""
    if source.commit is None:
        return ("the code is not in a git repository, or the repository has no commit",)
    reasons = [f"{each.repository} has no commit" for each in source.others if each.commit is None]
    if source.dirty:
        reasons.append(f"the checkout had changes on top of commit {source.commit[:12]} (diff {source.diff_digest})")
    hidden = len(source.uncommitted) - _REASONS
    return (*reasons, *source.uncommitted[:_REASONS], *([f"{hidden} more files of the code"] if hidden > 0 else ()))


def run_environment(
    container: ContainerSpec, image_asset: dg.AssetKey | None, target: str, builder: ImageBuilder
) -> RunEnvironment:
    """Return the environment of the running step.

    Args:
        container: container spec of its asset.
        image_asset: key of the image asset that it depends on, if any.
        target: name of the deployment target.
        builder: determines the environment of a step without a placement.
    """
    placement = current_placement()
    environment = placement.environment_digest if placement else None
    return RunEnvironment(
        target=target,
        pool=placement.pool if placement else container.pool,
        image_asset=image_asset.to_user_string() if image_asset else None,
        image=placement.image if placement else None,
        index_digest=placement.index_digest if placement else None,
        environment_digest=environment or str(builder.environment_digest()),
        python=_interpreter(),
        dagster=dg.__version__,
    )


def source_file(function: Callable[..., Any]) -> Path:
    """Return the source file of a function; the working directory if it has none."""
    return Path(inspect.getsourcefile(inspect.unwrap(function)) or ".")


def _interpreter() -> str:
    return f"{platform.python_implementation()} {'.'.join(str(part) for part in sys.version_info[:3])}"

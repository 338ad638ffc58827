"""The parts of the provenance record that the running step knows by itself."""

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


def launch_of(tags: Mapping[str, str]) -> Launch:
    """Who or what launched the run that has these tags.

    A backfill that an automation condition started counts as automation. A re-execution is its user's, though Dagster
    copies the tags of the first run, unless Dagster retries by itself. Where nobody is named, the account that the
    process runs under is.
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
    """The step's run config as plain values, defaults filled in."""
    value = arguments.get("config")
    if isinstance(value, dg.Config):
        return value.model_dump(mode="json")
    config = step.op_config
    return dict(config) if isinstance(config, Mapping) else {}


def without_secrets(parameters: Mapping[str, Any], step: dg.StepExecutionContext) -> dict[str, Any]:
    """The parameters as they may be recorded: one that was given as an environment variable is only named."""
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
    """Seed the random generators that have a global state, and say which seeds were in force.

    A parameter named ``seed`` (or ending in ``_seed``) goes before the factory's own ``seed``.
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
    """Why a materialization from this source cannot be made again; empty when it can."""
    if source.commit is None:
        return ("the code is not in a git repository, or has no commit yet",)
    if source.dirty:
        return (f"the checkout differed from commit {source.commit[:12]} (diff {source.diff_digest})",)
    return ()


def run_environment(
    container: ContainerSpec, image_asset: dg.AssetKey | None, target: str, builder: ImageBuilder
) -> RunEnvironment:
    """What the running step runs in.

    Args:
        container: where its asset says that it runs.
        image_asset: key of the image asset that it depends on, if any.
        target: name of the deployment target.
        builder: names the environment of a step that nobody placed.
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
    """The file that a function is written in; the folder of the process where it has none."""
    return Path(inspect.getsourcefile(inspect.unwrap(function)) or ".")


def _interpreter() -> str:
    return f"{platform.python_implementation()} {'.'.join(str(part) for part in sys.version_info[:3])}"

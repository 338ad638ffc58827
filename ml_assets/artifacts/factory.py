"""The shared part of the factories: makes an asset from a function, stores its value by content, records provenance."""

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import dagster as dg

from ml_assets.artifacts.annotations import with_generic_types
from ml_assets.artifacts.attempt import Attempt, Recipe
from ml_assets.artifacts.io_manager import STORAGE_KEY
from ml_assets.artifacts.options import (
    container_spec,
    function_name,
    given_code,
    loaded_files,
    output_options,
    refuse_ranges,
    step_options,
)
from ml_assets.artifacts.record import (
    parameters_of,
    source_file,
)
from ml_assets.artifacts.results import OutputResults, outcome_of, run_to_end
from ml_assets.artifacts.step import running_step
from ml_assets.artifacts.writer import Writer
from ml_assets.containers import ImageAsset
from ml_assets.dagster_internals import current_execution_context
from ml_assets.resources.errors import DefinitionError, MlAssetsError, TrackingError
from ml_assets.resources.git.reached import read_reached_source
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import ArtifactKind
from ml_assets.resources.tracking.user_code import contained
from ml_assets.run_config import refuse_secrets

__all__ = ["define_artifact", "recording"]


def define_artifact(
    function: Callable[..., Any],
    *,
    kind: ArtifactKind,
    write: Writer,
    image: ImageAsset | None = None,
    pool: str | None = None,
    window: Mapping[str, int] | None = None,
    seed: int | None = None,
    tracked: bool = False,
    **options: Any,
) -> dg.AssetsDefinition:
    """Return an asset made from a function.

    Args:
        function: computes the artifact's value; a direct call still returns just the value.
        kind: the artifact's kind.
        write: stores the value.
        image: image asset that the asset runs in; becomes a dependency.
        pool: pool that the asset runs on, and the Dagster concurrency pool of that name.
        window: number of partitions to load, by parameter of a time-partitioned upstream: the last ones up to and
        including the asset's own. Fewer at the start of the upstream's partitions.
        seed: seed of Python's and NumPy's global generators, set before the function runs.
        tracked: log each attempt to MLflow as a run.
        options: every keyword of `dagster.asset`.

    Raises:
        DefinitionError: the function or an option is not accepted.
    """
    required = options.get("output_required", True)
    if required and _is_generator(function):
        raise DefinitionError(
            "a generator yields several values or none, but an artifact has one data version",
            next_step="return one value, declare several outputs with multi_asset, or set output_required=False",
            asset=function_name(function),
        )
    refuse_ranges(function, options)
    options = with_generic_types(function, options)
    spec, code = container_spec(image, pool), given_code(function, options.pop("code_version", None))
    own_kinds = {options.pop("compute_kind", None), *(options.get("kinds") or ())} - {None}
    recipe = Recipe(kind, write, spec, code, loaded_files(function, code.covered), seed, tracked, required)
    wrapper = recording(function, {"result": recipe})
    options |= {
        **output_options(kind, code, {**options, "kinds": own_kinds}),
        **step_options(spec, image, window, options),
    }
    if {"io_manager_key", "io_manager_def"} & options.keys():
        options["required_resource_keys"] = {STORAGE_KEY, *(options.get("required_resource_keys") or ())}
    else:
        options["io_manager_key"] = STORAGE_KEY
    asset: dg.AssetsDefinition = dg.asset(**options)(wrapper)
    return asset


def recording(function: Callable[..., Any], recipes: Mapping[str, Recipe]) -> Callable[..., Any]:
    """Return the function that, called by its own step, stores the values and records them.

    Args:
        function: the author's function. Any other call returns its plain value.
        recipes: recipe of each output, by output name, in the order of the function's values.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        context = current_execution_context.get()
        step = context.op_execution_context.get_step_execution_context() if context else None
        if step is None or getattr(step.op_def.compute_fn, "decorated_fn", None) is not wrapper:
            return function(*args, **kwargs)
        artifacts = _artifacts_of(step)
        try:
            events = _materialize(function, args, kwargs, recipes, step, artifacts)
        except MlAssetsError as error:
            raise error.for_asset(", ".join(map(str, artifacts.values()))) from error.__cause__
        # For a skipped output, Dagster accepts a generator without its result, and no returned value.
        return (event for event in events)

    if _is_generator(function) or len(recipes) > 1:
        # Dagster would take the annotation of a generator for the type of one value, and requires that of a tuple.
        wrapper.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    return wrapper


def _is_generator(function: Callable[..., Any]) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _artifacts_of(step: dg.StepExecutionContext) -> dict[str, AssetPartition]:
    """Return the artifacts that the step makes, by output name; of a subset of its assets, only the selected ones."""
    selected = step.get_output_asset_keys()
    names = {name: key for name, key in step.assets_def.keys_by_output_name.items() if key in selected}  # type: ignore[union-attr]
    if step.entity_partitions_def is None:
        return {name: AssetPartition(key.to_user_string()) for name, key in names.items()}
    keys = step.partition_key_range
    if keys.start != keys.end:
        raise DefinitionError(
            f"the run covers partitions {keys.start} to {keys.end}, which would share one data version",
            next_step="launch one run per partition, for example as a backfill without the single-run option",
            asset=", ".join(key.to_user_string() for key in names.values()),
        )
    return {name: AssetPartition(key.to_user_string(), step.partition_key) for name, key in names.items()}


def _materialize(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    recipes: Mapping[str, Recipe],
    step: dg.StepExecutionContext,
    artifacts: Mapping[str, AssetPartition],
) -> list[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    refuse_secrets(step.dagster_run.run_config)
    running = running_step(step)
    parameters = parameters_of(inspect.signature(function).bind(*args, **kwargs).arguments, step)
    first, *others = artifacts
    source = read_reached_source(source_file(function), recipes[first].loaded)
    attempts = {first: Attempt(recipes[first], first, step, running, artifacts[first], parameters, source)}
    attempts |= {name: attempts[first].for_output(recipes[name], name, artifacts[name]) for name in others}
    # MLflow's own functions log to the run of the first output that has one. Each other output gets its own run.
    active = next((each for each in attempts.values() if each.recipe.has_mlflow_run), attempts[first])
    earlier = active.find_unrecorded() if len(recipes) == 1 else None
    observation = active.observation(function) if earlier is None else None
    optional = {name for name, recipe in recipes.items() if not recipe.is_required}
    events: list[dg.MaterializeResult[Any] | dg.AssetCheckResult] = []
    outcome = OutputResults({})
    try:
        with active.mlflow_run() as mlflow_run:
            with (
                contained(mlflow_run),
                observation.running() if observation else nullcontext(),
                running.meter.computing(),
            ):
                result = run_to_end(function(*args, **kwargs)) if earlier is None else earlier.model()
            observed = observation.observed() if observation else None
            keys = step.assets_def.node_keys_by_output_name  # type: ignore[union-attr]
            outcome = outcome_of(result, {name: keys[name] for name in recipes}, artifacts, optional)
            for name, returned in outcome.results.items():
                attempt = attempts[name]
                if attempt is active:
                    events.append(attempt.store(returned, mlflow_run, observed))
                else:
                    with attempt.mlflow_run() as own_run:
                        events.append(attempt.store(returned, own_run, observed))
    except TrackingError as error:
        if len(recipes) == 1 and outcome.results:
            active.announce_unrecorded(outcome.results[first], error)
        raise
    return [*events, *outcome.checks]

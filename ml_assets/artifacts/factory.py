"""The shared part of the factories: makes an asset from a function, stores its value by content, records provenance."""

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.artifacts.annotations import with_generic_types
from ml_assets.artifacts.inputs import input_tags
from ml_assets.artifacts.io_manager import STORAGE_KEY, ArtifactStorage
from ml_assets.artifacts.metadata import metadata_of
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
    launch_of,
    parameters_of,
    plant_seeds,
    run_environment,
    source_file,
    why_not_reproducible,
    without_secrets,
)
from ml_assets.artifacts.results import OutputResults, outcome_of, run_to_end
from ml_assets.artifacts.statement import provenance_statement
from ml_assets.artifacts.step import RunningStep, running_step
from ml_assets.artifacts.unrecorded import Unrecorded, result_key
from ml_assets.artifacts.writer import Stored, WriteContext, Writer
from ml_assets.code_version.observed import ObservedCall
from ml_assets.code_version.version import Code
from ml_assets.containers import ContainerSpec, ImageAsset, placed_image
from ml_assets.dagster_internals import StepOutputHandle, current_execution_context, get_input_data_version_tag
from ml_assets.resources.errors import DefinitionError, MlAssetsError, TrackingError
from ml_assets.resources.git.reached import read_reached_source
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.machine.hardware import threads
from ml_assets.resources.provenance import ArtifactKind, MlflowRun, Observed, ProvenanceRecord, Source
from ml_assets.resources.tracking.open_run import TrackedRun
from ml_assets.resources.tracking.tags import RunTags
from ml_assets.resources.tracking.user_code import contained
from ml_assets.run_config import refuse_secrets

__all__ = ["Recipe", "define_artifact", "recording"]


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
    recipe = Recipe(kind, write, spec, code, loaded_files(function, code), seed, tracked, required)
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


@dataclass(frozen=True)
class Recipe:
    """The facts about one output of a function that are known when it is declared."""

    kind: ArtifactKind
    write: Writer
    container: ContainerSpec
    code: Code
    loaded: Mapping[Path, str]
    """Content of the code's files when it was loaded; see `content_ids`."""
    seed: int | None
    has_mlflow_run: bool
    is_required: bool


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


def _storage_of(step: dg.StepExecutionContext, output: str) -> ArtifactStorage:
    storage: object = step.get_io_manager(StepOutputHandle(step.step.key, output))
    if not isinstance(storage, ArtifactStorage):
        storage = getattr(step.resources, STORAGE_KEY, storage)
    if not isinstance(storage, ArtifactStorage):
        raise DefinitionError(
            f"the resource {STORAGE_KEY!r} must be an ArtifactStorage, got {type(storage).__name__}",
            next_step="build the definitions with ml_assets.on_target, which adds this resource",
        )
    return storage


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
    attempts = {first: _Attempt(recipes[first], first, step, running, artifacts[first], parameters, source)}
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


class _Attempt:
    """One attempt of a step: its facts before the function runs, and its record afterwards."""

    def __init__(
        self,
        recipe: Recipe,
        output: str,
        step: dg.StepExecutionContext,
        running: RunningStep,
        artifact: AssetPartition,
        parameters: dict[str, Any],
        source: Source,
    ) -> None:
        self.started_at = datetime.now(UTC)
        self._earlier: Unrecorded | None = None
        self._trained: Unrecorded | None = None
        self.recipe, self.output, self.step, self.running, self.artifact = recipe, output, step, running, artifact
        self.parameters, self.source = without_secrets(parameters, step), source
        self.storage = _storage_of(step, output)
        entries = [entry.to_version() for resolved in running.inputs.values() for entry in resolved]
        self.inputs = tuple(version for version in entries if version is not None)
        self.image = placed_image(recipe.container, step.assets_def) if step.assets_def else None
        self.launch = launch_of(step.dagster_run.tags)
        self.seeds = plant_seeds(recipe.seed, parameters)
        self.environment = run_environment(
            recipe.container, self.image, self.storage.target, self.storage.image_builder
        )

    def find_unrecorded(self) -> Unrecorded | None:
        """Return the model that an earlier attempt trained from the same code and inputs, but could not record."""
        if self.recipe.kind is not ArtifactKind.MODEL:
            return None
        self._earlier = Unrecorded.find(self.step.instance, self._key, self.artifact, self.storage.store)
        if self._earlier is not None:
            self.step.log.info(
                f"recording the model that run {self._earlier.run_id} trained and stored as "
                f"{self._earlier.content.version}, without training again"
            )
        return self._earlier

    def keep(self, trained: Unrecorded) -> None:
        """Remember a model that is stored, until MLflow has recorded it."""
        self._trained = replace(trained, run_id=self._earlier.run_id if self._earlier else self.step.run_id)

    def announce_unrecorded(self, returned: dg.MaterializeResult[Any], error: TrackingError) -> None:
        """Let the next attempt find the stored model. Results that hold more than a model are trained again."""
        if self._trained is None or returned.check_results or returned.metadata or returned.tags:
            return
        event = self._trained.observation(self._key, self.artifact, self.storage.store)
        if event is not None:
            self.step.instance.report_runless_asset_event(event)
            error.what += f"; the trained model is stored as {self._trained.content.version}"
            error.next_step += "; within a day, it records this model without training again"

    @cached_property
    def _key(self) -> str:
        return result_key(
            artifact=str(self.artifact),
            code=self.recipe.code.version,
            source=self.source.model_dump(),
            inputs=sorted((each.asset, each.partition or "", each.data_version) for each in self.inputs),
            parameters=self.parameters,
            seeds=self.seeds,
            environment=self.environment.environment_digest,
        )

    def for_output(self, recipe: Recipe, output: str, artifact: AssetPartition) -> "_Attempt":
        """Return the same attempt for another output of its step."""
        other = copy.copy(self)
        other.recipe, other.output, other.artifact = recipe, output, artifact
        other.storage = _storage_of(self.step, output)
        return other

    @contextmanager
    def mlflow_run(self) -> Iterator[TrackedRun | None]:
        """Record the block as a new MLflow run; yield None if the artifact is not logged to MLflow."""
        if not self.recipe.has_mlflow_run:
            yield None
            return
        tracking = self.storage.tracking
        with tracking.run(name=str(self.artifact), tags=self._run_tags(), parameters=self.parameters) as mlflow_run:
            if pages := self.storage.addresses.about(self.artifact, self.step.run_id, mlflow_run.identity.run_id):
                mlflow_run.describe(pages)
            mlflow_run.log_inputs([version for version in self.inputs if version.loaded])
            yield mlflow_run

    def store(
        self, returned: dg.MaterializeResult[Any], mlflow_run: TrackedRun | None, observed: Observed | None
    ) -> dg.MaterializeResult[Any]:
        """Store the value of a result, and return the result with its data version and its record."""
        context = WriteContext(self.artifact, self.storage, mlflow_run, self.step.log.info, self._earlier, self.keep)
        try:
            stored = self.recipe.write(returned.value, context)
        except MlAssetsError as error:
            raise error.for_asset(str(self.artifact)) from error.__cause__
        record = self.record(stored, mlflow_run.identity if mlflow_run is not None else None, observed)
        if mlflow_run is not None:
            mlflow_run.set_tags({RunTags.DATA_VERSION: record.data_version})
            mlflow_run.log_provenance(provenance_statement(record))
        output = self.step.op_def.output_def_named(self.output)
        return dg.MaterializeResult(
            asset_key=dg.AssetKey.from_user_string(self.artifact.asset),
            check_results=returned.check_results,
            data_version=dg.DataVersion(record.data_version),
            metadata=metadata_of(record, {**stored.metadata, **(returned.metadata or {})}, self.storage.addresses),
            tags={**self.input_tags(), **(returned.tags or {})},
            # The output of a function annotated with MaterializeResult takes no value.
            **({} if output.dagster_type.is_nothing else {"value": returned.value}),
        )

    def input_tags(self) -> dict[str, str]:
        """Return Dagster's tags for the input versions; the image's is the environment that the step ran in."""
        tags = input_tags(self.running.inputs, self.step.instance)
        if self.image is not None:
            tag = get_input_data_version_tag(self.image)
            if tag in tags:
                tags[tag] = self.environment.environment_digest
        return tags

    def observation(self, function: Callable[..., Any]) -> ObservedCall | None:
        """Return an observation of the function; None if the author gave its code version, or if it builds an image.

        The build key of an image contains all files that the build reads.
        """
        if self.recipe.code.covered is None or self.recipe.kind is ArtifactKind.IMAGE:
            return None
        return ObservedCall(
            function, self.recipe.code, [*self.storage.folders, Path(self.step.instance.root_directory)]
        )

    def record(self, stored: Stored, mlflow: MlflowRun | None, observed: Observed | None) -> ProvenanceRecord:
        """Return the complete provenance record."""
        if mlflow is not None and stored.registered is not None:
            name, version = stored.registered
            mlflow = mlflow.model_copy(update={"registered_model": name, "model_version": version})
        reasons = why_not_reproducible(self.source)
        return ProvenanceRecord(
            kind=self.recipe.kind,
            asset=self.artifact.asset,
            partition=self.artifact.partition,
            data_version=str(stored.data_version),
            content=stored.content,
            inputs=self.inputs,
            environment=self.environment,
            made_image=stored.image,
            made_index_digest=stored.index_digest,
            source=self.source,
            code_version=self.recipe.code.version,
            code=self.recipe.code.parts,
            observed=observed,
            dagster_run=self.step.run_id,
            dagster_step=self.step.step.key,
            attempt=self.step.previous_attempt_count,
            job=self.step.job_name,
            launch=self.launch,
            parameters=self.parameters,
            seeds=self.seeds,
            threads=threads(self.storage.thread_variables),
            hardware=self.running.meter.hardware,
            usage=self.running.meter.usage(),
            mlflow=mlflow,
            computed_in=self._earlier.run_id if self._earlier else None,
            started_at=self.started_at,
            ended_at=datetime.now(UTC),
            reproducible=not reasons,
            not_reproducible_because=reasons,
        )

    def _run_tags(self) -> dict[str, str]:
        tags = {
            RunTags.ASSET: self.artifact.asset,
            RunTags.PARTITION: self.artifact.partition,
            RunTags.ATTEMPT: str(self.step.previous_attempt_count),
            RunTags.CODE_VERSION: self.recipe.code.version,
            RunTags.COMMIT: self.source.commit,
            RunTags.DIRTY: str(self.source.dirty).lower(),
            RunTags.ENVIRONMENT: self.environment.environment_digest,
            RunTags.IMAGE: self.environment.image,
            RunTags.DAGSTER_RUN: self.step.run_id,
            RunTags.DAGSTER_PARENT_RUN: self.step.dagster_run.parent_run_id,
            RunTags.DAGSTER_STEP: self.step.step.key,
            RunTags.DAGSTER_URL: self.storage.addresses.run(self.step.run_id),
            RunTags.LAUNCHED_BY: self.launch.described(),
        }
        return {name: value for name, value in tags.items() if value}

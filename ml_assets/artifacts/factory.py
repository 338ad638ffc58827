"""The shared part of the factories: makes an asset from a function, stores its value by content, records provenance."""

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.artifacts.annotations import with_generic_types
from ml_assets.artifacts.inputs import input_tags, windowed_ins
from ml_assets.artifacts.io_manager import KIND_METADATA, STORAGE_KEY, ArtifactStorage
from ml_assets.artifacts.metadata import metadata_of
from ml_assets.artifacts.record import (
    launch_of,
    parameters_of,
    plant_seeds,
    run_environment,
    source_file,
    why_not_reproducible,
    without_secrets,
)
from ml_assets.artifacts.statement import provenance_statement
from ml_assets.artifacts.step import RunningStep, running_step
from ml_assets.artifacts.unrecorded import Unrecorded, result_key
from ml_assets.artifacts.writer import Stored, WriteContext, Writer
from ml_assets.automation import ignoring_images, on_new_data
from ml_assets.code_version.observed import ObservedCall
from ml_assets.code_version.version import Code, code_of, coverage
from ml_assets.containers import ContainerSpec, ImageAsset, image_key, placed_image
from ml_assets.dagster_internals import StepOutputHandle, current_execution_context, get_input_data_version_tag
from ml_assets.resources.errors import DefinitionError, MlAssetsError, TrackingError
from ml_assets.resources.git.reached import content_ids, read_reached_source
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.machine.hardware import threads
from ml_assets.resources.provenance import ArtifactKind, MlflowRun, Observed, ProvenanceRecord, Source
from ml_assets.resources.tracking.open_run import TrackedRun
from ml_assets.resources.tracking.tags import RunTags
from ml_assets.resources.tracking.user_code import contained
from ml_assets.run_config import refuse_secrets

__all__ = ["define_artifact"]

_BY_DEFAULT = object()


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
    _refuse(function, options)
    options = with_generic_types(function, options)
    spec = ContainerSpec(image_key(image).to_user_string() if image is not None else None, pool)
    given = options.pop("code_version", None)
    code = Code(given, {}) if given else code_of(function)
    condition = options.pop("automation_condition", _BY_DEFAULT)
    own_kinds = {options.pop("compute_kind", None), *(options.get("kinds") or ())} - {None}
    loaded = content_ids(_files_of(function, code))
    wrapper = _recording(function, _Recipe(kind, write, spec, code, loaded, seed, has_mlflow_run=tracked))
    options |= {
        # The code version of an image asset is its build key, added later. An op does not allow a replacement.
        "code_version": None if kind is ArtifactKind.IMAGE else code.version,
        "automation_condition": on_new_data() if condition is _BY_DEFAULT else condition and ignoring_images(condition),
        "deps": [*(options.get("deps") or ()), *([image_key(image)] if image is not None else [])],
        "ins": windowed_ins(options.get("ins") or {}, window or {}),
        "kinds": {kind.value.replace(" ", "_"), *own_kinds},
        "metadata": {KIND_METADATA: kind.value, **(options.get("metadata") or {})},
        "op_tags": {**spec.to_tags(), **(options.get("op_tags") or {})},
        "pool": pool,
    }
    if {"io_manager_key", "io_manager_def"} & options.keys():
        options["required_resource_keys"] = {STORAGE_KEY, *(options.get("required_resource_keys") or ())}
    else:
        options["io_manager_key"] = STORAGE_KEY
    asset: dg.AssetsDefinition = dg.asset(**options)(wrapper)
    return asset


@dataclass(frozen=True)
class _Recipe:
    kind: ArtifactKind
    write: Writer
    container: ContainerSpec
    code: Code
    loaded: Mapping[Path, str]
    """Content of the code's files when it was loaded; see `content_ids`."""
    seed: int | None
    has_mlflow_run: bool


def _files_of(function: Callable[..., Any], code: Code) -> set[Path]:
    """Return the first-party files that the function's code version covers, or would cover if it were computed."""
    try:
        covered = code.covered or coverage(function)
    except DefinitionError:
        # The author gave the code version, because none can be computed.
        return {file} if (file := source_file(function)).is_file() else set()
    return {*covered.modules, *covered.files}


def _refuse(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    name = getattr(function, "__name__", repr(function))
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(
            "a generator yields several values, but an artifact has one data version",
            next_step="return one value, or declare one asset per value",
            asset=name,
        )
    if inspect.iscoroutinefunction(function):
        raise DefinitionError(
            "an artifact's function cannot be a coroutine",
            next_step="make it an ordinary function that calls asyncio.run",
            asset=name,
        )
    policy = options.get("backfill_policy")
    if policy is not None and policy.max_partitions_per_run != 1:
        raise DefinitionError(
            "backfill_policy allows several partitions per run, which would share one data version",
            next_step="use BackfillPolicy.multi_run(1), or remove backfill_policy",
            asset=name,
        )


def _recording(function: Callable[..., Any], recipe: _Recipe) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        context = current_execution_context.get()
        step = context.op_execution_context.get_step_execution_context() if context else None
        if step is None or getattr(step.op_def.compute_fn, "decorated_fn", None) is not wrapper:
            return function(*args, **kwargs)
        artifact = _artifact_of(step)
        try:
            return _materialize(function, args, kwargs, recipe, step, artifact)
        except MlAssetsError as error:
            raise error.for_asset(str(artifact)) from error.__cause__

    return wrapper


def _artifact_of(step: dg.StepExecutionContext) -> AssetPartition:
    (key,) = step.get_output_asset_keys()
    name = key.to_user_string()
    if step.entity_partitions_def is None:
        return AssetPartition(name)
    keys = step.partition_key_range
    if keys.start != keys.end:
        raise DefinitionError(
            f"the run covers partitions {keys.start} to {keys.end}, which would share one data version",
            next_step="launch one run per partition, for example as a backfill without the single-run option",
            asset=name,
        )
    return AssetPartition(name, step.partition_key)


def _storage_of(step: dg.StepExecutionContext) -> ArtifactStorage:
    (output,) = (output for output in step.step.step_outputs if not output.properties.asset_check_key)
    storage: object = step.get_io_manager(StepOutputHandle(step.step.key, output.name))
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
    recipe: _Recipe,
    step: dg.StepExecutionContext,
    artifact: AssetPartition,
) -> dg.MaterializeResult[Any]:
    refuse_secrets(step.dagster_run.run_config)
    running = running_step(step)
    parameters = parameters_of(inspect.signature(function).bind(*args, **kwargs).arguments, step)
    attempt = _Attempt(
        recipe, step, running, artifact, parameters, read_reached_source(source_file(function), recipe.loaded)
    )
    earlier = attempt.find_unrecorded()
    returned = None
    try:
        with attempt.mlflow_run() as mlflow_run:
            if mlflow_run is not None:
                if pages := attempt.storage.addresses.about(artifact, step.run_id, mlflow_run.identity.run_id):
                    mlflow_run.describe(pages)
                mlflow_run.log_inputs([version for version in attempt.inputs if version.loaded])
            observation = attempt.observation(function) if earlier is None else None
            with (
                contained(mlflow_run),
                observation.running() if observation else nullcontext(),
                running.meter.computing(),
            ):
                result = function(*args, **kwargs) if earlier is None else earlier.model()
            returned = _returned(result)
            context = WriteContext(artifact, attempt.storage, mlflow_run, step.log.info, earlier, attempt.keep)
            stored = recipe.write(returned.value, context)
            observed = observation.observed() if observation else None
            record = attempt.record(stored, mlflow_run.identity if mlflow_run is not None else None, observed)
            if mlflow_run is not None:
                mlflow_run.set_tags({RunTags.DATA_VERSION: record.data_version})
                mlflow_run.log_provenance(provenance_statement(record))
    except TrackingError as error:
        if returned is not None:
            attempt.announce_unrecorded(returned, error)
        raise
    output = step.op_def.output_defs[0]
    return dg.MaterializeResult(
        check_results=returned.check_results,
        data_version=dg.DataVersion(record.data_version),
        metadata=metadata_of(record, {**stored.metadata, **(returned.metadata or {})}, attempt.storage.addresses),
        tags={**attempt.input_tags(), **(returned.tags or {})},
        # The output of a function annotated with MaterializeResult takes no value.
        **({} if output.dagster_type.is_nothing else {"value": returned.value}),
    )


def _returned(result: Any) -> dg.MaterializeResult[Any]:
    """Return the function's value, plain or unwrapped from one of Dagster's results."""
    if isinstance(result, dg.Output):
        result = dg.MaterializeResult(
            value=result.value, metadata=result.metadata, data_version=result.data_version, tags=result.tags
        )
    if not isinstance(result, dg.MaterializeResult):
        return dg.MaterializeResult(value=result)
    if result.data_version is not None:
        raise DefinitionError(
            f"the function returned the data version {result.data_version.value!r}, but an artifact's data version is "
            "the digest of its content",
            next_step="remove data_version, and put your own version into the metadata",
        )
    return result


class _Attempt:
    """One attempt of a step: its facts before the function runs, and its record afterwards."""

    def __init__(
        self,
        recipe: _Recipe,
        step: dg.StepExecutionContext,
        running: RunningStep,
        artifact: AssetPartition,
        parameters: dict[str, Any],
        source: Source,
    ) -> None:
        self.started_at = datetime.now(UTC)
        self._earlier: Unrecorded | None = None
        self._trained: Unrecorded | None = None
        self.recipe, self.step, self.running, self.artifact = recipe, step, running, artifact
        self.parameters, self.source = without_secrets(parameters, step), source
        self.storage = _storage_of(step)
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

    def mlflow_run(self) -> AbstractContextManager[TrackedRun | None]:
        """Return the attempt's new MLflow run; a context of None if the artifact is not logged to MLflow."""
        if not self.recipe.has_mlflow_run:
            return nullcontext()
        return self.storage.tracking.run(name=str(self.artifact), tags=self._run_tags(), parameters=self.parameters)

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

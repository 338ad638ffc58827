"""One attempt of a step: the facts before its function runs, and the record of each artifact that it makes."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.artifacts.inputs import input_tags
from ml_assets.artifacts.io_manager import STORAGE_KEY, ArtifactStorage
from ml_assets.artifacts.metadata import metadata_of
from ml_assets.artifacts.record import (
    launch_of,
    plant_seeds,
    run_environment,
    why_not_reproducible,
    without_secrets,
)
from ml_assets.artifacts.statement import provenance_statement
from ml_assets.artifacts.step import RunningStep
from ml_assets.artifacts.unrecorded import Unrecorded, result_key
from ml_assets.artifacts.writer import Stored, WriteContext, Writer
from ml_assets.code_version.observed import ObservedCall
from ml_assets.code_version.version import Code
from ml_assets.containers import ContainerSpec, placed_image
from ml_assets.dagster_internals import StepOutputHandle, get_input_data_version_tag
from ml_assets.resources.errors import DefinitionError, MlAssetsError, TrackingError
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.machine.hardware import threads
from ml_assets.resources.provenance import ArtifactKind, MlflowRun, Observed, ProvenanceRecord, Source
from ml_assets.resources.tracking.open_run import TrackedRun
from ml_assets.resources.tracking.tags import RunTags

__all__ = ["Attempt", "Recipe"]


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


class Attempt:
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

    def for_output(self, recipe: Recipe, output: str, artifact: AssetPartition) -> "Attempt":
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

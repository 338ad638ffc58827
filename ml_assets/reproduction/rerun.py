"""Materializes an asset, as it is defined here, once more from the inputs of a past record, in isolation.

The instance is in memory and holds only the past inputs. Store and tracking write to a temporary folder. So the rerun
publishes nothing, and sees nothing newer than its record.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.artifacts.io_manager import KIND_METADATA, STORAGE_KEY, ArtifactStorage
from ml_assets.artifacts.options import loaded_files
from ml_assets.artifacts.record import source_file
from ml_assets.code_version.uncovered import present
from ml_assets.placement import current_placement
from ml_assets.reproduction.pinning import fetch_inputs, past_inputs, seed
from ml_assets.resources.errors import MlAssetsError, ReproductionRefused
from ml_assets.resources.git.reached import read_reached_source
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.isolated import ScratchStore, ScratchTracking
from ml_assets.resources.provenance import ProvenanceRecord, record_of

__all__ = ["Rerun", "RerunContext", "rerun", "what_is_other"]


@dataclass(frozen=True)
class RerunContext:
    """The definitions, instance and storage for a rerun.

    Attributes:
        repository: all current definitions.
        instance: the instance with the past events; read-only.
        storage: the past artifacts; read-only, except for the cache.
        folder: absolute path of an empty folder that is deleted afterwards.
        say: receives a line for the user.
    """

    repository: dg.RepositoryDefinition
    instance: dg.DagsterInstance
    storage: ArtifactStorage
    folder: Path
    say: Callable[[str], None]


@dataclass(frozen=True)
class Rerun:
    """The result of a rerun: the record that it would publish, and the location of its content and its MLflow run."""

    record: ProvenanceRecord
    store: ScratchStore
    tracking: ScratchTracking


def what_is_other(record: ProvenanceRecord, context: RerunContext) -> tuple[str, ...]:
    """Return the pinned parts of a record that differ here: image, environment, commit and code, in words.

    Raises:
        ReproductionRefused: the asset is not defined here.
    """
    asset = _asset(record, context.repository)
    placement = current_placement()
    function = inspect.unwrap(asset.op.compute_fn.decorated_fn)  # type: ignore[union-attr]
    source = read_reached_source(source_file(function), loaded_files(function))
    environment = placement.environment_digest if placement else None
    code = context.repository.asset_graph.get(dg.AssetKey.from_user_string(record.asset)).code_version
    pairs = {
        "image": (record.environment.image, placement.image if placement else None),
        "environment": (
            record.environment.environment_digest,
            environment or str(context.storage.image_builder.environment_digest()),
        ),
        "commit": (record.source.commit, source.commit),
        "uncommitted changes": (record.source.diff_digest, source.diff_digest),
        "code version": (record.code_version, code),
    }
    used = record.observed.uncovered if record.observed else ()
    for item, now in zip(used, present(function, used), strict=True):
        pairs[item.name] = (item.digest or "unknown content", now.digest)
    return tuple(
        f"{what}: recorded {then or 'none'}, here {now or 'none'}" for what, (then, now) in pairs.items() if then != now
    )


def rerun(record: ProvenanceRecord, context: RerunContext) -> Rerun:
    """Materialize a recorded artifact once more.

    Raises:
        ReproductionRefused: one of its inputs is gone, or the rerun failed.
    """
    asset = _asset(record, context.repository)
    inputs = past_inputs(context.instance, record)
    context.say(f"fetching {len(inputs)} inputs by version")
    fetch_inputs(inputs, context.storage.store, context.instance)
    store = ScratchStore(**dict(context.storage.store), folder=str(context.folder / "content"))
    tracking = ScratchTracking.within(context.folder / "mlflow", context.storage.tracking.experiment)
    scratch = replace(context.storage, store=store, tracking=tracking)
    job = context.repository.get_implicit_global_asset_job_def()
    # Checks that are separate steps are left out; checks inside the asset are part of it.
    # A function that makes several assets makes all of them again, unless it can make a subset.
    keys = {dg.AssetKey.from_user_string(record.asset)} if asset.can_subset else set(asset.keys)
    job = job.get_subset(asset_selection=keys, asset_check_selection=set(asset.check_keys))
    with dg.DagsterInstance.ephemeral(settings={"telemetry": {"enabled": False}}) as instance:
        seed(instance, inputs.values())
        _know_partitions(instance, record, job)
        context.say(f"materializing {record.asset} again; everything that it writes and registers is discarded")
        # Partitions that were added since then do not exist here, as they did not then.
        with dg.partition_loading_context(record.started_at, instance):
            made = _materialize(job, record, context, scratch, instance)
    _require_same_inputs(record, made)
    return Rerun(made, store, tracking)


def _asset(record: ProvenanceRecord, repository: dg.RepositoryDefinition) -> dg.AssetsDefinition:
    key = dg.AssetKey.from_user_string(record.asset)
    graph = repository.asset_graph
    if not graph.has(key) or not graph.get(key).is_materializable or KIND_METADATA not in graph.get(key).metadata:
        raise ReproductionRefused(
            "the code here does not define the asset with a factory of ml_assets",
            next_step=f"check that its definitions are those of commit {record.source.commit or '(not recorded)'}",
        )
    return graph.get(key).assets_def


def _know_partitions(instance: dg.DagsterInstance, record: ProvenanceRecord, job: dg.JobDefinition) -> None:
    """Add the dynamic partitions that the record names to the instance, which defines them."""
    graph = job.asset_layer.asset_graph
    named = [(record.asset, record.partition), *((each.asset, each.partition) for each in record.inputs)]
    for name, partition in named:
        key = dg.AssetKey.from_user_string(name)
        definition = graph.get(key).partitions_def if graph.has(key) else None
        if partition is not None and definition is not None:
            for dynamic, part in _dynamic(definition, partition):
                instance.add_dynamic_partitions(dynamic, [part])


def _dynamic(definition: dg.PartitionsDefinition, partition: str) -> Iterator[tuple[str, str]]:
    if isinstance(definition, dg.DynamicPartitionsDefinition) and definition.name:
        yield definition.name, partition
    if isinstance(definition, dg.MultiPartitionsDefinition):
        # Dagster writes the key with the parts in the order of their dimensions' names.
        for dimension, part in zip(definition.partitions_defs, partition.split("|"), strict=False):
            yield from _dynamic(dimension.partitions_def, part)


def _materialize(
    job: dg.JobDefinition,
    record: ProvenanceRecord,
    context: RerunContext,
    scratch: ArtifactStorage,
    instance: dg.DagsterInstance,
) -> ProvenanceRecord:
    storages = _storage_keys(job)
    config = _run_config(record, context, job.resource_defs.keys() - storages)
    if job.loggers == dg.default_loggers():
        config["loggers"] = {"console": {"config": {"log_level": "INFO"}}}
    try:
        result = job.execute_in_process(
            run_config=config,
            instance=instance,
            partition_key=record.partition,
            resources=dict.fromkeys(storages, scratch),
        )
    except Exception as error:
        cause = getattr(error, "user_exception", None) or error
        said = cause.what if isinstance(cause, MlAssetsError) else f"{type(cause).__name__}: {cause}"
        raise ReproductionRefused(
            f"the rerun failed: {said}",
            next_step="check its log, fix the cause, and run again",
        ) from error
    made = {event.asset_key: event.materialization for event in result.get_asset_materialization_events()}
    materialization = made.get(dg.AssetKey.from_user_string(record.asset))
    if materialization is None:
        raise ReproductionRefused(
            "the rerun skipped it, because its function gave no value",
            next_step="check everything outside the code, inputs and parameters that its function depends on",
        )
    return record_of(materialization.metadata)


def _storage_keys(job: dg.JobDefinition) -> set[str]:
    """Return the IO manager keys of the asset and its inputs. An IO manager of another kind would publish the value."""
    graph = job.asset_layer.asset_graph
    definitions = {key: graph.get(key).assets_def for key in graph.get_all_asset_keys()}
    keys = {
        definition.get_io_manager_key_for_asset_key(key)
        for key, definition in definitions.items()
        if key in definition.keys
    }
    return {STORAGE_KEY, *keys} & job.resource_defs.keys()


def _run_config(record: ProvenanceRecord, context: RerunContext, resources: Set[str]) -> dict[str, Any]:
    """Return the past run's config of the step and of resources; if the run is gone, the recorded parameters."""
    run = context.instance.get_run_by_id(record.dagster_run)
    if run is None:
        config = _unmasked(record.parameters)
        return {"ops": {record.dagster_step: {"config": config}}} if config else {}
    given: Mapping[str, Any] = run.run_config or _baked(record, context.repository)
    step = given.get("ops", {}).get(record.dagster_step)
    own = {name: said for name, said in (given.get("resources") or {}).items() if name in resources}
    return {**({"ops": {record.dagster_step: step}} if step else {}), **({"resources": own} if own else {})}


def _baked(record: ProvenanceRecord, repository: dg.RepositoryDefinition) -> Mapping[str, Any]:
    return (repository.get_job(record.job).run_config or {}) if repository.has_job(record.job) else {}


def _unmasked(parameters: Any) -> Any:
    """Return parameters as config. A parameter recorded as ``env:NAME`` becomes the value of that variable."""
    if isinstance(parameters, Mapping):
        return {name: _unmasked(value) for name, value in parameters.items()}
    if isinstance(parameters, str) and parameters.startswith("env:"):
        return {"env": parameters.removeprefix("env:")}
    return [_unmasked(value) for value in parameters] if isinstance(parameters, list) else parameters


def _require_same_inputs(then: ProvenanceRecord, now: ProvenanceRecord) -> None:
    before, after = _read(then), _read(now)
    other = [str(artifact) for artifact in {**before, **after} if before.get(artifact) != after.get(artifact)]
    if other:
        raise ReproductionRefused(
            f"the rerun did not read the recorded inputs: {', '.join(other[:6])}",
            next_step="check its partition mappings, and everything outside the code that they depend on",
        )


def _read(record: ProvenanceRecord) -> dict[AssetPartition, str]:
    return {AssetPartition(each.asset, each.partition): each.data_version for each in record.inputs if each.loaded}

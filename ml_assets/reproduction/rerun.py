"""An asset as it is defined here, materialized once more from the inputs of a past record, aside from everything.

The instance is in memory and holds the past inputs alone; store and tracking keep what they are given in a folder that
is thrown away. So nothing that runs here appears anywhere, and nothing that appeared since then is seen.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.artifacts.io_manager import KIND_METADATA, STORAGE_KEY, ArtifactStorage
from ml_assets.placement import current_placement
from ml_assets.reproduction.pinning import fetch_inputs, past_inputs, seed
from ml_assets.resources.errors import MlAssetsError, ReproductionRefused
from ml_assets.resources.git.source import read_source
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.isolated import ScratchStore, ScratchTracking
from ml_assets.resources.provenance import ProvenanceRecord, record_of

__all__ = ["Rerun", "RerunContext", "rerun", "what_is_other"]


@dataclass(frozen=True)
class RerunContext:
    """What a materialization is run again with.

    Attributes:
        repository: all definitions, as they are here.
        instance: knows the past; it is only read.
        storage: the artifacts of the past; only read, but for the cache.
        folder: empty, and thrown away afterwards; an absolute path.
        say: takes a line for people.
    """

    repository: dg.RepositoryDefinition
    instance: dg.DagsterInstance
    storage: ArtifactStorage
    folder: Path
    say: Callable[[str], None]


@dataclass(frozen=True)
class Rerun:
    """What came out: the record that would have been written, and where its content and its MLflow run are."""

    record: ProvenanceRecord
    store: ScratchStore
    tracking: ScratchTracking


def what_is_other(record: ProvenanceRecord, context: RerunContext) -> tuple[str, ...]:
    """What is pinned in a record and is not the same here: image, environment, commit and code, in words.

    Raises:
        ReproductionRefused: the asset is not defined here.
    """
    asset = _asset(record, context.repository)
    placement = current_placement()
    function = inspect.unwrap(asset.op.compute_fn.decorated_fn)  # type: ignore[union-attr]
    source = read_source(Path(inspect.getsourcefile(function) or "."))
    environment = placement.environment_digest if placement else None
    code = context.repository.asset_graph.get(asset.key).code_version
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
    return tuple(
        f"{what}: {then or 'none'} then, {now or 'none'} here" for what, (then, now) in pairs.items() if then != now
    )


def rerun(record: ProvenanceRecord, context: RerunContext) -> Rerun:
    """Materialize what a record is of once more.

    Raises:
        ReproductionRefused: something that it was made from is gone, or running it failed.
    """
    asset = _asset(record, context.repository)
    inputs = past_inputs(context.instance, record)
    context.say(f"{len(inputs)} inputs are fetched by version")
    fetch_inputs(inputs, context.storage.store, context.instance)
    store = ScratchStore(**dict(context.storage.store), folder=str(context.folder / "content"))
    tracking = ScratchTracking.within(context.folder / "mlflow", context.storage.tracking.experiment)
    scratch = replace(context.storage, store=store, tracking=tracking)
    job = context.repository.get_implicit_global_asset_job_def()
    # Checks that are steps of their own are left out; those inside of the asset are part of it.
    job = job.get_subset(asset_selection={asset.key}, asset_check_selection=set(asset.check_keys))
    with dg.DagsterInstance.ephemeral(settings={"telemetry": {"enabled": False}}) as instance:
        seed(instance, inputs.values())
        _know_partitions(instance, record, job)
        context.say(f"{record.asset} is materialized again; what it writes and registers meanwhile is thrown away")
        # Partitions that came into being since then are no more there than they were then.
        with dg.partition_loading_context(record.started_at, instance):
            made = _materialize(job, record, context, scratch, instance)
    _require_same_inputs(record, made)
    return Rerun(made, store, tracking)


def _asset(record: ProvenanceRecord, repository: dg.RepositoryDefinition) -> dg.AssetsDefinition:
    key = dg.AssetKey.from_user_string(record.asset)
    graph = repository.asset_graph
    if not graph.has(key) or not graph.get(key).is_materializable or KIND_METADATA not in graph.get(key).metadata:
        raise ReproductionRefused(
            "no factory defines the asset in the code that it is to be run with",
            next_step=f"see whether its definitions are those of commit {record.source.commit or '(not recorded)'}",
        )
    return graph.get(key).assets_def


def _know_partitions(instance: dg.DagsterInstance, record: ProvenanceRecord, job: dg.JobDefinition) -> None:
    """Dynamic partitions are what an instance says: those that the record names."""
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
        # As Dagster writes the key: the parts in the order of their dimensions' names.
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
            f"running it again failed: {said}",
            next_step="see its log; where the cause has gone, run again",
        ) from error
    (materialization,) = (event.materialization for event in result.get_asset_materialization_events())
    return record_of(materialization.metadata)


def _storage_keys(job: dg.JobDefinition) -> set[str]:
    """Keys of the IO managers of the asset and its inputs: an IO manager of another kind would publish the value."""
    graph = job.asset_layer.asset_graph
    definitions = {key: graph.get(key).assets_def for key in graph.get_all_asset_keys()}
    keys = {
        definition.get_io_manager_key_for_asset_key(key)
        for key, definition in definitions.items()
        if key in definition.keys
    }
    return {STORAGE_KEY, *keys} & job.resource_defs.keys()


def _run_config(record: ProvenanceRecord, context: RerunContext, resources: Set[str]) -> dict[str, Any]:
    """What the past run said of the step and of resources; where it is gone, the parameters that were recorded."""
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
    """Parameters as config: one that was recorded as ``env:NAME`` is the value of that variable."""
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
            f"it does not read the inputs that it read then: {', '.join(other[:6])}",
            next_step="look at its partition mappings, and at what they depend on outside of the code",
        )


def _read(record: ProvenanceRecord) -> dict[AssetPartition, str]:
    return {AssetPartition(each.asset, each.partition): each.data_version for each in record.inputs if each.loaded}

"""The I/O manager of artifacts: it loads an input by its recorded version from the content store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import dagster as dg
import pandas as pd

from ml_assets.addresses import Addresses
from ml_assets.artifacts.formats.interface import Format, format_named, name_of
from ml_assets.artifacts.formats.parquet import Parquet, joined_tables
from ml_assets.artifacts.inputs import ResolvedInput, latest_versions
from ml_assets.artifacts.partitions import in_order
from ml_assets.artifacts.record import run_environment, source_file
from ml_assets.artifacts.step import running_step
from ml_assets.artifacts.trained_model import TrainedModel
from ml_assets.containers import ContainerSpec, placed_image
from ml_assets.resources.dvc.git import store_of
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import InputError, MlAssetsError
from ml_assets.resources.git.source import read_source
from ml_assets.resources.identity import Digest
from ml_assets.resources.image_builders.interface import ImageBuilder
from ml_assets.resources.provenance import (
    ENVIRONMENT_METADATA,
    INPUTS_METADATA,
    SOURCE_METADATA,
    TRACKED_METADATA,
    find_record,
)
from ml_assets.resources.tracking.runs import MlflowTracking

__all__ = ["KIND_METADATA", "STORAGE_KEY", "ArtifactStorage"]

STORAGE_KEY = "ml_assets_storage"
"""Resource key of `ArtifactStorage`; every factory sets it as the I/O manager of its asset."""

KIND_METADATA = "ml_assets/kind"
"""Definition metadata of an asset that a factory made: its kind of artifact."""


@dataclass(frozen=True)
class ArtifactStorage(dg.IOManager):
    """The storage and the records of artifacts on one target.

    As an I/O manager it stores nothing: the factory has already stored the content and computed its digest. It loads
    each artifact input as the type of its annotation: a type that the content's format reads (tables of several
    partitions are concatenated in order, with the index that each has), a ``Path``, a `TrainedModel`, or a ``dict`` of
    one of these by partition.

    Its fields come from the settings and not from the run config. It is therefore not a configurable resource, and
    neither the launchpad nor the UI's resource page shows its fields, such as a remote's credentials.
    """

    store: DvcStore
    tracking: MlflowTracking
    image_builder: ImageBuilder
    target: str
    addresses: Addresses = field(default_factory=Addresses)
    thread_variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The local folders that hold contents, runs and their files."""
        places = (self.store.cache, self.store.remote, (self.tracking.artifact_location or "").removeprefix("file://"))
        database = self.tracking.tracking_uri.removeprefix("sqlite:///")
        return tuple(Path(place) for place in (*places, str(Path(database).parent)) if place.startswith("/"))

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Do nothing for an artifact.

        Raises:
            InputError: the asset was not made by a factory, so its value is not stored.
        """
        definition = context.definition_metadata or {}
        if obj is not None and KIND_METADATA not in definition:
            raise InputError(
                f"the I/O manager {STORAGE_KEY!r} stores only assets made by the factories of ml_assets",
                next_step="declare the asset with a factory of ml_assets, or set another io_manager_key",
                asset=context.asset_key.to_user_string() if context.has_asset_key else None,
            )

    def load_input(self, context: dg.InputContext) -> Any:
        """Return the content of the version that this step resolved.

        Raises:
            InputError: the upstream has no version, or its content cannot be read as the annotated type.
            StoreError: the content could not be fetched.
        """
        entries = self._entries(context)
        wanted, optional = _without_none(context.dagster_type.typing_type if context.dagster_type else Any)
        by_partition = get_origin(wanted) in (dict, Mapping) and not _is_one_dictionary(entries)
        item = get_args(wanted)[1] if by_partition else wanted
        values = {entry.partition or "": self.read(entry, item) for entry in entries}
        if not entries and not by_partition and not optional:
            raise InputError(
                "none of its partitions maps to the partition of the downstream asset",
                next_step="annotate the parameter as `DataFrame | None` or `dict[str, ...]`, or start the downstream "
                "asset's partitions later",
                asset=context.asset_key.to_user_string(),
            )
        return values if by_partition else _joined(list(values.values()), entries)

    def read(self, entry: ResolvedInput, wanted: Any = Any) -> Any:
        """Return the content of a resolved input as a type: one of its format, ``Path``, `TrainedModel` or Any."""
        try:
            return self._read(entry, wanted)
        except MlAssetsError as error:
            raise error.for_asset(str(entry.artifact)) from error.__cause__

    def _entries(self, context: dg.InputContext) -> Sequence[ResolvedInput]:
        partitions: list[str | None] = [None]
        if context.has_asset_partitions:
            partitions = list(in_order(context.asset_partition_keys, context.asset_partitions_def))
        if not context.has_input_name:
            return latest_versions(context.instance, context.asset_key, partitions)
        step = context.step_context
        running = running_step(step)
        if not running.has_foreign_record:
            running.has_foreign_record = True
            self._record_on_foreign_assets(step, running.inputs)
        return running.inputs.get(context.asset_key) or latest_versions(step.instance, context.asset_key, partitions)

    def _record_on_foreign_assets(
        self, step: dg.StepExecutionContext, resolved: Mapping[dg.AssetKey, Sequence[ResolvedInput]]
    ) -> None:
        """Add the step's provenance to an asset that no factory made.

        Such an asset has no record, but its materialization gets its input versions, environment and commit.
        """
        asset = step.assets_def
        known = asset.metadata_by_key if asset else {}
        keys = [key for key in step.get_output_asset_keys() if KIND_METADATA not in known.get(key, {})]
        if asset is None or not keys:
            return
        container = ContainerSpec.from_tags(step.op_def.tags)
        environment = run_environment(container, placed_image(container, asset), self.target, self.image_builder)
        function: Any = step.op_def.compute_fn
        source = read_source(source_file(getattr(function, "decorated_fn", function)))
        versions = [version for entries in resolved.values() for entry in entries if (version := entry.to_version())]
        metadata = {
            INPUTS_METADATA: dg.MetadataValue.json([version.model_dump(mode="json") for version in versions]),
            ENVIRONMENT_METADATA: dg.MetadataValue.json(environment.model_dump(mode="json")),
            SOURCE_METADATA: dg.MetadataValue.json(source.model_dump(mode="json")),
        }
        for key in keys:
            step.add_asset_metadata(metadata, asset_key=key)

    def _read(self, entry: ResolvedInput, wanted: Any) -> Any:
        if entry.event is None:
            raise InputError(
                "the asset has never been materialized",
                next_step=f"materialize it first: dagster asset materialize --select {entry.artifact.asset}"
                + (f" --partition {entry.partition}" if entry.partition else ""),
            )
        metadata = entry.metadata
        if TRACKED_METADATA in metadata:
            pointer = metadata[TRACKED_METADATA]
            store = store_of(Path(pointer["repository"]), pointer["remote"], self.store.cache)
            return _read_file(store.fetch(Digest.parse(pointer["version"])), Path(pointer["path"]).suffix, wanted)
        record = find_record(metadata)
        if record is None and not entry.event.event_log_entry.run_id:
            raise InputError(
                "the latest materialization was reported manually and has no content to load",
                next_step=f"materialize it: dagster asset materialize --select {entry.artifact.asset}",
            )
        if record is None:
            raise InputError(
                "the latest materialization has no provenance record",
                next_step="declare the asset with a factory of ml_assets, or set input_manager_key for the input",
            )
        content = record.content
        if content is None:
            raise InputError(
                "the asset has no content to load", next_step="declare it in deps= instead of as a parameter"
            )
        version = Digest.parse(content.version)
        if content.format == "model" and wanted in (Any, TrainedModel):
            from ml_assets.resources.models.flavors import load_model

            directory = self.store.fetch(version)
            return TrainedModel(load_model(directory), directory=directory)
        if wanted is Path or (wanted is Any and content.format in ("file", "directory")):
            return self.store.fetch(version)
        form, kind = format_named(content.format), _class_of(wanted)
        if form is not None and (kind is object or form.reads(kind)):
            return form.read(self.store.fetch(version), kind)
        raise InputError(
            f"the content has the format {content.format!r} and cannot be loaded as {wanted!r}",
            next_step=_other_annotation(content.format, form),
        )


def _other_annotation(name: str, form: Format | None) -> str:
    if form is not None:
        kinds = [kind if isinstance(kind, str) else name_of(kind) for kind in form.types]
        return f"annotate the parameter with one of: {', '.join([*kinds, 'pathlib.Path'])}"
    if name in ("file", "directory", "model"):
        return f"annotate the parameter as {'TrainedModel or Path' if name == 'model' else 'Path'}"
    return f"import the module that defines the format {name!r} in the code location, or annotate the parameter as Path"


def _class_of(wanted: Any) -> type:
    """Return the class of an annotation; `object` accepts any value."""
    kind = get_origin(wanted) or wanted
    return kind if isinstance(kind, type) and kind is not Any else object


def _read_file(path: Path, suffix: str, wanted: Any) -> Any:
    kind = _class_of(wanted)
    if kind is object or issubclass(kind, Path):
        return path
    if kind is pd.DataFrame and suffix in (".parquet", ".csv"):
        return pd.read_parquet(path) if suffix == ".parquet" else pd.read_csv(path)
    if kind is pd.DataFrame or suffix != ".parquet" or not Parquet().reads(kind):
        readable = "only .parquet and .csv can be loaded as a DataFrame, and .parquet as another table"
        raise InputError(
            f"the tracked file has the suffix {suffix!r} and cannot be loaded as {name_of(kind)}; {readable}",
            next_step="annotate the parameter as Path, and read the file in the function",
        )
    return Parquet().read(path, kind)


def _is_one_dictionary(entries: Sequence[ResolvedInput]) -> bool:
    """Return True if an upstream without partitions has a dictionary as its value."""
    if len(entries) != 1 or entries[0].partition is not None:
        return False
    record = find_record(entries[0].metadata)
    form = format_named(record.content.format) if record and record.content else None
    return form is not None and dict in form.types


def _without_none(wanted: Any) -> tuple[Any, bool]:
    """Return a type without its ``None`` alternative, and True if it had one or accepts any value."""
    if get_origin(wanted) in (Union, UnionType) and type(None) in get_args(wanted):
        rest = tuple(item for item in get_args(wanted) if item is not type(None))
        return (rest[0] if len(rest) == 1 else Union[rest]), True  # noqa: UP007
    return wanted, wanted is Any


def _joined(values: list[Any], entries: Sequence[ResolvedInput]) -> Any:
    if len(values) <= 1:
        return values[0] if values else None
    joined = joined_tables(values)
    if joined is not None:
        return joined
    raise InputError(
        f"the input has {len(values)} partitions that are not all DataFrames and cannot be concatenated",
        next_step="annotate the parameter as dict[str, ...] to receive one value per partition",
        asset=entries[0].artifact.asset if entries else None,
    )

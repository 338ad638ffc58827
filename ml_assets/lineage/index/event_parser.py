"""Parses one event of Dagster's log: a version of an asset, and the inputs that were recorded with it. Pure.

Dagster creates an object for each part of an event, which takes six times as long as reading only the parts that
lineage needs. Therefore an event is read as JSON, and passed to Dagster only if it does not have the expected form.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import dagster as dg
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from ml_assets.dagster_internals import DeserializationError
from ml_assets.lineage.graph import Node, NodeKind, image_digest
from ml_assets.lineage.index.dagster_inputs import DagsterInput
from ml_assets.resources.errors import LineageError, RecordError, RecordTooNew
from ml_assets.resources.provenance import (
    ENVIRONMENT_METADATA,
    INPUTS_METADATA,
    RECORD_METADATA,
    SOURCE_METADATA,
    TRACKED_METADATA,
    InputVersion,
    ProvenanceRecord,
    RunEnvironment,
    Source,
    record_of,
)

__all__ = ["ParsedEvent", "StepImage", "parse_event", "parse_record"]

_Form = TypeVar("_Form")

_DATA_VERSION_TAG: Final = "dagster/data_version"
_CODE_VERSION_TAG: Final = "dagster/code_version"
_INPUT_VERSION_TAG: Final = "dagster/input_data_version/"
_INPUT_POINTER_TAG: Final = "dagster/input_event_pointer/"
_NO_EVENT: Final = "NULL"
_MOST_DIGITS: Final = 18
_INPUT_VERSIONS: Final = TypeAdapter(tuple[InputVersion, ...])
_ENVIRONMENT: Final = TypeAdapter(RunEnvironment)
_SOURCE: Final = TypeAdapter(Source)
_FORMS: Final = {"StepMaterializationData": "materialization", "AssetObservationData": "asset_observation"}
_JSON_FORM: Final = ("JsonMetadataEntryData", "data")
_TEXT_FORM: Final = ("TextMetadataEntryData", "text")


class _BuiltImage(Protocol):
    @property
    def asset(self) -> str: ...
    @property
    def image(self) -> str | None: ...


class StepImage(NamedTuple):
    """The image that a step ran in.

    Attributes:
        asset: the image asset that it belongs to.
        digests: its digest, and the digest of the index above it, if any.
    """

    asset: str
    digests: frozenset[str]

    def is_built_by(self, built: "_BuiltImage") -> bool:
        """Return True if a materialization of the image asset built this image."""
        return built.asset == self.asset and built.image is not None and image_digest(built.image) in self.digests


@dataclass(frozen=True, slots=True)
class ParsedEvent:
    """A node and its recorded inputs: versions from a provenance record, or Dagster's own tags.

    Attributes:
        ran_in: the image that it was made in; None if unknown, or if there was none.
    """

    node: Node
    inputs: tuple[InputVersion, ...] = ()
    dagster_inputs: tuple[DagsterInput, ...] = ()
    ran_in: "StepImage | None" = None

    @property
    def storage_id(self) -> int:
        """Return the id of the event, which every node from the log has."""
        return self.node.storage_id or 0


def parse_event(storage_id: int, serialized: str) -> ParsedEvent | None:
    """Return the asset version of an event; None for an observation without a data version.

    An event whose provenance record is malformed, or has a newer form than this version reads, becomes a node of kind
    `NodeKind.UNREADABLE`.

    Args:
        storage_id: the event's id in Dagster's log.
        serialized: the event as the log holds it.
    """
    event = _Event.of_json(storage_id, serialized) or _Event.of_dagster(storage_id, serialized)
    if event is None or not (event.is_materialization or _DATA_VERSION_TAG in event.tags):
        return None
    try:
        return _read(event)
    except LineageError as error:
        return _unreadable(event, error)


def parse_record(storage_id: int, serialized: str) -> ProvenanceRecord | None:
    """Return the whole provenance record of an event; None if it has none.

    Args:
        storage_id: the event's id in Dagster's log.
        serialized: the event as the log holds it.

    Raises:
        LineageError: the record is malformed, or has a newer form than this version reads.
    """
    event = _Event.of_json(storage_id, serialized) or _Event.of_dagster(storage_id, serialized)
    payload = _metadata(event, RECORD_METADATA) if event else None
    return _provenance(event, payload) if event and payload is not None else None


@dataclass(frozen=True, slots=True)
class _Event:
    storage_id: int
    is_materialization: bool
    asset: str
    partition: str | None
    run_id: str
    timestamp: float
    tags: Mapping[str, str]
    metadata: Mapping[str, Any]
    """Metadata by name; text is wrapped as Dagster's own value, so that it differs from a JSON string."""

    @classmethod
    def of_json(cls, storage_id: int, serialized: str) -> "_Event | None":
        """Return the event from the form that the current Dagster writes; None for another form."""
        try:
            entry = from_json(serialized)
            data = entry["dagster_event"]["event_specific_data"]
            form = _FORMS[data["__class__"]]
            event = data[form]
            return cls(
                storage_id=storage_id,
                is_materialization=form == "materialization",
                asset="/".join(event["asset_key"]["path"]),
                partition=event["partition"],
                run_id=entry["run_id"],
                timestamp=entry["timestamp"],
                tags=event["tags"] or {},
                metadata={each["label"]: _value(each) for each in event["metadata_entries"] if each["label"] in _OURS},
            )
        except (KeyError, TypeError, ValueError):
            return None

    @classmethod
    def of_dagster(cls, storage_id: int, serialized: str) -> "_Event | None":
        """Return the event from any form that Dagster reads; None if it is not an event of an asset."""
        try:
            record = dg.EventLogRecord(storage_id, dg.deserialize_value(serialized, dg.EventLogEntry))
        except (DeserializationError, dg.DagsterError, ValueError):
            return None
        event, key = record.asset_event, record.asset_key
        if event is None or key is None:
            return None
        return cls(
            storage_id=storage_id,
            is_materialization=record.asset_materialization is not None,
            asset=key.to_user_string(),
            partition=record.partition_key,
            run_id=record.run_id,
            timestamp=record.timestamp,
            tags=event.tags or {},
            metadata={
                name: value if isinstance(value, dg.TextMetadataValue) else value.value
                for name, value in event.metadata.items()
            },
        )

    @property
    def name(self) -> str:
        partition = f"@{self.partition}" if self.partition else ""
        return f"event {self.storage_id} ({self.asset}{partition}, run {self.run_id or 'none'})"


_OURS: Final = frozenset({RECORD_METADATA, INPUTS_METADATA, ENVIRONMENT_METADATA, SOURCE_METADATA, TRACKED_METADATA})


def _value(entry: Mapping[str, Any]) -> Any:
    value = entry["entry_data"]
    form, content = _JSON_FORM
    if value["__class__"] == form:
        return value[content]
    form, content = _TEXT_FORM
    if value["__class__"] == form:
        return dg.TextMetadataValue(value[content])
    raise ValueError(value["__class__"])


def _read(event: _Event) -> ParsedEvent:
    payload = _metadata(event, RECORD_METADATA)
    if payload is None:
        return _foreign(event)
    provenance = _provenance(event, payload)
    ran = provenance.environment
    return ParsedEvent(_artifact(event, provenance), _inputs_as_run(provenance.inputs, ran), ran_in=_ran_in(ran))


def _ran_in(environment: RunEnvironment) -> StepImage | None:
    if environment.image is None or environment.image_asset is None:
        return None
    return StepImage(
        environment.image_asset, frozenset(filter(None, (image_digest(environment.image), environment.index_digest)))
    )


def _provenance(event: _Event, payload: Any) -> ProvenanceRecord:
    try:
        provenance = record_of({RECORD_METADATA: payload})
    except RecordTooNew as error:
        raise LineageError(f"{event.name}: {error.what}", next_step=error.next_step) from error
    except RecordError as error:
        raise LineageError(f"{event.name}: {error.what}", next_step=_repair(event)) from error
    if (provenance.asset, provenance.partition) != (event.asset, event.partition):
        raise _malformed(event, "provenance record", f"it belongs to {provenance.asset}@{provenance.partition}")
    _require_references(event, RECORD_METADATA, provenance.made_image, provenance.environment.image)
    return provenance


def _require_references(event: _Event, name: str, *images: str | None) -> None:
    try:
        for image in filter(None, images):
            image_digest(image)
    except ValueError as error:
        raise _malformed(event, f"metadata {name}", str(error)) from error


def _artifact(event: _Event, provenance: ProvenanceRecord) -> Node:
    content, mlflow, ran = provenance.content, provenance.mlflow, provenance.environment
    return Node(
        asset=provenance.asset,
        kind=provenance.kind,
        partition=provenance.partition,
        data_version=provenance.data_version,
        storage_id=event.storage_id,
        content_version=content.version if content and content.version != provenance.data_version else None,
        code_version=provenance.code_version,
        image=provenance.made_image or ran.image,
        index_digest=provenance.made_index_digest if provenance.made_image else ran.index_digest,
        environment=ran.environment_digest,
        mlflow_run=mlflow.run_id if mlflow else None,
        model_version=mlflow.registered_version if mlflow else None,
        commit=provenance.source.commit,
        dirty=provenance.source.dirty,
        dagster_run=provenance.dagster_run,
        timestamp=_timestamp(event),
    )


def _inputs_as_run(inputs: Iterable[InputVersion], ran: RunEnvironment) -> tuple[InputVersion, ...]:
    """Return the inputs, with the image that the step ran in.

    A step may run in an image that is not the latest, or with an interpreter that changed after its environment was
    recorded. Its image is then not the latest materialization of the image asset.
    """
    return tuple(
        InputVersion(asset=read.asset, data_version=ran.environment_digest, loaded=False)
        if read.asset == ran.image_asset and read.data_version != ran.environment_digest
        else read
        for read in inputs
    )


def _foreign(event: _Event) -> ParsedEvent:
    """Return the event of an asset without a factory, from the records of Dagster and of this project's I/O manager."""
    node = _plain(event, NodeKind.ASSET if event.is_materialization else NodeKind.OBSERVATION)
    inputs = _validated(event, INPUTS_METADATA, _INPUT_VERSIONS) or ()
    ran = _validated(event, ENVIRONMENT_METADATA, _ENVIRONMENT)
    source = _validated(event, SOURCE_METADATA, _SOURCE)
    if ran:
        _require_references(event, ENVIRONMENT_METADATA, ran.image)
        inputs = _inputs_as_run(inputs, ran)
        node = replace(node, image=ran.image, index_digest=ran.index_digest, environment=ran.environment_digest)
    if source:
        node = replace(node, commit=source.commit, dirty=source.dirty)
    if tracked := _tracked_commit(event):
        node = replace(node, commit=tracked)
    read = {version.asset for version in inputs}
    dagster_inputs = tuple(each for each in _dagster_inputs(event) if each.asset not in read)
    return ParsedEvent(node, inputs, dagster_inputs, _ran_in(ran) if ran else None)


def _validated(event: _Event, name: str, form: TypeAdapter[_Form]) -> _Form | None:
    payload = _metadata(event, name)
    if payload is None:
        return None
    try:
        return form.validate_python(payload)
    except ValidationError as error:
        raise _malformed(event, f"metadata {name}", _explain(error)) from error


def _unreadable(event: _Event, error: LineageError) -> ParsedEvent:
    """Return the event with only Dagster's own fields."""
    # Create a new error, because the raised error keeps the whole record alive through its traceback.
    problem = LineageError(error.what, next_step=error.next_step)
    try:
        dagster_inputs = tuple(_dagster_inputs(event))
    except LineageError:
        dagster_inputs = ()
    return ParsedEvent(replace(_plain(event, NodeKind.UNREADABLE), problem=problem), dagster_inputs=dagster_inputs)


def _plain(event: _Event, kind: NodeKind) -> Node:
    tags = event.tags
    return Node(
        asset=event.asset,
        kind=kind,
        partition=event.partition,
        data_version=tags.get(_DATA_VERSION_TAG),
        storage_id=event.storage_id,
        code_version=tags.get(_CODE_VERSION_TAG),
        dagster_run=event.run_id or None,
        timestamp=_timestamp(event),
    )


def _tracked_commit(event: _Event) -> str | None:
    tracked = _metadata(event, TRACKED_METADATA)
    commit = tracked.get("commit") if isinstance(tracked, dict) else None
    if commit is None or isinstance(commit, str):
        return commit
    raise _malformed(event, f"metadata {TRACKED_METADATA}", f"{commit!r} is not a commit")


def _dagster_inputs(event: _Event) -> Iterator[DagsterInput]:
    tags = event.tags
    for tag, value in tags.items():
        asset = tag.removeprefix(_INPUT_POINTER_TAG)
        version = tags.get(_INPUT_VERSION_TAG + asset)
        if asset == tag or value == _NO_EVENT or version is None:
            continue
        if not value.isdecimal() or len(value) > _MOST_DIGITS:
            raise _malformed(event, f"tag {tag}", f"{value!r} is not the id of an event")
        yield DagsterInput(asset, version, int(value))


def _metadata(event: _Event, name: str) -> Any:
    value = event.metadata.get(name)
    if not isinstance(value, dg.TextMetadataValue):
        return value
    try:
        return json.loads(value.value or "")
    except json.JSONDecodeError as error:
        raise _malformed(event, f"metadata {name}", str(error)) from error


def _timestamp(event: _Event) -> datetime:
    return datetime.fromtimestamp(event.timestamp, UTC)


def _malformed(event: _Event, what: str, why: str) -> LineageError:
    return LineageError(
        f"the {what} of {event.name} is malformed: {why}",
        next_step=_repair(event),
    )


def _repair(event: _Event) -> str:
    return (
        f"materialize {event.asset} and then its downstream assets again; or delete all of its events, because a single"
        f" event cannot be wiped: dagster asset wipe {event.asset}"
    )


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'value'}: {problem['msg']}"
        for problem in error.errors(include_url=False)[:3]
    )

"""What one event of Dagster's log says: a version of an asset, and the inputs that were recorded with it. Pure.

Dagster makes an object of each part of an event that it reads, which takes six times as long as reading what lineage
needs. So an event is read as JSON, and handed to Dagster only where it does not have the form that is expected here.
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
from ml_assets.lineage.index.dagster_inputs import Pointer
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

__all__ = ["RanImage", "Recorded", "read_event", "read_record"]

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


class _Made(Protocol):
    @property
    def asset(self) -> str: ...
    @property
    def image(self) -> str | None: ...


class RanImage(NamedTuple):
    """The image that a step ran in.

    Attributes:
        asset: the image asset that it is of.
        digests: its digest, and that of the index above it, if any.
    """

    asset: str
    digests: frozenset[str]

    def is_made_by(self, made: "_Made") -> bool:
        """Whether this is what a materialization of the image asset made."""
        return made.asset == self.asset and made.image is not None and image_digest(made.image) in self.digests


@dataclass(frozen=True, slots=True)
class Recorded:
    """A node, and its inputs as they were written down: as versions, or as Dagster's pointers.

    Attributes:
        ran_in: the image that it was made in; None where nobody knows, or there was none.
    """

    node: Node
    inputs: tuple[InputVersion, ...] = ()
    pointers: tuple[Pointer, ...] = ()
    ran_in: "RanImage | None" = None

    @property
    def storage_id(self) -> int:
        """Id of the event, which every node of the log has."""
        return self.node.storage_id or 0


def read_event(storage_id: int, serialized: str) -> Recorded | None:
    """What an event says of its asset's version; None for an observation that is only a remark about the asset.

    An event whose provenance record is malformed, or of a later form than this reads, becomes a node of kind
    `NodeKind.UNREADABLE`.

    Args:
        storage_id: the event's id in Dagster's log.
        serialized: the event as the log holds it.
    """
    record = _Event.of_json(storage_id, serialized) or _Event.of_dagster(storage_id, serialized)
    if record is None or not (record.is_materialization or _DATA_VERSION_TAG in record.tags):
        return None
    try:
        return _read(record)
    except LineageError as error:
        return _unreadable(record, error)


def read_record(storage_id: int, serialized: str) -> ProvenanceRecord | None:
    """The whole provenance record of an event; None if it carries none.

    Args:
        storage_id: the event's id in Dagster's log.
        serialized: the event as the log holds it.

    Raises:
        LineageError: the record is malformed, or of a later form than this reads.
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
    """By name; text is wrapped as Dagster's own value, so that it differs from a JSON string."""

    @classmethod
    def of_json(cls, storage_id: int, serialized: str) -> "_Event | None":
        """Reads the form that Dagster writes today; None if it is another one."""
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
        """Reads any form that Dagster reads; None if it is no event of an asset."""
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


def _read(record: _Event) -> Recorded:
    payload = _metadata(record, RECORD_METADATA)
    if payload is None:
        return _foreign(record)
    provenance = _provenance(record, payload)
    ran = provenance.environment
    return Recorded(_artifact(record, provenance), _inputs_as_run(provenance.inputs, ran), ran_in=_ran_in(ran))


def _ran_in(environment: RunEnvironment) -> RanImage | None:
    if environment.image is None or environment.image_asset is None:
        return None
    return RanImage(
        environment.image_asset, frozenset(filter(None, (image_digest(environment.image), environment.index_digest)))
    )


def _provenance(record: _Event, payload: Any) -> ProvenanceRecord:
    try:
        provenance = record_of({RECORD_METADATA: payload})
    except RecordTooNew as error:
        raise LineageError(f"{record.name}: {error.what}", next_step=error.next_step) from error
    except RecordError as error:
        raise LineageError(f"{record.name}: {error.what}", next_step=_repair(record)) from error
    if (provenance.asset, provenance.partition) != (record.asset, record.partition):
        raise _malformed(record, "provenance record", f"it is of {provenance.asset}@{provenance.partition}")
    _require_references(record, RECORD_METADATA, provenance.made_image, provenance.environment.image)
    return provenance


def _require_references(record: _Event, name: str, *images: str | None) -> None:
    try:
        for image in filter(None, images):
            image_digest(image)
    except ValueError as error:
        raise _malformed(record, f"metadata {name}", str(error)) from error


def _artifact(record: _Event, provenance: ProvenanceRecord) -> Node:
    content, mlflow, ran = provenance.content, provenance.mlflow, provenance.environment
    return Node(
        asset=provenance.asset,
        kind=provenance.kind,
        partition=provenance.partition,
        data_version=provenance.data_version,
        storage_id=record.storage_id,
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
        timestamp=_timestamp(record),
    )


def _inputs_as_run(inputs: Iterable[InputVersion], ran: RunEnvironment) -> tuple[InputVersion, ...]:
    """The inputs, the image being the one that the step ran in.

    A step that was given another image than the latest, or an interpreter that has changed since its environment was
    recorded, was not made in what its image asset had last materialized.
    """
    return tuple(
        InputVersion(asset=read.asset, data_version=ran.environment_digest, loaded=False)
        if read.asset == ran.image_asset and read.data_version != ran.environment_digest
        else read
        for read in inputs
    )


def _foreign(record: _Event) -> Recorded:
    """An event of an asset that no factory made, with what Dagster and our IO manager wrote down of it."""
    node = _plain(record, NodeKind.ASSET if record.is_materialization else NodeKind.OBSERVATION)
    inputs = _validated(record, INPUTS_METADATA, _INPUT_VERSIONS) or ()
    ran = _validated(record, ENVIRONMENT_METADATA, _ENVIRONMENT)
    source = _validated(record, SOURCE_METADATA, _SOURCE)
    if ran:
        _require_references(record, ENVIRONMENT_METADATA, ran.image)
        inputs = _inputs_as_run(inputs, ran)
        node = replace(node, image=ran.image, index_digest=ran.index_digest, environment=ran.environment_digest)
    if source:
        node = replace(node, commit=source.commit, dirty=source.dirty)
    if tracked := _tracked_commit(record):
        node = replace(node, commit=tracked)
    read = {version.asset for version in inputs}
    pointers = tuple(each for each in _pointers(record) if each.asset not in read)
    return Recorded(node, inputs, pointers, _ran_in(ran) if ran else None)


def _validated(record: _Event, name: str, form: TypeAdapter[_Form]) -> _Form | None:
    payload = _metadata(record, name)
    if payload is None:
        return None
    try:
        return form.validate_python(payload)
    except ValidationError as error:
        raise _malformed(record, f"metadata {name}", _explain(error)) from error


def _unreadable(record: _Event, error: LineageError) -> Recorded:
    """The event with what Dagster alone wrote down of it."""
    # A new error, for the raised one holds the whole record through its traceback.
    problem = LineageError(error.what, next_step=error.next_step)
    try:
        pointers = tuple(_pointers(record))
    except LineageError:
        pointers = ()
    return Recorded(replace(_plain(record, NodeKind.UNREADABLE), problem=problem), pointers=pointers)


def _plain(record: _Event, kind: NodeKind) -> Node:
    tags = record.tags
    return Node(
        asset=record.asset,
        kind=kind,
        partition=record.partition,
        data_version=tags.get(_DATA_VERSION_TAG),
        storage_id=record.storage_id,
        code_version=tags.get(_CODE_VERSION_TAG),
        dagster_run=record.run_id or None,
        timestamp=_timestamp(record),
    )


def _tracked_commit(record: _Event) -> str | None:
    tracked = _metadata(record, TRACKED_METADATA)
    commit = tracked.get("commit") if isinstance(tracked, dict) else None
    if commit is None or isinstance(commit, str):
        return commit
    raise _malformed(record, f"metadata {TRACKED_METADATA}", f"{commit!r} is not a commit")


def _pointers(record: _Event) -> Iterator[Pointer]:
    tags = record.tags
    for tag, value in tags.items():
        asset = tag.removeprefix(_INPUT_POINTER_TAG)
        version = tags.get(_INPUT_VERSION_TAG + asset)
        if asset == tag or value == _NO_EVENT or version is None:
            continue
        if not value.isdecimal() or len(value) > _MOST_DIGITS:
            raise _malformed(record, f"tag {tag}", f"{value!r} is not the id of an event")
        yield Pointer(asset, version, int(value))


def _metadata(record: _Event, name: str) -> Any:
    value = record.metadata.get(name)
    if not isinstance(value, dg.TextMetadataValue):
        return value
    try:
        return json.loads(value.value or "")
    except json.JSONDecodeError as error:
        raise _malformed(record, f"metadata {name}", str(error)) from error


def _timestamp(record: _Event) -> datetime:
    return datetime.fromtimestamp(record.timestamp, UTC)


def _malformed(record: _Event, what: str, why: str) -> LineageError:
    return LineageError(
        f"the {what} of {record.name} is malformed: {why}",
        next_step=_repair(record),
    )


def _repair(record: _Event) -> str:
    return (
        f"materialize {record.asset} again, and then what was made of it; or forget all of its events, for a single one"
        f" cannot be wiped: dagster asset wipe {record.asset}"
    )


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'value'}: {problem['msg']}"
        for problem in error.errors(include_url=False)[:3]
    )

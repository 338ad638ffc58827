"""Lineage derived from the definitions alone, with which the index must agree.

Dagster itself reads the whole log, and all of it is linked at once.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final, Self

import dagster as dg
from pydantic import TypeAdapter, ValidationError

from ml_assets.lineage.graph import Edge, LineageGraph, Node, NodeKind, Trace
from ml_assets.lineage.index.dagster_inputs import DagsterInput, resolve_dagster_input
from ml_assets.lineage.index.event_parser import StepImage
from ml_assets.lineage.references import Interpretation, ParsedReference, ReferenceKind, parse_reference
from ml_assets.resources.errors import AmbiguousReference, LineageError, UnknownReference
from ml_assets.resources.identity import AssetPartition, ImageReference
from ml_assets.resources.provenance import (
    ENVIRONMENT_METADATA,
    INPUTS_METADATA,
    RECORD_METADATA,
    SCHEMA_VERSION,
    SOURCE_METADATA,
    TRACKED_METADATA,
    ArtifactKind,
    InputVersion,
    ProvenanceRecord,
    RunEnvironment,
    Source,
)

__all__ = ["Event", "ReferenceGraph", "UnlinkedEvent", "link_dagster_inputs", "load_graph"]

_PAGE: Final = 1000
_DATA_VERSION_TAG: Final = "dagster/data_version"
_CODE_VERSION_TAG: Final = "dagster/code_version"
_INPUT_VERSION_TAG: Final = "dagster/input_data_version/"
_INPUT_POINTER_TAG: Final = "dagster/input_event_pointer/"
_NO_EVENT: Final = "NULL"
_INPUT_VERSIONS: Final = TypeAdapter(tuple[InputVersion, ...])


@dataclass(frozen=True, slots=True)
class Event:
    """A node of the log and its recorded inputs."""

    node: Node
    inputs: tuple[InputVersion, ...] = ()
    ran_in: StepImage | None = None


class ReferenceGraph(LineageGraph):
    """The whole graph, and the lookup of references in it."""

    @classmethod
    def of_events(cls, events: Iterable[Event]) -> Self:
        """Link events by the inputs that they recorded.

        An input with a storage id is exactly that event if its asset, partition, version and run agree: a log may give
        the id of a deleted event to a new one. A pinned input, which has no id, is the last event before its reader
        with that asset, partition and version. If the recorded event of a step's image made another image than the one
        in which the step ran, the last event before the step that made exactly this image replaces it. An input that is
        not among the events becomes a separate node of kind `NodeKind.MISSING`.
        """
        ordered = sorted(events, key=lambda event: event.node.storage_id or 0)
        log = _Log(event.node for event in ordered)
        missing: dict[str, Node] = {}
        edges = []
        for event in ordered:
            for read in event.inputs:
                source = log.find(read, event)
                if source is None:
                    source = _missing(read, log, missing)
                edges.append(Edge(source.id, event.node.id))
        nodes = [*missing.values(), *(event.node for event in ordered)]
        return cls(sorted(nodes, key=lambda node: node.storage_id or 0), edges)

    def find(self, reference: ParsedReference) -> tuple[Node, ...]:
        """Return the nodes that a reference names.

        An asset, or one partition of it, means the latest materialization of each of its partitions: its current state.
        Every other reference means all nodes that carry it, such as each materialization with the same data version.

        Raises:
            UnknownReference: no recorded artifact matches the reference.
            AmbiguousReference: several different artifacts match the reference.
        """
        named = self._exact(reference) or self._beginning(reference)
        if not named:
            raise _unknown(reference, [node for node in self.nodes.values() if node.problem])
        if len(named) > 1:
            raise _ambiguous(reference, {name: [self.nodes[i].id for i in self._names[name]] for name in named})
        (name,) = named
        found = [self.nodes[node_id] for node_id in self._names[name]]
        return _latest_of_each_partition(found) if name[0] is ReferenceKind.ASSET else tuple(found)

    def find_equal(self, reference: ParsedReference) -> tuple[Node, ...]:
        """Return the nodes that a reference names; for an asset, also all nodes with its current version."""
        named = self.find(reference)
        name = (self._exact(reference) or self._beginning(reference))[0]
        if name[0] is not ReferenceKind.ASSET:
            return named
        nodes = self.nodes.values()
        return tuple(node for node in nodes if any(node is each or _gave_the_same(node, each) for each in named))

    def trace(self, text: str) -> Trace:
        """Return everything upstream and downstream of a reference.

        Args:
            text: any reference that `parse_reference` accepts.

        Raises:
            UnknownReference: no recorded artifact matches the reference.
            AmbiguousReference: several different artifacts match the reference.
            LineageError: an event that is part of the answer cannot be read, so the answer may lack inputs.
        """
        reference = parse_reference(text)
        starts = tuple(node.id for node in self.find_equal(reference))
        upstream, downstream = self.upstream(node.id for node in self.find(reference)), self.downstream(starts)
        answer = self.subgraph(upstream | downstream)
        for node in answer.nodes.values():
            if node.problem:
                raise node.problem
        return Trace(text, starts, answer, upstream, downstream)

    @cached_property
    def _names(self) -> dict[tuple[ReferenceKind, str], list[str]]:
        names: dict[tuple[ReferenceKind, str], list[str]] = defaultdict(list)
        for node in self.nodes.values():
            for name in _names(node):
                names[name].append(node.id)
        return dict(names)

    def _exact(self, reference: ParsedReference) -> list[tuple[ReferenceKind, str]]:
        names = dict.fromkeys(
            (interpretation.kind, interpretation.value) for interpretation in reference.interpretations
        )
        return [name for name in names if name in self._names]

    def _beginning(self, reference: ParsedReference) -> list[tuple[ReferenceKind, str]]:
        interpretations = [interpretation for interpretation in reference.interpretations if interpretation.is_prefix]
        if not interpretations:
            return []
        return sorted(
            name for name in self._names if any(_begins(name, interpretation) for interpretation in interpretations)
        )


def _names(node: Node) -> frozenset[tuple[ReferenceKind, str]]:
    """Return everything that identifies this node, alone or together with others."""
    digest = str(ImageReference.parse(node.image).digest) if node.image else None
    named = {
        (ReferenceKind.EVENT, node.id),
        (ReferenceKind.ASSET, node.asset),
        (ReferenceKind.ASSET, str(AssetPartition(node.asset, node.partition))),
        (ReferenceKind.IMAGE, node.image),
        (ReferenceKind.MLFLOW_RUN, node.mlflow_run),
        (ReferenceKind.MODEL_VERSION, node.model_version),
        (ReferenceKind.DAGSTER_RUN, node.dagster_run),
        (ReferenceKind.COMMIT, node.commit),
    }
    versions = (node.data_version, node.content_version, node.environment, digest, node.index_digest)
    named |= {(ReferenceKind.VERSION, version) for version in versions}
    return frozenset((kind, value) for kind, value in named if value)


class _Log:
    """Finds the event of an input version."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.by_storage_id: dict[int, Node] = {}
        self._by_version: dict[tuple[str, str | None, str], list[Node]] = defaultdict(list)
        for node in nodes:
            if node.storage_id is not None:
                self.by_storage_id[node.storage_id] = node
            if node.data_version is not None:
                self._by_version[node.asset, node.partition, node.data_version].append(node)

    def find(self, read: InputVersion, reader: Event) -> Node | None:
        image = reader.ran_in if reader.ran_in and reader.ran_in.asset == read.asset else None
        recorded = self.by_storage_id.get(read.storage_id or 0)
        is_earlier = recorded is not None and (recorded.storage_id or 0) < (reader.node.storage_id or 0)
        if recorded and is_earlier and _agrees(recorded, read) and (image is None or image.is_built_by(recorded)):
            return recorded
        if image:
            same = [node for node in self.by_storage_id.values() if image.is_built_by(node)]
        elif read.storage_id is not None:
            return None
        else:
            same = self._by_version.get((read.asset, read.partition, read.data_version), [])
        earlier = [node for node in same if (node.storage_id or 0) < (reader.node.storage_id or 0)]
        return max(earlier, key=lambda node: node.storage_id or 0, default=None)


def _agrees(node: Node, read: InputVersion) -> bool:
    return (
        (node.asset, node.partition) == (read.asset, read.partition)
        and (node.data_version is None or node.data_version == read.data_version)
        and (not node.dagster_run or not read.run_id or node.dagster_run == read.run_id)
    )


def _missing(read: InputVersion, log: _Log, missing: dict[str, Node]) -> Node:
    """Return a node made from the input version alone, shared by its readers.

    The storage id is omitted if another event has the same one, so that no two events become one node.
    """
    node = Node(
        asset=read.asset,
        kind=NodeKind.MISSING,
        partition=read.partition,
        data_version=read.data_version,
        storage_id=read.storage_id,
        dagster_run=read.run_id or None,
    )
    if node.storage_id in log.by_storage_id or missing.get(node.id, node) != node:
        node = replace(node, storage_id=None)
    return missing.setdefault(node.id, node)


def _latest_of_each_partition(nodes: list[Node]) -> tuple[Node, ...]:
    """Return the last node of each partition; a missing node only if the partition has no other."""
    latest: dict[str | None, Node] = {}
    for node in sorted(nodes, key=lambda node: (node.kind is not NodeKind.MISSING, node.storage_id or 0)):
        latest[node.partition] = node
    return tuple(latest[partition] for partition in sorted(latest, key=lambda partition: partition or ""))


def _gave_the_same(node: Node, other: Node) -> bool:
    same = (node.asset, node.partition, node.data_version) == (other.asset, other.partition, other.data_version)
    if node.kind is other.kind is ArtifactKind.IMAGE and node.image and other.image:
        same &= ImageReference.parse(node.image).digest == ImageReference.parse(other.image).digest
    return same and node.data_version is not None


def _begins(name: tuple[ReferenceKind, str], interpretation: Interpretation) -> bool:
    kind, value = name
    if kind is not interpretation.kind:
        return False
    return value.startswith(interpretation.value) or (
        kind is ReferenceKind.VERSION and value.partition(":")[2].startswith(interpretation.value)
    )


def _unknown(reference: ParsedReference, unreadable: list[Node]) -> UnknownReference:
    except_in = f" (unreadable events: {len(unreadable)}, such as {unreadable[-1].id})" if unreadable else ""
    return UnknownReference(
        f"no recorded artifact matches {reference.text!r}{except_in}",
        next_step="check the spelling, and check that this is the Dagster instance that recorded it"
        + (f"; run trace {unreadable[-1].id!r} to see why that event cannot be read" if unreadable else ""),
    )


def _ambiguous(reference: ParsedReference, named: Mapping[tuple[ReferenceKind, str], list[str]]) -> AmbiguousReference:
    shown = [f"{kind} {value} ({ids[-1]})" for (kind, value), ids in list(named.items())[:6]]
    more = f", and {len(named) - len(shown)} more" if len(named) > len(shown) else ""
    return AmbiguousReference(
        f"{reference.text!r} is ambiguous: it matches {' and '.join(shown)}{more}",
        next_step="write one of them in full, or write the id of a materialization, as shown in parentheses",
    )


def load_graph(instance: dg.DagsterInstance) -> ReferenceGraph:
    """Return the lineage graph of an instance's event log.

    Nodes are all materializations, and the observations with a data version. Today's definitions are not used. Reads
    the whole log of asset events: about 8,000 events a second. An event whose provenance record is malformed, or has a
    later format than this code reads, becomes a node of kind `NodeKind.UNREADABLE`; only traces that contain it are
    refused.
    """
    found: dict[int, UnlinkedEvent] = {}
    for key in instance.get_asset_keys():
        for record in _pages(instance, key):
            found[record.storage_id] = _parse(record)
    _add_late(instance, found)
    return ReferenceGraph.of_events(link_dagster_inputs(found))


@dataclass(frozen=True)
class UnlinkedEvent:
    """An event and its recorded inputs: as versions, or as Dagster's pointers."""

    event: Event
    dagster_inputs: tuple[DagsterInput, ...] = ()

    @property
    def referenced(self) -> Iterator[tuple[str, int]]:
        """The asset and storage id of each event that it references."""
        yield from ((read.asset, read.storage_id) for read in self.event.inputs if read.storage_id is not None)
        yield from ((dagster_input.asset, dagster_input.storage_id) for dagster_input in self.dagster_inputs)


def _pages(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[dg.EventLogRecord]:
    for fetch in (instance.fetch_materializations, instance.fetch_observations):
        cursor, more = None, True
        while more:
            page = fetch(key, limit=_PAGE, cursor=cursor, ascending=True)
            yield from (record for record in page.records if _is_version(record))
            cursor, more = page.cursor, page.has_more


def _add_late(instance: dg.DagsterInstance, found: dict[int, UnlinkedEvent]) -> None:
    """Fetch inputs that were recorded after their asset was read, because the log was growing."""
    asked: set[tuple[str, int]] = set()
    while wanted := _unseen(found) - asked:
        asked |= wanted
        by_asset = defaultdict(list)
        for asset, storage_id in wanted:
            by_asset[asset].append(storage_id)
        for asset, storage_ids in by_asset.items():
            for record in _by_storage_id(instance, dg.AssetKey.from_user_string(asset), storage_ids):
                found[record.storage_id] = _parse(record)


def _unseen(found: dict[int, UnlinkedEvent]) -> set[tuple[str, int]]:
    return {
        (asset, storage_id)
        for recorded in found.values()
        for asset, storage_id in recorded.referenced
        if storage_id not in found
    }


def _by_storage_id(
    instance: dg.DagsterInstance, key: dg.AssetKey, storage_ids: list[int]
) -> Iterator[dg.EventLogRecord]:
    for start in range(0, len(storage_ids), _PAGE):
        wanted = dg.AssetRecordsFilter(asset_key=key, storage_ids=storage_ids[start : start + _PAGE])
        for fetch in (instance.fetch_materializations, instance.fetch_observations):
            yield from (record for record in fetch(wanted, limit=_PAGE).records if _is_version(record))


def _is_version(record: dg.EventLogRecord) -> bool:
    """Return True if the event gives its asset a version; an observation may be a mere remark about the asset."""
    return record.asset_materialization is not None or _DATA_VERSION_TAG in _tags(record)


def link_dagster_inputs(found: Mapping[int, UnlinkedEvent]) -> Iterator[Event]:
    """Yield the events with their pointers resolved."""
    history: dict[str, list[Node]] = defaultdict(list)
    for storage_id in sorted(found):
        node = found[storage_id].event.node
        history[node.asset].append(node)
    for recorded in found.values():
        node, inputs = recorded.event.node, list(recorded.event.inputs)
        for dagster_input in recorded.dagster_inputs:
            inputs += resolve_dagster_input(dagster_input, node, history[dagster_input.asset])
        yield Event(node, tuple(inputs), recorded.event.ran_in)


def _parse(record: dg.EventLogRecord) -> UnlinkedEvent:
    try:
        return _read(record)
    except LineageError as error:
        return _unreadable(record, error)


def _read(record: dg.EventLogRecord) -> UnlinkedEvent:
    payload = _metadata(record, RECORD_METADATA)
    if payload is None:
        return _foreign(record)
    provenance = _provenance(record, payload)
    ran = provenance.environment
    return UnlinkedEvent(Event(_artifact(record, provenance), _inputs_as_run(provenance.inputs, ran), _ran_in(ran)))


def _ran_in(ran: RunEnvironment) -> StepImage | None:
    if not ran.image or not ran.image_asset:
        return None
    digests = {str(ImageReference.parse(ran.image).digest)} | ({ran.index_digest} if ran.index_digest else set())
    return StepImage(ran.image_asset, frozenset(digests))


def _provenance(record: dg.EventLogRecord, payload: Any) -> ProvenanceRecord:
    version = payload.get("schema_version") if isinstance(payload, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise LineageError(
            f"{_name(record)} carries a provenance record of form {version}, and this version reads up to"
            f" {SCHEMA_VERSION}",
            next_step="upgrade ml-assets to the version that wrote it, or a later one",
        )
    try:
        provenance = ProvenanceRecord.model_validate(payload)
    except ValidationError as error:
        raise _malformed(record, "provenance record", _explain(error)) from error
    if (provenance.asset, provenance.partition) != _asset_partition(record):
        raise _malformed(record, "provenance record", f"it belongs to {provenance.asset}@{provenance.partition}")
    try:
        for image in filter(None, (provenance.made_image, provenance.environment.image)):
            ImageReference.parse(image)
    except ValueError as error:
        raise _malformed(record, f"metadata {RECORD_METADATA}", str(error)) from error
    return provenance


def _artifact(record: dg.EventLogRecord, provenance: ProvenanceRecord) -> Node:
    content, mlflow, ran = provenance.content, provenance.mlflow, provenance.environment
    registered = mlflow is not None and mlflow.registered_model and mlflow.model_version
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
        model_version=f"models:/{mlflow.registered_model}/{mlflow.model_version}" if mlflow and registered else None,
        commit=provenance.source.commit,
        dirty=provenance.source.dirty,
        dagster_run=provenance.dagster_run,
        timestamp=_timestamp(record),
    )


def _inputs_as_run(inputs: Iterable[InputVersion], ran: RunEnvironment) -> tuple[InputVersion, ...]:
    """Return the inputs, with the image in which the step actually ran.

    The step may have run in another image than the latest materialization of its image asset: it was given another
    image, or the interpreter has changed since its environment was recorded.
    """
    return tuple(
        InputVersion(asset=read.asset, data_version=ran.environment_digest, loaded=False)
        if read.asset == ran.image_asset and read.data_version != ran.environment_digest
        else read
        for read in inputs
    )


def _foreign(record: dg.EventLogRecord) -> UnlinkedEvent:
    """Return an event of an asset without a factory, with the metadata that Dagster and our IO manager recorded."""
    node = replace(
        _plain(record, NodeKind.ASSET if record.asset_materialization else NodeKind.OBSERVATION),
        commit=_tracked_commit(record),
    )
    payload = _metadata(record, INPUTS_METADATA)
    try:
        inputs = _INPUT_VERSIONS.validate_python(payload or ())
    except ValidationError as error:
        raise _malformed(record, f"metadata {INPUTS_METADATA}", _explain(error)) from error
    ran_in = None
    try:
        environment, source = _metadata(record, ENVIRONMENT_METADATA), _metadata(record, SOURCE_METADATA)
        if environment is not None:
            ran = RunEnvironment.model_validate(environment)
            inputs, ran_in = _inputs_as_run(inputs, ran), _ran_in(ran)
            node = replace(node, image=ran.image, index_digest=ran.index_digest, environment=ran.environment_digest)
        if source is not None:
            made_of = Source.model_validate(source)
            node = replace(node, commit=made_of.commit, dirty=made_of.dirty)
    except ValidationError as error:
        raise _malformed(record, "metadata", _explain(error)) from error
    read = {version.asset for version in inputs}
    return UnlinkedEvent(Event(node, inputs, ran_in), tuple(p for p in _dagster_inputs(record) if p.asset not in read))


def _unreadable(record: dg.EventLogRecord, error: LineageError) -> UnlinkedEvent:
    """Return the event with only the data that Dagster recorded."""
    # A new error, because the raised one references the whole record through its traceback.
    problem = LineageError(error.what, next_step=error.next_step)
    try:
        dagster_inputs = tuple(_dagster_inputs(record))
    except LineageError:
        dagster_inputs = ()
    return UnlinkedEvent(Event(replace(_plain(record, NodeKind.UNREADABLE), problem=problem)), dagster_inputs)


def _plain(record: dg.EventLogRecord, kind: NodeKind) -> Node:
    (asset, partition), tags = _asset_partition(record), _tags(record)
    return Node(
        asset=asset,
        kind=kind,
        partition=partition,
        data_version=tags.get(_DATA_VERSION_TAG),
        storage_id=record.storage_id,
        code_version=tags.get(_CODE_VERSION_TAG),
        dagster_run=record.run_id or None,
        timestamp=_timestamp(record),
    )


def _tracked_commit(record: dg.EventLogRecord) -> str | None:
    tracked = _metadata(record, TRACKED_METADATA)
    commit = tracked.get("commit") if isinstance(tracked, dict) else None
    if commit is None or isinstance(commit, str):
        return commit
    raise _malformed(record, f"metadata {TRACKED_METADATA}", f"{commit!r} is not a commit")


def _dagster_inputs(record: dg.EventLogRecord) -> Iterator[DagsterInput]:
    tags = _tags(record)
    for tag, value in tags.items():
        asset = tag.removeprefix(_INPUT_POINTER_TAG)
        version = tags.get(_INPUT_VERSION_TAG + asset)
        if asset == tag or value == _NO_EVENT or version is None:
            continue
        if not value.isdecimal() or len(value) > 18:
            raise _malformed(record, f"tag {tag}", f"{value!r} is not the id of an event")
        yield DagsterInput(asset, version, int(value))


def _metadata(record: dg.EventLogRecord, name: str) -> Any:
    event = record.asset_event
    value = event.metadata.get(name) if event else None
    if value is None:
        return None
    if not isinstance(value, dg.TextMetadataValue):
        return value.value
    try:
        return json.loads(value.value or "")
    except json.JSONDecodeError as error:
        raise _malformed(record, f"metadata {name}", str(error)) from error


def _tags(record: dg.EventLogRecord) -> dict[str, str]:
    return dict(record.asset_event.tags or {}) if record.asset_event else {}


def _asset_partition(record: dg.EventLogRecord) -> tuple[str, str | None]:
    key = record.asset_key
    return key.to_user_string() if key else "", record.partition_key


def _timestamp(record: dg.EventLogRecord) -> datetime:
    return datetime.fromtimestamp(record.timestamp, UTC)


def _name(record: dg.EventLogRecord) -> str:
    asset, partition = _asset_partition(record)
    return f"event {record.storage_id} ({asset}{f'@{partition}' if partition else ''}, run {record.run_id or 'none'})"


def _malformed(record: dg.EventLogRecord, what: str, why: str) -> LineageError:
    asset, _ = _asset_partition(record)
    return LineageError(
        f"the {what} of {_name(record)} is malformed: {why}",
        next_step=f"materialize {asset} and then its downstream assets again; or delete all of its events, because a"
        f" single event cannot be wiped: dagster asset wipe {asset}",
    )


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'value'}: {problem['msg']}"
        for problem in error.errors(include_url=False)[:3]
    )

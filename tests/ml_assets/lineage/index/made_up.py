"""Synthetic events, and logs of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ml_assets.lineage.graph import Node, Trace
from ml_assets.lineage.index.event_log import EventLog, LoggedEvent
from ml_assets.lineage.index.event_parser import ParsedEvent
from ml_assets.resources.provenance import ArtifactKind, InputVersion
from tests.ml_assets.lineage.index import reference
from tests.ml_assets.lineage.index.reference import Event, ReferenceGraph, UnlinkedEvent

__all__ = ["START", "MadeUpLog", "ids", "made", "md5", "node", "read", "small_log"]


HEX = "0123456789abcdef0123456789abcdef"
START = datetime(2026, 1, 1, tzinfo=UTC)


def md5(start: str, directory: bool = False) -> str:
    return f"md5:{start}{HEX[len(start) :]}{'.dir' if directory else ''}"


def node(storage_id: int, asset: str, version: str = "", **fields: object) -> Node:
    fields.setdefault("kind", ArtifactKind.DATASET)
    return Node(asset=asset, data_version=version or md5("d", False), storage_id=storage_id, **fields)  # type: ignore[arg-type]


def read(source: Node, **changes: object) -> InputVersion:
    version = InputVersion(
        asset=source.asset,
        partition=source.partition,
        data_version=source.data_version or "",
        storage_id=source.storage_id,
        run_id=source.dagster_run,
    )
    return version.model_copy(update=changes)


@dataclass
class MadeUpLog(EventLog):
    """Stand-in for a database's log, in which a test controls when events become visible and when they are deleted."""

    events: dict[int, ParsedEvent] = field(default_factory=dict)
    wiped: dict[str, datetime] = field(default_factory=dict)
    were_read: list[int] = field(default_factory=list)
    """Ids of the events that were read, in order."""

    def write(self, events: Iterable[ParsedEvent]) -> None:
        self.events |= {event.storage_id: event for event in events}

    def graph(self) -> ReferenceGraph:
        """Return the reference graph of the log."""
        there = {
            key: UnlinkedEvent(Event(event.node, event.inputs, event.ran_in), event.dagster_inputs)
            for key, event in sorted(self.events.items())
            if not self._is_wiped(event)
        }
        return ReferenceGraph.of_events(reference.link_dagster_inputs(there))

    def newest(self) -> str | None:
        return f"{max(self.events)} {self._fingerprint(max(self.events))}" if self.events else None

    def holds(self, mark: str) -> bool:
        storage_id, _, fingerprint = mark.partition(" ")
        return int(storage_id) in self.events and self._fingerprint(int(storage_id)) == fingerprint

    def totals(self, upto: int) -> tuple[int, int]:
        ids = [key for key in self.events if key <= upto]
        return len(ids), sum(ids)

    def fingerprints(self, after: int) -> dict[int, str]:
        return {key: self._fingerprint(key) for key in self.events if key > after}

    def wipes(self) -> dict[str, datetime]:
        return self.wiped

    def read(self, storage_ids: Sequence[int]) -> Iterator[LoggedEvent]:
        for key in storage_ids:
            if key in self.events:
                self.were_read.append(key)
                yield LoggedEvent(key, self._fingerprint(key), self.events[key])

    def _fingerprint(self, storage_id: int) -> str:
        node = self.events[storage_id].node
        return f"{node.dagster_run} {node.timestamp}"

    def _is_wiped(self, event: ParsedEvent) -> bool:
        moment = self.wiped.get(event.node.asset)
        return moment is not None and event.node.timestamp is not None and event.node.timestamp <= moment


def made(storage_id: int, asset: str, *inputs: ParsedEvent, kind: ArtifactKind = ArtifactKind.DATASET) -> ParsedEvent:
    node = Node(
        asset=asset,
        kind=kind,
        data_version=f"v{storage_id}",
        storage_id=storage_id,
        dagster_run=f"run {storage_id}",
        timestamp=START + timedelta(days=storage_id),
    )
    read = [
        InputVersion(asset=each.node.asset, data_version=f"v{each.storage_id}", storage_id=each.storage_id)
        for each in inputs
    ]
    return ParsedEvent(node, tuple(read))


def small_log() -> MadeUpLog:
    raw = made(1, "raw")
    table = made(2, "table", raw)
    model = made(3, "model", table, kind=ArtifactKind.MODEL)
    log = MadeUpLog()
    log.write([raw, table, model, made(4, "report", model), made(5, "other")])
    return log


def ids(trace: Trace) -> list[str]:
    return list(trace.graph.nodes)

"""Reads the usage of materializations from Dagster's event log: their records, and the events of their executors."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
import sqlalchemy as sql

from ml_assets.dagster_internals import SqlEventLogStorage, SqlEventLogStorageTable
from ml_assets.lineage import parse_record
from ml_assets.resources.errors import LineageError, UnknownReference
from ml_assets.resources.provenance import LAUNCH_TIMES_METADATA, ProvenanceRecord
from ml_assets.resources.suggestion import suggestion
from ml_assets.resources.usage import LaunchTimes, Usage

__all__ = ["AssetHistory", "MeasuredMaterialization", "read_history"]

_HOUR_SECONDS = 3600
_Launch = tuple[str, str, int]
"""Dagster run, step and number of a launch."""


@dataclass(frozen=True)
class MeasuredMaterialization:
    """The usage of one materialization."""

    record: ProvenanceRecord
    usage: Usage
    launch: LaunchTimes | None = None
    """None for a plain process."""

    @property
    def seconds(self) -> dict[str, float]:
        """Return its time by phase, as far as known, from the order of its container to its record."""
        own = self.usage.seconds.model_dump(exclude_none=True)
        return {**self._before(), "import": own.pop("importing", 0.0), **own}

    @property
    def step_seconds(self) -> float:
        """Return the time from its process's start (or its first input, if the process already ran) to its record."""
        seconds = self.usage.seconds
        return (seconds.importing or 0.0) + seconds.input + seconds.compute + seconds.output

    @property
    def cost(self) -> float | None:
        """Return the cost at its pool's price, from the moment it had a machine; None without a price."""
        if self.usage.cost is None:
            return None
        before = self._before()
        occupied = before.get("pull", 0.0) + before.get("start", 0.0)
        return self.usage.cost + (self.usage.price_per_hour or 0.0) * occupied / _HOUR_SECONDS

    def _before(self) -> dict[str, float]:
        """Return the times before its process started, never negative: clocks differ, engines report whole seconds."""
        launch, began = self.launch, self.usage.process_started_at
        if launch is None or began is None:
            return {}
        had_machine = launch.scheduled_at or launch.ordered_at
        pull = min(launch.pull_seconds or 0.0, max(0.0, began.timestamp() - had_machine))
        return {
            "scheduling": max(0.0, had_machine - launch.ordered_at),
            "pull": pull,
            "start": max(0.0, began.timestamp() - had_machine - pull),
        }


@dataclass(frozen=True)
class AssetHistory:
    """An asset's materializations since some moment."""

    asset: str
    count: int
    """Number of all materializations."""
    taken: tuple[MeasuredMaterialization, ...]
    """The newest materializations with measured usage, newest first."""


def read_history(
    instance: dg.DagsterInstance, assets: Sequence[str], since: datetime, limit: int
) -> list[AssetHistory]:
    """Return the usage of assets, in the order of their names. Omit assets without a materialization since the moment.

    Args:
        instance: the instance that recorded them.
        assets: asset keys; empty for all.
        since: the moment.
        limit: number of materializations to read of each asset.

    Raises:
        UnknownReference: one of the assets was never materialized.
        LineageError: the instance's event log is not in an SQL database, or a record cannot be read.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise LineageError(
            f"usage is read from event logs in SQL databases, and this instance's is {type(storage).__name__}",
            next_step="ask on an instance with PostgreSQL or SQLite storage",
        )
    keys = _keys(instance, assets)
    with storage.index_connection() as connection:
        counts = _counts(connection, since)
        records = {key: list(_records(connection, key, since, limit)) for key in keys if counts.get(key.to_string(), 0)}
    measured = {
        key: [(record, record.usage) for record in found if record.usage is not None] for key, found in records.items()
    }
    launches = _launches(storage, _wanted(each for found in measured.values() for each in found))
    return [
        AssetHistory(
            key.to_user_string(),
            counts[key.to_string()],
            tuple(
                MeasuredMaterialization(record, usage, launches.get(_launch_of(record, usage)))
                for record, usage in found
            ),
        )
        for key, found in measured.items()
    ]


def _keys(instance: dg.DagsterInstance, assets: Sequence[str]) -> list[dg.AssetKey]:
    known = {key.to_user_string(): key for key in instance.all_asset_keys()}
    for name in assets:
        if name not in known:
            raise UnknownReference(
                f"{name} was never materialized{suggestion(name, known)}", next_step="name an asset by its key"
            )
    return [known[name] for name in sorted(assets or known)]


def _counts(connection: sql.Connection, since: datetime) -> dict[str, int]:
    columns = SqlEventLogStorageTable.c
    counted = sql.select(columns.asset_key, sql.func.count()).where(*_materialized(since)).group_by(columns.asset_key)
    return {row[0]: int(row[1]) for row in connection.execute(counted)}


def _records(connection: sql.Connection, key: dg.AssetKey, since: datetime, limit: int) -> Iterator[ProvenanceRecord]:
    columns = SqlEventLogStorageTable.c
    wanted = sql.select(columns.id, columns.event).where(*_materialized(since), columns.asset_key == key.to_string())
    for storage_id, text in connection.execute(wanted.order_by(columns.id.desc()).limit(limit)):
        record = parse_record(storage_id, text)
        if record is not None:
            yield record


def _materialized(since: datetime) -> tuple[sql.ColumnElement[bool], ...]:
    columns = SqlEventLogStorageTable.c
    # Dagster stores times in UTC, without a time zone.
    moment = since.astimezone(UTC).replace(tzinfo=None)
    return (
        columns.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION.value,
        columns.asset_key.is_not(None),
        columns.timestamp >= moment,
    )


def _wanted(measured: Iterable[tuple[ProvenanceRecord, Usage]]) -> dict[str, set[_Launch]]:
    """Return the launches by run."""
    wanted: dict[str, set[_Launch]] = defaultdict(set)
    for record, usage in measured:
        if usage.launch_number is not None:
            wanted[record.dagster_run].add(_launch_of(record, usage))
    return wanted


def _launch_of(record: ProvenanceRecord, usage: Usage) -> _Launch:
    return record.dagster_run, record.dagster_step, -1 if usage.launch_number is None else usage.launch_number


def _launches(storage: SqlEventLogStorage, wanted: Mapping[str, set[_Launch]]) -> dict[_Launch, LaunchTimes]:
    """Return the launch times from executors' events. A restarted run worker writes them again, with fewer details."""
    columns = SqlEventLogStorageTable.c
    found: dict[_Launch, LaunchTimes] = {}
    for run_id in wanted:
        events = sql.select(columns.event).where(
            columns.run_id == run_id,
            columns.dagster_event_type == dg.DagsterEventType.ENGINE_EVENT.value,
            columns.event.contains(LAUNCH_TIMES_METADATA),
        )
        with storage.run_connection(run_id) as connection:
            for (text,) in connection.execute(events.order_by(columns.id)):
                for step, times in _times(text):
                    launch = (run_id, step, times.number)
                    if launch in wanted[run_id]:
                        found.setdefault(launch, times)
    return found


def _times(text: str) -> Iterator[tuple[str, LaunchTimes]]:
    event = dg.deserialize_value(text, dg.EventLogEntry).dagster_event
    entry = event.engine_event_data.metadata.get(LAUNCH_TIMES_METADATA) if event else None
    if event is not None and event.step_key is not None and entry is not None:
        yield event.step_key, LaunchTimes.model_validate(entry.value)

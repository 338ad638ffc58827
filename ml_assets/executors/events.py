"""A run's events, as its executor reads them from the event log."""

from collections.abc import Sequence

import dagster as dg
from dagster._core.event_api import EventLogCursor, EventLogRecord
from dagster._core.events import DagsterEvent

from resources.provenance import LAUNCH_EVENT_TAG

__all__ = ["EventTail", "launch_of_event"]

_PAGE = 1000


class EventTail:
    """Reads a run's events once each, from the first on, however many there are."""

    def __init__(self, instance: dg.DagsterInstance, run_id: str) -> None:
        self._instance, self._run_id = instance, run_id
        self._cursor: str | None = None
        self._last = 0
        self._seen: set[int] = set()
        # Storages where a later event may become visible before an earlier one say how far back to look again.
        self._look_back = instance.event_log_storage.default_run_scoped_event_tailer_offset()

    def new(self) -> Sequence[EventLogRecord]:
        """All events that were written since the last call."""
        found: list[EventLogRecord] = []
        while True:
            page = self._instance.get_records_for_run(self._run_id, self._cursor, limit=_PAGE).records
            found += [record for record in page if record.storage_id not in self._seen]
            self._seen.update(record.storage_id for record in page)
            self._last = max([self._last, *(record.storage_id for record in page)])
            if len(page) < _PAGE:
                self._cursor = self._from(max(self._last - self._look_back, 0))
                return found
            self._cursor = self._from(self._last)

    def _from(self, storage_id: int) -> str | None:
        if not self._look_back:
            self._seen.clear()
        return EventLogCursor.from_storage_id(storage_id).to_string() if storage_id else None


def launch_of_event(event: DagsterEvent) -> int | None:
    """Which launch of its step wrote an event; None where no container did."""
    number = (event.logging_tags or {}).get(LAUNCH_EVENT_TAG)
    return int(number) if number is not None else None

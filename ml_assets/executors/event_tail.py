"""A run's events, as its executor reads them from the event log."""

import time
from collections.abc import Sequence

import dagster as dg

from ml_assets.dagster_internals import EventLogCursor
from ml_assets.resources.provenance import LAUNCH_EVENT_TAG

__all__ = ["EventTail", "launch_of_event"]

_PAGE = 1000
_SETTLED_SECONDS = 10.0


class EventTail:
    """Reads a run's events once each, from the first on, however many there are.

    Where many processes write, an event may become visible after one that has a higher id. So what was written in the
    last seconds is looked at again.
    """

    def __init__(self, instance: dg.DagsterInstance, run_id: str) -> None:
        self._instance, self._run_id = instance, run_id
        self._settled = 0
        """Id up to which nothing is missing."""
        self._seen: dict[int, float] = {}
        """When each event after it was first seen."""

    def new(self) -> Sequence[dg.EventLogRecord]:
        """All events that were written since the last call."""
        now = time.monotonic()
        self._settle(now)
        found: list[dg.EventLogRecord] = []
        after = self._settled
        while True:
            page = self._instance.get_records_for_run(self._run_id, _cursor(after), limit=_PAGE).records
            found += [record for record in page if record.storage_id not in self._seen]
            self._seen.update((record.storage_id, self._seen.get(record.storage_id, now)) for record in page)
            if len(page) < _PAGE:
                return found
            after = page[-1].storage_id

    def _settle(self, now: float) -> None:
        old = [storage_id for storage_id, since in self._seen.items() if now - since > _SETTLED_SECONDS]
        self._settled = max([self._settled, *old])
        self._seen = {storage_id: since for storage_id, since in self._seen.items() if storage_id > self._settled}


def _cursor(storage_id: int) -> str | None:
    return EventLogCursor.from_storage_id(storage_id).to_string() if storage_id else None


def launch_of_event(event: dg.DagsterEvent) -> int | None:
    """Which launch of its step wrote an event; None where no container did."""
    number = (event.logging_tags or {}).get(LAUNCH_EVENT_TAG)
    return int(number) if number is not None else None

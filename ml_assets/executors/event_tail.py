"""Reader of a run's events, for its executor."""

import time
from collections.abc import Sequence

import dagster as dg

from ml_assets.dagster_internals import EventLogCursor
from ml_assets.resources.provenance import LAUNCH_EVENT_TAG

__all__ = ["EventTail", "launch_of_event"]

_PAGE = 1000
_SETTLED_SECONDS = 10.0


class EventTail:
    """Returns each event of a run exactly once, starting with the first, for any number of events.

    If several processes write, an event may become visible after an event with a higher id. The tail therefore reads
    the events of the last seconds again.
    """

    def __init__(self, instance: dg.DagsterInstance, run_id: str) -> None:
        self._instance, self._run_id = instance, run_id
        self._settled = 0
        """Id up to which all events were read."""
        self._seen: dict[int, float] = {}
        """Time at which each later event was first seen."""

    def new(self) -> Sequence[dg.EventLogRecord]:
        """Return all events that were written since the last call."""
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
    """Return the number of the launch that wrote an event; None if no container wrote it."""
    number = (event.logging_tags or {}).get(LAUNCH_EVENT_TAG)
    return int(number) if number is not None else None

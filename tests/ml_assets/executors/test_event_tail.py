from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import create_engine, text

from ml_assets.dagster_internals import EventLogCursor
from ml_assets.executors import event_tail
from ml_assets.executors.event_tail import EventTail, launch_of_event
from ml_assets.resources.provenance import LAUNCH_EVENT_TAG
from tests.postgres import postgres

RUN = "4d1d8a34-5d22-4b6f-9d31-2a1a3c9a1f00"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def write(instance: dg.DagsterInstance, numbers: Sequence[int]) -> None:
    for number in numbers:
        event = dg.DagsterEvent(dg.DagsterEventType.STEP_START.value, "job", step_key=str(number))
        instance.report_dagster_event(event, RUN)


def steps(tail: EventTail) -> list[int]:
    events = [record.event_log_entry.dagster_event for record in tail.new()]
    return [int(event.step_key or "") for event in events if event is not None]


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 2300])
def test_tail_reads_all_events_once_however_many_there_are(instance: dg.DagsterInstance, count: int) -> None:
    write(instance, range(count))
    tail = EventTail(instance, RUN)
    assert steps(tail) == list(range(count))
    assert steps(tail) == []
    write(instance, [7, 8])
    assert steps(tail) == [7, 8]


def test_tail_leaves_other_runs_alone(instance: dg.DagsterInstance) -> None:
    tail = EventTail(instance, "5d1d8a34-5d22-4b6f-9d31-2a1a3c9a1f00")
    write(instance, [1])
    assert steps(tail) == []


def test_event_that_becomes_visible_after_a_later_one_is_read(tmp_path: Path) -> None:
    with postgres() as server:
        (tmp_path / "dagster.yaml").write_text(f"storage: {{postgres: {{postgres_url: '{server.url}'}}}}")
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance, create_engine(server.url).begin() as slow:
            write(instance, [0])
            columns = "run_id, event, dagster_event_type, timestamp, step_key"
            slow.execute(text(f"INSERT INTO event_logs ({columns}) SELECT {columns} FROM event_logs"))
            write(instance, [2])
            tail = EventTail(instance, RUN)
            assert steps(tail) == [0, 2]
            slow.commit()
            assert steps(tail) == [0], "the slow writer's copy of the first event"
            assert steps(tail) == []


def test_tail_does_not_read_old_events_again(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    write(instance, range(5))
    tail = EventTail(instance, RUN)
    assert steps(tail) == list(range(5))
    asked: list[str | None] = []
    read = instance.get_records_for_run

    def reading(run_id: str, cursor: str | None, **options: Any) -> Any:
        asked.append(cursor)
        return read(run_id, cursor, **options)

    monkeypatch.setattr(instance, "get_records_for_run", reading)
    monkeypatch.setattr(event_tail, "_SETTLED_SECONDS", -1.0)
    assert steps(tail) == []
    assert asked == [EventLogCursor.from_storage_id(5).to_string()]


def test_launch_of_an_event_is_in_its_tags() -> None:
    event = dg.DagsterEvent(dg.DagsterEventType.STEP_START.value, "job", step_key="step")
    assert launch_of_event(event) is None
    assert launch_of_event(event._replace(logging_tags={LAUNCH_EVENT_TAG: "3"})) == 3

from collections.abc import Iterator, Sequence

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent

from ml_assets.executors.events import EventTail, launch_of_event
from resources.provenance import LAUNCH_EVENT_TAG

RUN = "4d1d8a34-5d22-4b6f-9d31-2a1a3c9a1f00"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def write(instance: dg.DagsterInstance, numbers: Sequence[int]) -> None:
    for number in numbers:
        event = DagsterEvent(dg.DagsterEventType.STEP_START.value, "job", step_key=str(number))
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


def test_tail_looks_back_where_events_become_visible_late(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance.event_log_storage, "default_run_scoped_event_tailer_offset", lambda: 10)
    write(instance, range(5))
    whole = instance.get_records_for_run(RUN)
    late = whole.records[2]
    hidden = whole._replace(records=[record for record in whole.records if record is not late])
    tail = EventTail(instance, RUN)
    with monkeypatch.context() as patch:
        patch.setattr(instance, "get_records_for_run", lambda *args, **options: hidden)
        assert steps(tail) == [0, 1, 3, 4]
    assert steps(tail) == [2]
    assert steps(tail) == []


def test_launch_of_an_event_is_in_its_tags() -> None:
    event = DagsterEvent(dg.DagsterEventType.STEP_START.value, "job", step_key="step")
    assert launch_of_event(event) is None
    assert launch_of_event(event._replace(logging_tags={LAUNCH_EVENT_TAG: "3"})) == 3

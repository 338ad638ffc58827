"""People see old and new values; machines read everything in full."""

import io
from datetime import UTC, datetime

from rich.console import Console, RenderableType

from ml_assets.lineage.why import LatestEvent, ReasonKind, SharedReason, Status, StatusReason, Summary, Why
from ml_assets.lineage.why_rendering import render_summary, render_why, summary_to_json, why_to_json
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import Launch, LaunchKind
from tests.ml_assets.lineage.test_difference import record

BEFORE, AFTER = "md5:" + "1" * 32, "md5:" + "2" * 32
DATA = StatusReason(ReasonKind.DATA, "has a new data version", AssetPartition("data", "1"), BEFORE, AFTER)
CODE = StatusReason(ReasonKind.CODE, "has a new code version", None, "a" * 64, "b" * 64, ("fit changed",))
MADE = LatestEvent(
    "model#7",
    datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    "0123456789",
    BEFORE,
    "a",
    record().model_copy(update={"attempt": 2}),
)
NIGHTLY = Launch(kind=LaunchKind.SCHEDULE, name="nightly", tick="2026-01-02T03:00:00+00:00")
WHY = Why(
    AssetPartition("model"),
    Status.STALE,
    (CODE, DATA),
    MADE,
    NIGHTLY,
    ("data_version_changed (data)",),
    ("q.sql was read",),
)


def printed(answer: RenderableType) -> str:
    console = Console(width=300, color_system=None, record=True, file=io.StringIO())
    console.print(answer)
    return console.export_text()


def test_people_read_why_it_is_stale_and_why_it_ran() -> None:
    text = printed(render_why(WHY))
    parts = (
        "model  stale",
        "has a new code version  aaaaaaaaaaaa → bbbbbbbbbbbb",
        "fit changed",
        "data@1  has a new data version  md5:111111111111 → md5:222222222222",
        "q.sql was read",
        "Why it last ran",
        "schedule nightly 2026-01-02T03:00:00+00:00",
        "because data_version_changed (data)",
        "after 2 failed attempts",
        "model#7, 2026-01-02 03:04Z, run 01234567",
    )
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_what_was_never_made_did_not_run() -> None:
    text = printed(render_why(Why(AssetPartition("model"), Status.MISSING, (), None, None, ())))
    assert "Why it last ran" not in text


def test_machines_read_whole_versions() -> None:
    answer = why_to_json(WHY)
    assert (answer["asset"], answer["partition"], answer["status"]) == ("model", None, "stale")
    assert answer["causes"][1] == {
        "kind": "data",
        "text": "has a new data version",
        "what": "data@1",
        "before": BEFORE,
        "after": AFTER,
        "details": [],
        "shown_by_dagster": True,
    }
    assert answer["made"]["timestamp"] == "2026-01-02T03:04:00+00:00"
    assert answer["launch"]["name"] == "nightly"
    assert why_to_json(Why(AssetPartition("model"), Status.MISSING, (), None, None, ()))["made"] is None


def test_many_partitions_are_shown_by_the_first_few() -> None:
    names = tuple(f"{number:02}" for number in range(9))
    summed = SharedReason(ReasonKind.DATA, "has a new data version", "data", names)
    summary = Summary("model", 10, {Status.STALE: 9, Status.FRESH: 1, Status.MISSING: 0}, (summed,))
    text = printed(render_summary(summary))
    assert "10 partitions: 9 stale, 1 fresh" in text
    assert "9 data: data has a new data version" in text
    assert "00, 01, 02, 03, 04 … 08" in text
    assert "ml-assets why 'model@00'" in text
    assert summary_to_json(summary)["causes"][0]["partitions"] == list(names)

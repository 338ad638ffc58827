"""Explanations derived from facts: the order of reasons, changes of code, and reasons shared by partitions."""

from datetime import UTC, datetime
from typing import Any

import pytest

from ml_assets.code_version.uncovered import joined_code_version
from ml_assets.lineage.why import DagsterReason, Facts, LaterRun, LatestEvent, ReasonKind, Status, explain, summarize
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import InputVersion, Observed, ProvenanceRecord, Uncovered, UncoveredKind
from tests.ml_assets.lineage.test_difference import record

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
DATA = AssetPartition("data", "1")
IMAGE = AssetPartition("images/train")
CHANGED_DATA = DagsterReason("DATA", "has a new dependency data version", DATA)
CHANGED_CODE = DagsterReason("CODE", "has a new code version")


def facts(*reasons: DagsterReason, made: ProvenanceRecord | None = None, **fields: Any) -> Facts:
    known = LatestEvent("model@1#7", MOMENT, "run", "md5:0", "old", made) if made else None
    defaults: dict[str, Any] = {"status": Status.STALE if reasons else Status.FRESH, "latest": known}
    return Facts(AssetPartition("model", "1"), dagster_reasons=reasons, **(defaults | fields))


def test_causes_come_in_the_order_of_their_urgency() -> None:
    attempt = LaterRun("run", "FAILURE", True, "step model: no memory")
    found = explain(
        facts(
            CHANGED_DATA, CHANGED_CODE, DagsterReason("DEPENDENCIES", "has a new dependency", IMAGE), later_run=attempt
        )
    )
    kinds = [reason.kind for reason in found.reasons]
    assert kinds == [ReasonKind.FAILED, ReasonKind.CODE, ReasonKind.DATA, ReasonKind.DEPENDENCIES]
    assert found.reasons[0].details == ("step model: no memory",)


@pytest.mark.parametrize(
    ("before", "after", "details"),
    [
        ({":f": "1"}, {":f": "2"}, ("f changed",)),
        ({"a.b:g": "1"}, {":f": "2"}, ("f was added", "a.b.g was removed")),
        ({"a.b:*": "1", ":<statements>": "1"}, {"a.b:*": "2", ":<statements>": "2"}, None),
        ({":<captured values>": "1"}, {":<captured values>": "2"}, ("a captured value changed",)),
        ({}, {":f": "2"}, ()),
        ({":f": "1"}, None, ()),
    ],
)
def test_changed_code_is_named_where_its_parts_are_known(before: Any, after: Any, details: Any) -> None:
    (reason,) = explain(facts(CHANGED_CODE, made=record(code=before), code=after, code_version="new")).reasons
    assert (reason.before, reason.after) == ("old", "new")
    if details is None:
        details = ("a statement with side effects changed", "the whole module a.b changed")
    assert reason.details == details


RAN = Uncovered(kind=UncoveredKind.CODE, name="a.b:f", digest="1")
READ = Uncovered(kind=UncoveredKind.FILE, name="q.sql", digest="2")
UNKNOWN = Uncovered(kind=UncoveredKind.FILE, name="big.csv", digest=None)


@pytest.mark.parametrize(
    ("recorded", "now", "details"),
    [
        ((RAN, READ), (RAN, READ), None),
        ((RAN, READ), (RAN.model_copy(update={"digest": "3"}), READ), ("a.b:f changed",)),
        ((RAN, READ), (RAN, READ.model_copy(update={"digest": None})), ("q.sql is gone, or can no longer be read",)),
        ((UNKNOWN,), (UNKNOWN.model_copy(update={"digest": "4"}),), None),
        ((RAN,), (), None),
    ],
)
def test_what_ran_beyond_the_code_version_is_compared_too(recorded: Any, now: Any, details: Any) -> None:
    observed = Observed(code_version=joined_code_version("old", recorded), uncovered=recorded)
    reasons = explain(facts(made=record(observed=observed), uncovered=now, code_version="old")).reasons
    assert [reason.details for reason in reasons] == ([details] if details else [])
    assert all(reason.kind is ReasonKind.CODE and not reason.is_shown for reason in reasons)
    assert all(reason.before != reason.after for reason in reasons)


def test_limits_of_the_comparison_are_notes() -> None:
    observed = Observed(code_version=None, uncovered=(RAN, READ, UNKNOWN), unseen=("other processes",))
    assert explain(facts(made=record(observed=observed))).notes == (
        "a.b:f ran, but the code version does not cover it",
        "q.sql was read, but the code version does not cover it",
        "big.csv was read, but the code version does not cover it, and its content at that time is unknown",
        "not observed: other processes",
    )
    assert explain(facts(made=record())).notes == ()


def test_environment_is_that_of_the_step_and_not_what_the_image_asset_had() -> None:
    made = record(inputs=(InputVersion(asset="images/train", data_version="sha256:latest"),))
    ran = made.environment.model_copy(update={"image_asset": "images/train", "environment_digest": "sha256:ran"})
    made = made.model_copy(update={"environment": ran})
    reason = DagsterReason("DATA", "has a new dependency data version", IMAGE)
    (reason,) = explain(
        facts(reason, made=made, current={IMAGE: "sha256:new"}, images=frozenset({"images/train"}))
    ).reasons
    assert (reason.kind, reason.before, reason.after) == (ReasonKind.ENVIRONMENT, "sha256:ran", "sha256:new")


def test_changed_input_is_told_once_whoever_has_seen_it() -> None:
    made = record(inputs=(InputVersion(asset="data", partition="1", data_version="md5:a"),))
    current = {DATA: "md5:b"}
    (shown,) = explain(facts(CHANGED_DATA, made=made, current=current)).reasons
    (unseen,) = explain(facts(made=made, current=current)).reasons
    assert (shown.before, shown.after, shown.is_shown) == ("md5:a", "md5:b", True)
    assert (unseen.before, unseen.after, unseen.is_shown) == ("md5:a", "md5:b", False)
    assert "not compared by Dagster" in unseen.text
    assert explain(facts(made=made, current={DATA: "md5:a"})).reasons == ()
    assert explain(facts(made=made, current={DATA: None})).reasons == ()


def test_partitions_share_a_cause_whichever_run_or_partition_it_names() -> None:
    every = [
        Facts(AssetPartition("m", "1"), Status.STALE, (CHANGED_DATA,), later_run=LaterRun("a", "FAILURE", True)),
        Facts(
            AssetPartition("m", "2"),
            Status.STALE,
            (CHANGED_DATA, DagsterReason("DATA", CHANGED_DATA.text, AssetPartition("data", "2"))),
            later_run=LaterRun("b", "CANCELED", True),
        ),
        Facts(AssetPartition("m", "3"), Status.MISSING, later_run=LaterRun("c", "STARTED", False)),
        Facts(AssetPartition("m", "4"), Status.FRESH),
    ]
    summary = summarize("m", every)
    assert (summary.partitions, dict(summary.statuses)) == (
        4,
        {Status.FRESH: 1, Status.STALE: 2, Status.MISSING: 1},
    )
    assert [(reason.kind, reason.what, reason.partitions) for reason in summary.reasons] == [
        (ReasonKind.RUNNING, None, ("3",)),
        (ReasonKind.FAILED, None, ("1", "2")),
        (ReasonKind.MISSING, None, ("3",)),
        (ReasonKind.DATA, "data", ("1", "2")),
    ]

"""Facts in, an explanation out: which cause comes first, what is said of code, and what partitions share."""

from datetime import UTC, datetime
from typing import Any

import pytest

from ml_assets.lineage.why import Attempt, CauseKind, Facts, Made, Reason, Status, explain, summarize
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import InputVersion, ProvenanceRecord
from tests.ml_assets.lineage.test_difference import record

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
DATA = AssetPartition("data", "1")
IMAGE = AssetPartition("images/train")
CHANGED_DATA = Reason("DATA", "has a new dependency data version", DATA)
CHANGED_CODE = Reason("CODE", "has a new code version")


def facts(*reasons: Reason, made: ProvenanceRecord | None = None, **fields: Any) -> Facts:
    known = Made("model@1#7", MOMENT, "run", "md5:0", "old", made) if made else None
    defaults: dict[str, Any] = {"status": Status.STALE if reasons else Status.FRESH, "made": known}
    return Facts(AssetPartition("model", "1"), reasons=reasons, **(defaults | fields))


def test_causes_come_in_the_order_of_their_urgency() -> None:
    attempt = Attempt("run", "FAILURE", True, "step model: no memory")
    found = explain(
        facts(CHANGED_DATA, CHANGED_CODE, Reason("DEPENDENCIES", "has a new dependency", IMAGE), attempt=attempt)
    )
    kinds = [cause.kind for cause in found.causes]
    assert kinds == [CauseKind.FAILED, CauseKind.CODE, CauseKind.DATA, CauseKind.DEPENDENCIES]
    assert found.causes[0].details == ("step model: no memory",)


@pytest.mark.parametrize(
    ("before", "after", "details"),
    [
        ({":f": "1"}, {":f": "2"}, ("f changed",)),
        ({"a.b:g": "1"}, {":f": "2"}, ("f is new", "a.b.g is gone")),
        ({"a.b:*": "1", ":<statements>": "1"}, {"a.b:*": "2", ":<statements>": "2"}, None),
        ({":<captured values>": "1"}, {":<captured values>": "2"}, ("a captured value changed",)),
        ({}, {":f": "2"}, ()),
        ({":f": "1"}, None, ()),
    ],
)
def test_changed_code_is_named_where_its_parts_are_known(before: Any, after: Any, details: Any) -> None:
    (cause,) = explain(facts(CHANGED_CODE, made=record(code=before), code=after, code_version="new")).causes
    assert (cause.before, cause.after) == ("old", "new")
    if details is None:
        details = ("a statement that acts by itself changed", "something of a.b changed")
    assert cause.details == details


def test_environment_is_that_of_the_step_and_not_what_the_image_asset_had() -> None:
    made = record(inputs=(InputVersion(asset="images/train", data_version="sha256:latest"),))
    ran = made.environment.model_copy(update={"image_asset": "images/train", "environment_digest": "sha256:ran"})
    made = made.model_copy(update={"environment": ran})
    reason = Reason("DATA", "has a new dependency data version", IMAGE)
    (cause,) = explain(
        facts(reason, made=made, current={IMAGE: "sha256:new"}, images=frozenset({"images/train"}))
    ).causes
    assert (cause.kind, cause.before, cause.after) == (CauseKind.ENVIRONMENT, "sha256:ran", "sha256:new")


def test_changed_input_is_told_once_whoever_has_seen_it() -> None:
    made = record(inputs=(InputVersion(asset="data", partition="1", data_version="md5:a"),))
    current = {DATA: "md5:b"}
    (shown,) = explain(facts(CHANGED_DATA, made=made, current=current)).causes
    (unseen,) = explain(facts(made=made, current=current)).causes
    assert (shown.before, shown.after, shown.is_shown) == ("md5:a", "md5:b", True)
    assert (unseen.before, unseen.after, unseen.is_shown) == ("md5:a", "md5:b", False)
    assert "which Dagster does not compare" in unseen.text
    assert explain(facts(made=made, current={DATA: "md5:a"})).causes == ()
    assert explain(facts(made=made, current={DATA: None})).causes == ()


def test_partitions_share_a_cause_whichever_run_or_partition_it_names() -> None:
    every = [
        Facts(AssetPartition("m", "1"), Status.STALE, (CHANGED_DATA,), attempt=Attempt("a", "FAILURE", True)),
        Facts(
            AssetPartition("m", "2"),
            Status.STALE,
            (CHANGED_DATA, Reason("DATA", CHANGED_DATA.text, AssetPartition("data", "2"))),
            attempt=Attempt("b", "CANCELED", True),
        ),
        Facts(AssetPartition("m", "3"), Status.MISSING, attempt=Attempt("c", "STARTED", False)),
        Facts(AssetPartition("m", "4"), Status.FRESH),
    ]
    summary = summarize("m", every)
    assert (summary.partitions, dict(summary.statuses)) == (
        4,
        {Status.FRESH: 1, Status.STALE: 2, Status.MISSING: 1},
    )
    assert [(cause.kind, cause.what, cause.partitions) for cause in summary.causes] == [
        (CauseKind.RUNNING, None, ("3",)),
        (CauseKind.FAILED, None, ("1", "2")),
        (CauseKind.MISSING, None, ("3",)),
        (CauseKind.DATA, "data", ("1", "2")),
    ]

"""The display of a verdict and its tags on the MLflow run."""

from datetime import UTC, datetime

import pytest
from rich.console import Console

from ml_assets.reproduction.verdict import Outcome, Verdict, render_verdict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIFFERENT = Verdict(
    outcome=Outcome.DIFFERENT,
    asset="line",
    partition="a",
    storage_id=7,
    data_version="md5:1",
    reproduced_version="md5:2",
    difference="metric mae: 1.0 → 2.0",
    tolerance=0.1,
    conditions=("hardware cpus: 4 → 8",),
    warnings=("not pinned: environment: sha256:1 then, sha256:2 here",),
    started_at=NOW,
    ended_at=NOW,
)


def _text(verdict: Verdict) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(render_verdict(verdict))
    return capture.get()


def test_people_see_the_difference_and_what_was_other_than_then() -> None:
    assert [line.strip() for line in _text(DIFFERENT).splitlines()] == [
        "line@a#7  different",
        "recorded  md5:1",
        "now       md5:2",
        "first difference: metric mae: 1.0 → 2.0",
        "conditions that differ from the record:",
        "hardware cpus: 4 → 8",
        "warning: not pinned: environment: sha256:1 then, sha256:2 here",
    ]
    same = DIFFERENT.model_copy(update={"outcome": Outcome.IDENTICAL, "difference": None, "warnings": ()})
    assert "cpus" not in _text(same)


@pytest.mark.parametrize("outcome", Outcome)
def test_only_a_difference_is_no_reproduction(outcome: Outcome) -> None:
    verdict = DIFFERENT.model_copy(update={"outcome": outcome})
    assert verdict.is_reproduced is (outcome is not Outcome.DIFFERENT)
    assert verdict.run_tags() == {
        "ml_assets.reproduction": outcome.value,
        "ml_assets.reproduction_difference": "metric mae: 1.0 → 2.0",
        "ml_assets.reproduction_time": "2026-01-01T00:00:00+00:00",
        "ml_assets.reproduction_run": "none",
    }


def test_verdict_is_read_back_as_it_was_written() -> None:
    assert Verdict.model_validate(DIFFERENT.model_dump(mode="json")) == DIFFERENT
    assert "dagster/data_version" not in (DIFFERENT.observation().tags or {})

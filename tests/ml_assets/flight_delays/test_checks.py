"""Verdicts of the checks: pass, warn or stop."""

import dagster as dg
import pytest

from ml_assets.flight_delays.checks import TOLERATED, WORSE, judge_drift, judge_form, judge_quality
from ml_assets.flight_delays.drift import DRIFTED
from ml_assets.flight_delays.schemas import Violation

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


def test_frame_without_violations_passes() -> None:
    assert judge_form([]).passed


def test_few_rows_warn_and_many_stop() -> None:
    few, many = Violation("few", TOLERATED), Violation("many", TOLERATED * 2)
    assert (judge_form([few]).passed, judge_form([few]).severity) == (False, WARN)
    found = judge_form([few, many])
    assert (found.passed, found.severity, found.description) == (False, ERROR, "few; many")


def test_drift_is_a_warning_that_names_the_features() -> None:
    found = judge_drift({"origin_delay": DRIFTED, "distance": DRIFTED / 2})
    assert (found.passed, found.severity) == (False, WARN)
    assert found.description == "stability index of 0.2 or more: origin_delay (0.20)"
    assert set(found.metadata) == {"origin_delay", "distance"}


def test_small_drift_and_a_first_month_pass() -> None:
    assert judge_drift({"distance": DRIFTED / 2}).passed
    assert judge_drift({}).description == "no previous month to compare with"


@pytest.mark.parametrize("skill", [0.0, -0.1])
def test_model_that_is_no_better_than_the_baseline_is_an_error(skill: float) -> None:
    found = judge_quality(skill, 10.0, 12.0)
    assert (found.passed, found.severity) == (False, ERROR)


def test_model_that_is_worse_than_its_predecessor_is_a_warning() -> None:
    found = judge_quality(0.1, 10.0 * (1 + WORSE) + 0.01, 10.0)
    assert (found.passed, found.severity) == (False, WARN)
    assert found.description == ("mean error 10.21 minutes (previous version: 10.00), 10.0% below the baseline's error")


@pytest.mark.parametrize("previous", [None, 9.9, 30.0])
def test_model_that_is_about_as_good_or_better_passes(previous: float | None) -> None:
    assert judge_quality(0.1, 10.0, previous).passed

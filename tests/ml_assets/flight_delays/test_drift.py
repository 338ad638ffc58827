"""The distance of a month's distribution from the previous month's."""

import math

import numpy as np
import pandas as pd
import pytest

from ml_assets.flight_delays.drift import DRIFTED, WATCHED, drift, stability_index


def test_equal_months_have_not_drifted(january: pd.DataFrame) -> None:
    assert drift(january, january.sample(frac=1, random_state=1)) == dict.fromkeys(WATCHED, 0.0)


def test_next_month_has_drifted_little(january: pd.DataFrame, february: pd.DataFrame) -> None:
    found = drift(january, february)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert 0 < max(found.values()) < DRIFTED


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("origin_delay", lambda values: values + 30),
        ("minute_of_day", lambda values: 1439 - values // 2),
        ("carrier_delay", lambda values: values.mask(np.arange(len(values)) % 2 == 0)),
        ("carrier", lambda values: values.replace("UA", "ZZ")),
    ],
)
def test_changed_feature_alone_has_drifted(january: pd.DataFrame, column: str, change: object) -> None:
    found = drift(january, january.assign(**{column: change(january[column])}))  # type: ignore[operator]
    assert [name for name, index in found.items() if index >= DRIFTED] == [column]


def test_index_is_the_sum_over_classes() -> None:
    before, now = pd.Series(["a"] * 599 + ["b"] * 399), pd.Series(["a"] * 299 + ["b"] * 699)
    p, q = (599.5 / 999, 399.5 / 999), (299.5 / 999, 699.5 / 999)
    expected = sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))
    assert stability_index(before, now) == pytest.approx(expected)


def test_class_that_is_new_or_gone_counts_and_is_finite() -> None:
    index = stability_index(pd.Series(["a"] * 100), pd.Series(["b"] * 100))
    assert math.isfinite(index)
    assert index > 1


def test_feature_that_is_missing_on_both_sides_has_not_drifted() -> None:
    nothing = pd.Series([np.nan] * 10)
    assert stability_index(nothing, nothing) == 0

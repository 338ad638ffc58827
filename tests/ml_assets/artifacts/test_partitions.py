import random

import dagster as dg
import pytest

from ml_assets.artifacts.partitions import in_order

DAYS = dg.DailyPartitionsDefinition(start_date="30.01.2024", end_date="04.02.2024", fmt="%d.%m.%Y")
REGIONS = dg.StaticPartitionsDefinition(["us", "eu", "asia"])
ORDERS = [
    (DAYS, ["30.01.2024", "31.01.2024", "01.02.2024", "02.02.2024"]),
    (REGIONS, ["us", "eu", "asia"]),
    (dg.DynamicPartitionsDefinition(name="customers"), ["anna", "bo", "zoe"]),
    (
        dg.MultiPartitionsDefinition({"region": REGIONS, "day": DAYS}),
        ["31.01.2024|us", "31.01.2024|asia", "01.02.2024|us", "01.02.2024|eu"],
    ),
    (dg.MultiPartitionsDefinition({"b": REGIONS, "a": REGIONS}), ["us|asia", "eu|us", "eu|eu", "asia|us"]),
    (None, ["a", "b"]),
]


@pytest.mark.parametrize(("definition", "expected"), ORDERS)
def test_order_follows_the_definition_and_not_the_order_given(
    definition: dg.PartitionsDefinition[str] | None, expected: list[str]
) -> None:
    for seed in range(5):
        shuffled = random.Random(seed).sample(expected, len(expected))
        assert in_order(shuffled, definition) == expected


def test_partition_that_was_removed_from_its_definition_comes_last() -> None:
    assert in_order(["gone", "asia", "us"], REGIONS) == ["us", "asia", "gone"]

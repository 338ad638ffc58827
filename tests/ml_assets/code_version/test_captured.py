import sys
import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any

import dagster as dg
import pytest

from ml_assets.code_version.captured import Captured, captured_values
from ml_assets.resources.errors import DefinitionError


class Holder:
    def __init__(self, value: Any) -> None:
        self.value = value


def _capturing(value: Any) -> FunctionType:
    def function() -> Any:
        return value

    assert isinstance(function, FunctionType)
    return function


@pytest.mark.parametrize(
    "make",
    [
        threading.Lock,
        lambda: (number for number in range(3)),
        lambda: sys.stdout,
        lambda: Holder(threading.Lock()),
        lambda: [{"a": threading.Lock()}],
        lambda: {}.keys(),
    ],
)
def test_a_value_without_a_description_is_refused(make: Callable[[], Any]) -> None:
    value = make()
    with pytest.raises(DefinitionError, match=r"value of .*function.* has no description .*Next: create it inside"):
        captured_values(_capturing(value), Captured(), defaults=False)


def test_error_names_the_place_of_the_value() -> None:
    with pytest.raises(DefinitionError, match=r"\['a'\], a lock,"):
        Captured().describe([{"a": threading.Lock()}], "value")


@pytest.mark.parametrize(
    "value", [1, object(), Holder(Holder(1)), {frozenset({"b", "a"}), "c"}, Holder, len, [].append]
)
def test_a_description_contains_no_address(value: Any) -> None:
    described = Captured().describe(value, "value")
    assert "0x" not in described
    assert described == Captured().describe(value, "value")


def test_elements_of_a_set_have_one_order() -> None:
    words = [str(number) for number in range(50)]
    reverse = words[::-1]
    assert Captured().describe(set(words), "v") == Captured().describe(set(reverse), "v")


def test_an_asset_is_described_by_its_key() -> None:
    @dg.asset(key_prefix="a")
    def upstream() -> int:
        return 1

    before = Captured().describe(upstream, "upstream")
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([upstream], instance=instance)
    assert Captured().describe(upstream, "upstream") == before
    assert before.endswith("AssetsDefinition(a/upstream)")


def test_classes_and_functions_among_the_values_are_sources() -> None:
    captured = Captured()
    captured.describe([Holder(_capturing)], "value")
    assert {Holder, _capturing} <= set(captured.sources)

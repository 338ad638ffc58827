"""The results of an asset's function, by output, without a step."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import dagster as dg
import pytest

from ml_assets.artifacts.results import outcome_of, run_to_end
from ml_assets.resources.errors import DefinitionError

ONE = {"result": dg.AssetKey("rows")}
TWO = {"rows": dg.AssetKey(["lake", "rows"]), "line": dg.AssetKey("line")}
CHECK = dg.AssetCheckResult(passed=True, check_name="positive")


def values(returned: Any, outputs: dict[str, dg.AssetKey], optional: set[str] | None = None) -> dict[str, Any]:
    outcome = outcome_of(run_to_end(returned), outputs, outputs, optional or set())
    return {name: result.value for name, result in outcome.results.items()}


async def awaited(value: Any) -> Any:
    return value


async def yielded(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


@pytest.mark.parametrize("shape", [lambda value: value, lambda value: iter_of(value), awaited, yielded])
def test_one_value_comes_from_a_function_of_any_shape(shape: Any) -> None:
    assert values(shape(1), ONE) == {"result": 1}
    assert values(shape(dg.Output(1)), ONE) == {"result": 1}
    assert values(shape(dg.MaterializeResult(value=1, metadata={"n": 1})), ONE) == {"result": 1}
    assert values(shape(None), ONE) == {"result": None}
    assert values(shape(None), ONE, {"result"}) == {}


def iter_of(*items: Any) -> Iterator[Any]:
    yield from items


@pytest.mark.parametrize(
    "returned",
    [
        lambda: (1, 2),
        lambda: (dg.Output(1), dg.MaterializeResult(value=2)),
        lambda: (
            dg.MaterializeResult(asset_key="line", value=2),
            dg.MaterializeResult(asset_key=["lake", "rows"], value=1),
        ),
        lambda: iter_of(dg.Output(2, output_name="line"), dg.Output(1, output_name="rows")),
        lambda: yielded(dg.Output(2, output_name="line"), dg.Output(1, output_name="rows")),
        lambda: awaited((1, 2)),
    ],
)
def test_values_of_several_outputs_go_by_name_key_or_position(returned: Any) -> None:
    assert values(returned(), TWO) == {"rows": 1, "line": 2}


def test_an_optional_output_may_have_no_result() -> None:
    assert values((1, None), TWO, {"line"}) == {"rows": 1}
    assert values(None, TWO, {"rows", "line"}) == {}
    assert values(iter_of(dg.Output(1, output_name="rows")), TWO, {"line"}) == {"rows": 1}


def test_outputs_that_are_not_selected_are_dropped() -> None:
    assert set(outcome_of((1, 2), TWO, ["line"], set()).results) == {"line"}
    assert set(outcome_of(run_to_end(iter_of(dg.Output(2, output_name="line"))), TWO, ["line"], set()).results) == {
        "line"
    }


def test_results_of_checks_are_passed_on() -> None:
    outcome = outcome_of(run_to_end(iter_of(dg.Output(1), CHECK)), ONE, ONE, set())
    assert (outcome.results["result"].value, outcome.checks) == (1, (CHECK,))


@pytest.mark.parametrize(
    ("returned", "outputs", "message"),
    [
        (1, TWO, r"tuple of 2 values, got int\. Next: return one value for each output, in this order: rows, line"),
        ((1, 2, 3), TWO, "tuple of 2 values, got a tuple of 3"),
        (iter_of(dg.Output(1, output_name="rows")), TWO, r"gave no result for line \(line\)\. Next: yield or return"),
        (iter_of(dg.Output(1, output_name="other")), TWO, "gave other, which names none of this step's outputs"),
        (iter_of(1), TWO, r"gave int, .* MaterializeResult\(asset_key=\.\.\.\) for rows \(lake/rows\), line \(line\)"),
        ((dg.MaterializeResult(asset_key="no", value=1), 2), TWO, "gave no, which names none"),
        (iter_of(dg.Output(1), dg.Output(2)), ONE, "gave two results for the output 'result'"),
        (dg.MaterializeResult(value=1, data_version=dg.DataVersion("1")), ONE, "returned the data version '1'"),
    ],
)
def test_results_that_fit_no_output_are_refused(returned: Any, outputs: dict[str, dg.AssetKey], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        values(returned, outputs)


def test_a_coroutine_in_a_running_event_loop_says_what_to_do() -> None:
    async def notebook() -> None:
        run_to_end(awaited(1))

    with pytest.raises(DefinitionError, match=r"already runs an event loop\. Next: materialize it with"):
        asyncio.run(notebook())

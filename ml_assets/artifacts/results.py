"""The results of an asset's function: values and Dagster's own results, from functions of any shape."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from ml_assets.resources.errors import DefinitionError

__all__ = ["OutputResults", "outcome_of", "run_to_end"]

_Result = dg.MaterializeResult[Any]


class _Yielded(tuple[Any, ...]):
    """The items of a generator."""

    __slots__ = ()


@dataclass(frozen=True)
class OutputResults:
    """The results of one call of an asset's function.

    Attributes:
        results: result of each output that has one, by output name.
        checks: results of asset checks that belong to no other result.
    """

    results: Mapping[str, _Result]
    checks: tuple[dg.AssetCheckResult, ...] = field(default=())


def run_to_end(result: Any) -> Any:
    """Return the result of a function's call, after its coroutine or its generator has run to its end.

    Raises:
        DefinitionError: it is asynchronous, and this thread already runs an event loop.
    """
    if inspect.isgenerator(result):
        return _Yielded(result)
    if not (inspect.isasyncgen(result) or inspect.isawaitable(result)):
        return result
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_items(result) if inspect.isasyncgen(result) else _value(result))
    if inspect.iscoroutine(result):
        result.close()
    raise DefinitionError(
        "its coroutine cannot run, because the thread that materializes it already runs an event loop",
        next_step="materialize it with dagster asset materialize, or in another thread of the notebook",
    )


def outcome_of(
    returned: Any, outputs: Mapping[str, dg.AssetKey], selected: Collection[str], optional: Collection[str]
) -> OutputResults:
    """Return the results of an asset's function for the selected outputs. The value None skips an optional output.

    Args:
        returned: return value of the function, as `run_to_end` returns it.
        outputs: key of each output that the function can make, by output name, in the order of its values in a tuple.
        selected: names of the outputs that the step makes. Results of other outputs are dropped.
        optional: names of the outputs that may have no result.

    Raises:
        DefinitionError: an output has no result or several, a result belongs to no output, or it sets a data version.
    """
    results: dict[str, _Result] = {}
    checks: list[dg.AssetCheckResult] = []
    for position, item in enumerate(_listed(returned, outputs)):
        if isinstance(item, dg.AssetCheckResult):
            checks.append(item)
            continue
        name, result = _assigned(item, position, returned, outputs)
        if name in results:
            raise DefinitionError(
                f"the function gave two results for the output {name!r}", next_step="give one result for each output"
            )
        if name in selected and (result.value is not None or name not in optional):
            results[name] = result
    missing = [name for name in selected if name not in results and name not in optional]
    if missing:
        raise DefinitionError(
            f"the function gave no result for {_named(missing, outputs)}",
            next_step="yield or return its value, or declare the output with output_required=False",
        )
    return OutputResults(results, tuple(checks))


def _listed(returned: Any, outputs: Mapping[str, dg.AssetKey]) -> tuple[Any, ...]:
    if isinstance(returned, _Yielded):
        return returned
    if len(outputs) == 1:
        return (returned,)
    if returned is None:
        return (None,) * len(outputs)
    if not isinstance(returned, tuple) or len(returned) != len(outputs):
        found = f"a tuple of {len(returned)}" if isinstance(returned, tuple) else type(returned).__name__
        raise DefinitionError(
            f"expected the function to return a tuple of {len(outputs)} values, got {found}",
            next_step=f"return one value for each output, in this order: {', '.join(outputs)}",
        )
    return returned


def _assigned(item: Any, position: int, returned: Any, outputs: Mapping[str, dg.AssetKey]) -> tuple[str, _Result]:
    """Return the output that a result belongs to, and the result."""
    names = list(outputs)
    result = _unwrapped(item)
    if isinstance(item, dg.Output) and item.output_name in outputs:
        return item.output_name, result
    if result.asset_key is not None:
        for name, key in outputs.items():
            if key == result.asset_key:
                return name, result
        raise _no_output(result.asset_key.to_user_string(), outputs)
    if len(names) == 1:
        return names[0], result
    if isinstance(returned, _Yielded):
        raise _no_output(item.output_name if isinstance(item, dg.Output) else type(item).__name__, outputs)
    return names[position], result


def _unwrapped(item: Any) -> _Result:
    """Return a function's value, plain or unwrapped from one of Dagster's results."""
    if isinstance(item, dg.Output):
        item = dg.MaterializeResult(
            value=item.value, metadata=item.metadata, data_version=item.data_version, tags=item.tags
        )
    if not isinstance(item, dg.MaterializeResult):
        return dg.MaterializeResult(value=item)
    if item.data_version is not None:
        raise DefinitionError(
            f"the function returned the data version {item.data_version.value!r}, but an artifact's data version is "
            "the digest of its content",
            next_step="remove data_version, and put your own version into the metadata",
        )
    return item


def _no_output(found: str, outputs: Mapping[str, dg.AssetKey]) -> DefinitionError:
    return DefinitionError(
        f"the function gave {found}, which names none of this step's outputs",
        next_step=f"yield dagster.Output(value, output_name) or MaterializeResult(asset_key=...) for "
        f"{_named(outputs, outputs)}",
    )


def _named(names: Iterable[str], outputs: Mapping[str, dg.AssetKey]) -> str:
    return ", ".join(f"{name} ({outputs[name].to_user_string()})" for name in names)


async def _value(result: Awaitable[Any]) -> Any:
    return await result


async def _items(result: AsyncIterator[Any]) -> _Yielded:
    return _Yielded([item async for item in result])

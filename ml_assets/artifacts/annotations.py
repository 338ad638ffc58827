"""Dagster types for annotations that Dagster does not accept itself, such as ``NDArray[np.float64]``."""

import typing
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, Final

import dagster as dg

__all__ = ["hints_of", "with_generic_types"]

_ACCEPTED: Final = (dict, list, set, tuple, UnionType, typing.Annotated, dg.MaterializeResult, dg.Output)
"""Generic classes that Dagster accepts with arguments, besides the abstract ones of `collections.abc`."""


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function; none if one of them names something that does not exist at run time."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        return {}


def with_generic_types(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of `dagster.asset` with a type for each generic class in the function's annotations.

    The type is the class without its arguments, which only type checkers read.
    """
    hints = hints_of(function)
    kinds = {name: kind for name, hint in hints.items() if (kind := _generic_class(hint)) is not None}
    result = dict(options)
    if "return" in kinds and "dagster_type" not in result:
        result["dagster_type"] = kinds["return"]
    ins = dict(result.get("ins") or {})
    for name in kinds.keys() - {"return"}:
        given = ins.get(name, dg.AssetIn())
        ins[name] = given._replace(dagster_type=kinds[name])
    return {**result, "ins": ins} if ins else result


def _generic_class(annotation: Any) -> type | None:
    origin = typing.get_origin(annotation)
    if not isinstance(origin, type) or origin in _ACCEPTED or origin.__module__ == "collections.abc":
        return None
    return origin

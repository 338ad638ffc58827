"""Values captured by a nested function, described identically on every machine."""

import datetime
import enum
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from types import FunctionType
from typing import Any

__all__ = ["captured_values"]

_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, type(...))
_DATES = (datetime.date, datetime.time, datetime.timedelta)


def captured_values(function: FunctionType) -> tuple[list[str], list[FunctionType | type]]:
    """Return the free variables of a function, and the default values of a nested function.

    The defaults of a top-level function are left out, because its source contains them.

    Returns:
        One line per value; and the functions and classes whose source counts: those among the values, and the classes
        of other values.
    """
    code = function.__code__
    values: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            values[name] = cell.cell_contents
        except ValueError:
            values[name] = "<not bound yet>"
    if "<locals>" in code.co_qualname:
        positional = function.__defaults__ or ()
        names = code.co_varnames[code.co_argcount - len(positional) : code.co_argcount]
        values |= {f"{name}=": value for name, value in zip(names, positional, strict=True)}
        values |= {f"{name}=": value for name, value in (function.__kwdefaults__ or {}).items()}
    sources: list[FunctionType | type] = []
    return [f"{name}:{_describe(value, sources)}" for name, value in sorted(values.items())], sources


def _describe(value: Any, sources: list[FunctionType | type]) -> str:
    """Return a line for the value; add the objects to look up in source files to ``sources``."""
    kind = type(value)
    if kind in _CONSTANTS:
        return ascii(value)
    if isinstance(value, FunctionType | type):
        sources.append(value)
        return f"<{value.__qualname__}>"
    if isinstance(value, _DATES):
        return f"{kind.__name__}({value})"
    sources.append(kind)
    items: Iterable[str]
    if isinstance(value, enum.Enum):
        return f"{kind.__qualname__}.{value.name}"
    if isinstance(value, Mapping):
        items = (f"{_describe(key, sources)}:{_describe(item, sources)}" for key, item in value.items())
    elif isinstance(value, tuple | list):
        items = (_describe(item, sources) for item in value)
    elif isinstance(value, set | frozenset):
        items = sorted(_describe(item, sources) for item in value)
    else:
        items = (f"{name}={_describe(getattr(value, name), sources)}" for name in _field_names(value))
    return f"{kind.__qualname__}({','.join(items)})"


def _field_names(value: Any) -> list[str]:
    """Return the fields of a dataclass or Pydantic model; none for other objects."""
    if is_dataclass(value):
        return [part.name for part in fields(value)]
    return list(getattr(type(value), "model_fields", ()))

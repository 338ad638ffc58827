"""Values captured by a function, described identically on every machine."""

import copyreg
import datetime
import enum
import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

from ml_assets.resources.errors import DefinitionError

__all__ = ["Captured", "Source", "captured_values"]

Source = FunctionType | type | ModuleType
"""An object whose source counts."""

_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented))
_DATES = (datetime.date, datetime.time, datetime.timedelta, datetime.datetime)


class Captured:
    """Describes captured values.

    Args:
        module: module of the author's function, whose name does not count.

    Attributes:
        sources: functions, classes and modules among the values, and the classes of other values.
    """

    def __init__(self, module: str = "") -> None:
        self._module = module
        self._around: list[int] = []
        self.sources: list[Source] = []

    def describe(self, value: Any, place: str) -> str:
        """Return a line for a value.

        Args:
            place: the value as an expression, for errors.

        Raises:
            DefinitionError: the value has no description that is the same in every process.
        """
        kind = type(value)
        if kind in _CONSTANTS:
            return ascii(value)
        if kind in _DATES:
            return f"{kind.__name__}({value})"
        if isinstance(value, ModuleType):
            self.sources.append(value)
            return f"<module {value.__name__}>"
        if isinstance(value, FunctionType | type):
            self.sources.append(value)
            return f"<{self._name(value)}>"
        if id(value) in self._around:
            return f"<same as {self._around.index(id(value))}>"
        self.sources.append(kind)
        self._around.append(id(value))
        items = ",".join(self._items(value, place))
        self._around.pop()
        return f"{self._name(kind)}({items})"

    def _name(self, value: FunctionType | type) -> str:
        module = value.__module__ or ""
        return value.__qualname__ if module in ("builtins", self._module) else f"{module}.{value.__qualname__}"

    def _items(self, value: Any, place: str) -> Iterable[str]:
        """Return the parts of a value, in its own order; in a fixed order for sets."""
        parts = _numeric(value)
        if parts is not None:
            return [self.describe(part, place) for part in parts]
        match value:
            case enum.Enum():
                return [str(value.name), self.describe(value.value, f"{place}.value")]
            case set() | frozenset():
                return sorted(self.describe(item, f"an element of {place}") for item in value)
            case dict() | MappingProxyType() if type(value) in (dict, MappingProxyType):
                return self._pairs(value, place)
            case MethodType():
                return [self.describe(value.__func__, place), self.describe(value.__self__, f"{place}.__self__")]
            case BuiltinFunctionType():
                owner = value.__module__ if isinstance(value.__self__, ModuleType | None) else value.__self__
                return [value.__name__, self.describe(owner, f"{place}.__self__")]
            case tuple() | list() if type(value) in (tuple, list):
                return [self.describe(item, f"{place}[{number}]") for number, item in enumerate(value)]
        if type(value).__module__.startswith("dagster.") and hasattr(value, "keys_by_output_name"):
            # An asset's definition fills caches while it is used. Its function is not called, so its key stands for it.
            return sorted(key.to_user_string() for key in value.keys)
        if isinstance(getattr(value, "__wrapped__", None), FunctionType):
            return [self.describe(value.__wrapped__, place)]
        if is_dataclass(value):
            names = [part.name for part in fields(value) if hasattr(value, part.name)]
            names += sorted(getattr(value, "__dict__", {}).keys() - set(names))
            return [f"{name}={self.describe(getattr(value, name), f'{place}.{name}')}" for name in names]
        return [self.describe(part, place) for part in _reduced(value, place)]

    def _pairs(self, value: "dict[Any, Any] | MappingProxyType[Any, Any]", place: str) -> Iterator[str]:
        for key, item in value.items():
            yield f"{self.describe(key, f'a key of {place}')}:{self.describe(item, f'{place}[{key!r}]')}"


def _reduced(value: Any, place: str) -> list[Any]:
    """Return what `pickle` would store of an object: a function, its arguments and the object's state."""
    try:
        reduce = copyreg.dispatch_table.get(type(value))
        found = reduce(value) if reduce else value.__reduce_ex__(4)
    except Exception as error:
        raise DefinitionError(
            f"the value of {place}, a {type(value).__name__}, has no description that is the same in every process",
            next_step="create it inside the function, capture plain values instead, or pass code_version= to the asset",
        ) from error
    parts = [found] if isinstance(found, str) else found
    return [list(part) if isinstance(part, Iterator) else part for part in parts]


def _numeric(value: Any) -> tuple[Any, ...] | None:
    """Return the parts of a NumPy or pandas value, independent of how it lies in memory; None for other values."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.generic) and not value.dtype.hasobject:
            return str(value.dtype), value.tobytes()
        if type(value) is numpy.ndarray and value.dtype.hasobject:
            return str(value.dtype), value.shape, value.tolist()
        if type(value) is numpy.ndarray:
            content = numpy.ascontiguousarray(value).tobytes()
            return str(value.dtype), value.shape, hashlib.sha256(content).hexdigest()
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return None
    if isinstance(value, pandas.DataFrame):
        columns = [value.iloc[:, number] for number in range(value.shape[1])]
        return value.index, value.columns, [(str(column.dtype), column.array) for column in columns]
    if isinstance(value, pandas.Series):
        return value.name, str(value.dtype), value.index, value.array
    if isinstance(value, pandas.MultiIndex):
        return tuple(value.names), value.tolist()
    if isinstance(value, pandas.Index):
        return value.name, str(value.dtype), value.array
    if isinstance(value, pandas.Categorical):
        return value.ordered, value.categories, value.codes
    if isinstance(value, pandas.api.extensions.ExtensionArray):
        return str(value.dtype), value.to_numpy()
    return None


def captured_values(function: FunctionType, captured: Captured, *, defaults: bool) -> list[str]:
    """Return one line for each free variable of a function, and for its default values.

    Args:
        function: the function.
        captured: describes the values.
        defaults: include default values. The source of a top-level function contains them.

    Raises:
        DefinitionError: as for `Captured.describe`.
    """
    code = function.__code__
    values: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            values[name] = cell.cell_contents
        except ValueError:
            values[name] = "<not bound yet>"
    if defaults:
        positional = function.__defaults__ or ()
        names = code.co_varnames[code.co_argcount - len(positional) : code.co_argcount]
        values |= {f"{name}=": value for name, value in zip(names, positional, strict=True)}
        values |= {f"{name}=": value for name, value in (function.__kwdefaults__ or {}).items()}
    owner = function.__qualname__
    places = {name: f"{name.rstrip('=')} in {owner}" for name in sorted(values)}
    return [f"{name}:{captured.describe(values[name], place)}" for name, place in places.items()]

"""The interface of formats, and the registry that finds a format by a type or by its name."""

import functools
import importlib
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Final

from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.identity import Digest

__all__ = ["Format", "all_formats", "format_named", "format_of", "name_of"]

_OURS: Final = ("parquet", "arrays", "documents")
_ENTRY_POINTS: Final = "ml_assets.formats"
_RESERVED: Final = ("file", "directory", "model")


class Format(ABC):
    """A way to store values of some types; a subclass is registered when it is defined.

    ::

        class Wave(ml.Format):
            name = "wave"
            types = (Sound,)
            suffix = ".wav"

            def write(self, value: Sound, path: Path) -> None: ...

            def read(self, path: Path, wanted: type) -> Sound: ...

    A factory selects the format by the type of the value, or takes one as `format=`. The name is recorded with each
    value, and reading finds the format by it. The module must therefore be imported where values are read: import it
    in the code location, or name it in the entry point group ``ml_assets.formats`` of its package.

    Test a format with `ml_assets.testing.FormatTests`.
    """

    name: ClassVar[str]
    """Recorded with each value; never changes."""
    types: ClassVar[tuple[type | str, ...]]
    """Types that it stores, and as which it reads. A type of an optional library is text, such as ``polars.DataFrame``,
    so that the library is imported only by projects that use it."""
    suffix: ClassVar[str] = ""
    """Suffix of an exported file."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not inspect.isabstract(cls) and hasattr(cls, "name"):
            _register(cls)

    @abstractmethod
    def write(self, value: Any, path: Path) -> None:
        """Write a value to a new file, or to files in a new directory, at a path.

        Equal values give equal bytes in every process: no times, no random names, no order of a set.

        Raises:
            SchemaError: the value would not be read back equal.
        """

    @abstractmethod
    def read(self, path: Path, wanted: type) -> Any:
        """Return the value at a path that `write` wrote, as one of `types`; as the type that was written for `object`.

        The files are read-only. They stay in place while the step runs.
        """

    def describe(self, value: Any, path: Path) -> Mapping[str, Any]:
        """Return metadata of a written value for the Dagster UI; a stream has been consumed."""
        return {}

    def values_digest(self, value: Any, path: Path) -> Digest | None:
        """Return a digest of a written value that does not depend on the library that wrote it; None if there is none.

        The files of equal values may differ between versions of a library. `why` then tells that only the file differs.
        """
        return None

    def reads(self, wanted: type) -> bool:
        """Return True if a value can be read as a type, or as the base of one."""
        return any(_related(wanted, each) for each in _loaded(type(self)))


_formats: dict[str, Format] = {}


def format_of(kind: type, *, or_subclass: bool = False) -> Format | None:
    """Return the format that stores values of a type, or else of one of its subclasses if that suffices."""
    kinds = [(each, one) for one in all_formats() for each in _loaded(type(one))]
    for parent in kind.__mro__:
        for each, one in kinds:
            if each is parent:
                return one
    return next((one for each, one in kinds if or_subclass and _is_subclass(each, kind)), None)


def format_named(name: str) -> Format | None:
    """Return the format with a name."""
    return next((each for each in all_formats() if each.name == name), None)


def all_formats() -> tuple[Format, ...]:
    """Return all registered formats."""
    _load()
    return tuple(_formats.values())


def name_of(kind: Any) -> str:
    """Return the name of a type with its module."""
    if not isinstance(kind, type):
        return str(kind)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


@functools.cache
def _load() -> None:
    for module in _OURS:
        importlib.import_module(f"ml_assets.artifacts.formats.{module}")
    for entry in entry_points(group=_ENTRY_POINTS):
        entry.load()


def _register(cls: type[Format]) -> None:
    place = name_of(cls)
    if not cls.name or cls.name in _RESERVED:
        raise DefinitionError(f"format {place} cannot have the name {cls.name!r}", next_step="choose another name")
    for other in _formats.values():
        if name_of(type(other)) == place:
            continue
        if other.name == cls.name:
            raise DefinitionError(
                f"formats {place} and {name_of(type(other))} have the same name {cls.name!r}",
                next_step="choose another name",
            )
        if both := {*map(_text, cls.types)} & {*map(_text, other.types)}:
            raise DefinitionError(
                f"formats {place} and {name_of(type(other))} both store {', '.join(sorted(both))}",
                next_step="leave the type out of one of them, and give that format to the factories as format=",
            )
    _formats[cls.name] = cls()


def _text(kind: type | str) -> str:
    return kind if isinstance(kind, str) else name_of(kind)


def _loaded(cls: type[Format]) -> Iterator[type]:
    """Yield the types of a format whose libraries are imported; no other library can have made a value."""
    for kind in cls.types:
        if isinstance(kind, str):
            module, _, attribute = kind.rpartition(".")
            found = getattr(sys.modules.get(module), attribute, None)
            if isinstance(found, type):
                yield found
        else:
            yield kind


def _related(wanted: type, kind: type) -> bool:
    return _is_subclass(wanted, kind) or _is_subclass(kind, wanted)


def _is_subclass(one: type, other: type) -> bool:
    try:
        return issubclass(one, other)
    except TypeError:  # a protocol that cannot be checked
        return False

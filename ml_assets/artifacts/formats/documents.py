"""Formats of text, bytes, and what JSON can hold."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ml_assets.artifacts.formats.interface import Format, name_of
from ml_assets.resources.errors import InputError, SchemaError

__all__ = ["Bytes", "Json", "Text"]

_SHOWN: Final = 2_000


class Json(Format):
    """Stores numbers, booleans, lists and dictionaries with text as keys, as JSON with sorted keys."""

    name = "json"
    types = (dict, list, int, float, bool)
    suffix = ".json"

    def write(self, value: Any, path: Path) -> None:
        """Write JSON; refuses what it would change: tuples, NaN, keys that are not text, subclasses."""
        try:
            _refuse_others(value, "$")
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1, sort_keys=True)
            path.write_bytes(text.encode())
        except (RecursionError, ValueError) as error:
            raise SchemaError(
                f"the value cannot be written as JSON: {error}", next_step="return what JSON can hold, or another type"
            ) from error

    def read(self, path: Path, wanted: type) -> Any:
        """Return the value; an integer as a float if that is wanted."""
        value = json.loads(path.read_bytes())
        if wanted is float and type(value) is int:
            return float(value)
        if not isinstance(value, wanted):
            raise InputError(
                f"the JSON holds a value of type {name_of(type(value))}, not {name_of(wanted)}",
                next_step=f"annotate the parameter as {name_of(type(value))}",
            )
        return value

    def describe(self, value: Any, path: Path) -> Mapping[str, Any]:
        """Return the beginning of the text, and the number of entries."""
        entries = {"entries": len(value)} if isinstance(value, dict | list) else {}
        return {**entries, **_beginning(path, "json")}


class Text(Format):
    """Stores text as UTF-8."""

    name = "text"
    types = (str,)
    suffix = ".txt"

    def write(self, value: Any, path: Path) -> None:
        """Write text as it is, line ends included."""
        _refuse_subclass(value, str)
        try:
            path.write_bytes(value.encode())
        except UnicodeEncodeError as error:
            raise SchemaError(f"the text is not Unicode: {error}", next_step="return bytes") from error

    def read(self, path: Path, wanted: type) -> Any:
        """Return the text."""
        return path.read_bytes().decode()

    def describe(self, value: Any, path: Path) -> Mapping[str, Any]:
        """Return the beginning of the text."""
        return _beginning(path, "")


class Bytes(Format):
    """Stores bytes as a file."""

    name = "bytes"
    types = (bytes,)

    def write(self, value: Any, path: Path) -> None:
        """Write bytes."""
        _refuse_subclass(value, bytes)
        path.write_bytes(value)

    def read(self, path: Path, wanted: type) -> Any:
        """Return the bytes."""
        return path.read_bytes()


def _refuse_others(value: Any, place: str) -> None:
    if value is None or type(value) in (bool, int, str):
        return
    if isinstance(value, float) and type(value).__module__ in ("builtins", "numpy"):
        return
    if type(value) is list:
        for position, item in enumerate(value):
            _refuse_others(item, f"{place}[{position}]")
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise SchemaError(
                    f"the key {key!r} at {place} is not text, which JSON would make it", next_step="use text as keys"
                )
            _refuse_others(item, f"{place}.{key}")
    else:
        raise SchemaError(
            f"the value at {place} has the type {name_of(type(value))}, which JSON does not read back equal",
            next_step="convert it to dict, list, str, int, float, bool or None",
        )


def _refuse_subclass(value: Any, kind: type) -> None:
    if type(value) is not kind:
        raise SchemaError(
            f"{name_of(type(value))} would be read back as {kind.__name__}", next_step=f"return {kind.__name__}"
        )


def _beginning(path: Path, language: str) -> dict[str, Any]:
    import dagster as dg

    with path.open(encoding="utf-8", errors="replace") as file:
        text = file.read(_SHOWN + 1)
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return {"preview": dg.MetadataValue.md(f"```{language}\n{shown}\n```")}

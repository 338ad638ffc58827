"""The writer of datasets and feature sets: chooses the format of a value, and stores it."""

import functools
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, Final

import dagster as dg

from ml_assets.artifacts.annotations import hints_of
from ml_assets.artifacts.declaration import Declaration, declare
from ml_assets.artifacts.formats.interface import Format, all_formats, format_of, name_of
from ml_assets.artifacts.writer import Stored, WriteContext
from ml_assets.resources.errors import DefinitionError, SchemaError
from ml_assets.resources.identity import Digest
from ml_assets.resources.provenance import ArtifactKind

__all__ = ["declare_data", "write_value"]

_ANYTHING: Final = (Any, object, dg.MaterializeResult, dg.Output)


def declare_data(
    function: Callable[..., Any] | None, kind: ArtifactKind, form: Format | None, **options: Any
) -> dg.AssetsDefinition | Declaration:
    """Return the asset of a function, whose value a format stores, or without a function its declaration.

    Args:
        function: the author's function.
        kind: the artifact's kind.
        form: the format; by default the one for the type of the value.
        options: those of `define_artifact`.

    Raises:
        DefinitionError: the function is annotated with a type that no format stores; otherwise as for
            `define_artifact`.
    """
    check = _refuse_unkept if form is None else None
    return declare(function, kind, functools.partial(write_value, form=form), check=check, **options)


def write_value(value: Any, context: WriteContext, form: Format | None = None) -> Stored:
    """Store a value with a format, or with the one for its type; a `Path` is stored as the file or directory there."""
    store = context.storage.store
    if isinstance(value, Path) and form is None:
        if not value.exists():
            raise SchemaError(
                f"the function returned the path {value}, which does not exist",
                next_step="write the file or directory before you return its path",
            )
        content = store.put(value)
        return Stored(Digest.parse(content.version), content, {"files": content.files})
    form = form or format_of(type(value))
    if form is None:
        raise SchemaError(
            f"expected the function to return {_accepted()}, got {name_of(type(value))}", next_step=_next_step()
        )
    details: dict[str, Any] = {}
    written: dict[str, Any] = {"format": form.name}

    def write(path: Path) -> None:
        form.write(value, path)
        details.update(form.describe(value, path))
        values = form.values_digest(value, path)
        written.update(rows=details.get("dagster/row_count"), values=str(values) if values else None)

    content = store.put_written(write).model_copy(update=written)
    return Stored(Digest.parse(content.version), content, details)


def _refuse_unkept(function: Callable[..., Any]) -> None:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return  # its annotation names what it yields
    for kind in _unkept(hints_of(function).get("return", Any)):
        raise DefinitionError(
            f"the function is annotated to return {name_of(kind)}, which no format stores; accepted are {_accepted()}",
            next_step=_next_step(),
            asset=getattr(function, "__name__", None),
        )


def _unkept(annotation: Any, *, in_json: bool = False) -> "list[Any]":
    """Return the types in an annotation that no format stores, or that JSON does not store inside another value."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, UnionType):
        return [kind for each in arguments if each is not type(None) for kind in _unkept(each, in_json=in_json)]
    if origin in (dg.MaterializeResult, dg.Output, typing.Annotated):
        return _unkept(arguments[0])
    kind = origin or annotation
    if not isinstance(kind, type) or kind in _ANYTHING:
        return []
    if issubclass(kind, Path) and not in_json:
        return []
    if kind is type(None) and in_json:
        return []
    form = format_of(kind, or_subclass=True)
    if form is None or (in_json and form.name not in ("json", "text")):
        return [kind]
    return [kind for each in arguments for kind in _unkept(each, in_json=True)] if form.name == "json" else []


def _accepted() -> str:
    kinds = [kind if isinstance(kind, str) else name_of(kind) for each in all_formats() for kind in each.types]
    return ", ".join([*kinds, "pathlib.Path"])


def _next_step() -> str:
    return "return one of these, or add a format for your type: a subclass of ml_assets.Format"

"""Options, help texts and output that all commands of ``ml-assets`` share."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from ml_assets.resources.atomic_file import write_atomically
from ml_assets.resources.errors import StoreError

__all__ = ["Json", "Module", "examples", "say", "warn", "write_file"]

_PIPE_WIDTH = 200

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
"""The option of every command that prints a result."""

Module = Annotated[
    str | None,
    typer.Option(
        "--module",
        "-m",
        metavar="MODULE",
        help="Module of the definitions, as for dagster -m. Default: the code locations that pyproject.toml "
        "(tool.dg.project, tool.dagster) or workspace.yaml names, here or in the nearest parent folder.",
    ),
]
"""The option of each command that loads the project's code."""


def examples(*lines: str) -> str:
    """Return the examples for the end of a command's help."""
    # Typer joins the lines of a paragraph, so each is one of its own.
    return "Examples:\n\n" + "\n\n".join(f"  {line}" for line in lines)


def say(as_json: bool, answer: str | RenderableType, payload: dict[str, Any]) -> None:
    """Print the result of a command: as text, or as JSON."""
    if as_json:
        typer.echo(json.dumps(payload, indent=2))
    elif isinstance(answer, str):
        typer.echo(answer)
    else:
        _print(answer)


def warn(line: str) -> None:
    """Print a note on standard error, apart from the result."""
    typer.echo(f"note: {line}", err=True)


def write_file(file: Path, text: str) -> None:
    """Write a file completely, or leave the existing file unchanged.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        write_atomically(file, text)
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}", next_step="choose another file") from error


def _print(answer: RenderableType) -> None:
    # A pipe has no width, and Rich cuts trees at the width of the console.
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(answer)

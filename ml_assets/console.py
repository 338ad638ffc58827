"""What all commands of ``ml-assets`` share: how they are explained, and how they answer."""

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

__all__ = ["Json", "examples", "say", "warn"]

_PIPE_WIDTH = 200

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
"""The option that every command has that answers anything."""


def examples(*lines: str) -> str:
    """The end of a command's help."""
    # Typer joins the lines of a paragraph, so each is one of its own.
    return "Examples:\n\n" + "\n\n".join(f"  {line}" for line in lines)


def say(as_json: bool, answer: str | RenderableType, payload: dict[str, Any]) -> None:
    """Answer people, or machines."""
    if as_json:
        typer.echo(json.dumps(payload, indent=2))
    elif isinstance(answer, str):
        typer.echo(answer)
    else:
        _print(answer)


def warn(line: str) -> None:
    """Say something beside the answer."""
    typer.echo(f"note: {line}", err=True)


def _print(answer: RenderableType) -> None:
    # A pipe has no width of its own, and a tree is cut at the console's.
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(answer)

"""``ml-assets usage``."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from ml_assets.console import Json, examples, say

__all__ = ["usage_commands"]

_DAYS = 30

usage_commands = typer.Typer()


@usage_commands.command(
    "usage",
    epilog=examples(
        "ml-assets usage",
        "ml-assets usage delay_model departures --since 2013-05-01",
        "ml-assets usage --last 20 --json",
    ),
)
def _usage(
    assets: Annotated[list[str] | None, typer.Argument(metavar="[ASSET]...", help="Asset keys; all if none.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            help=f"What was made since then (UTC); the last {_DAYS} days when left out.",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"],
            metavar="DATE",
        ),
    ] = None,
    last: Annotated[
        int, typer.Option(min=1, metavar="N", help="Materializations of each asset, the newest, that figures are of.")
    ] = 100,
    as_json: Json = False,
) -> None:
    """Show what assets ask for, what they took, what they should ask for, and what they cost.

    Memory is what a step could not have done without: the cache of files,
    which the kernel takes back, is left out. CPUs are those that it kept busy
    on average. Time is split into what passed before the step's process began
    (scheduling, pull, start) and what it did (import, input, compute, output).

    What to ask for is the largest memory with a fifth on top (a half where
    fewer than ten were measured), and the CPUs at p95.

    A step costs its pool's price_per_hour (in settings.toml) from when it had
    a machine; a month is 30 days like the period shown.
    """
    from ml_assets.definitions import open_instance, settings
    from ml_assets.usage.history import read_history
    from ml_assets.usage.rendering import render_usage, usage_to_json
    from ml_assets.usage.summary import summarize

    now = datetime.now(UTC)
    begin = since.replace(tzinfo=UTC) if since else now - timedelta(days=_DAYS)
    with open_instance(settings()) as instance:
        found = summarize(read_history(instance, assets or [], begin, last), begin, now)
    period = f"since {begin:%Y-%m-%d %H:%M} UTC"
    say(
        as_json,
        render_usage(found, period),
        {"since": begin.isoformat(), "until": now.isoformat(), "assets": usage_to_json(found)},
    )

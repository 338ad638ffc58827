"""``ml-assets usage``."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from ml_assets.console import Json, examples, say

__all__ = ["usage_commands"]

_DAYS = 30
_ASSET = "usage"
"""Asset of the Dagster UI that published answers are materializations of; no code location defines it."""

usage_commands = typer.Typer()


@usage_commands.command(
    "usage",
    epilog=examples(
        "ml-assets usage",
        "ml-assets usage delay_model departures --since 2013-05-01",
        "ml-assets usage --last 20 --json",
        "ml-assets usage --publish",
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
    publish: Annotated[
        bool, typer.Option("--publish", help="Also show it in the Dagster UI, as a materialization of the asset usage.")
    ] = False,
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
    a machine; a month is 30 days like the period shown. Published every day,
    by cron or the like, the cost of a month becomes a plot.
    """
    from dagster import AssetMaterialization

    from ml_assets.target import Target
    from ml_assets.usage.history import read_history
    from ml_assets.usage.rendering import render_usage, usage_metadata, usage_to_json
    from ml_assets.usage.summary import summarize

    now = datetime.now(UTC)
    begin = since.replace(tzinfo=UTC) if since else now - timedelta(days=_DAYS)
    period = f"since {begin:%Y-%m-%d %H:%M} UTC"
    with Target.for_command() as target:
        found = summarize(read_history(target.instance, assets or [], begin, last), begin, now)
        if publish:
            event = AssetMaterialization(_ASSET, metadata=usage_metadata(found, period))
            target.instance.report_runless_asset_event(event)
    say(
        as_json,
        render_usage(found, period),
        {"since": begin.isoformat(), "until": now.isoformat(), "assets": usage_to_json(found)},
    )

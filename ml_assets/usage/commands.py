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
    assets: Annotated[list[str] | None, typer.Argument(metavar="[ASSET]...", help="Asset keys. Default: all.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            help=f"Start of the period (UTC). Default: {_DAYS} days ago.",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"],
            metavar="DATE",
        ),
    ] = None,
    last: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of newest materializations to evaluate per asset.")
    ] = 100,
    publish: Annotated[
        bool,
        typer.Option(
            "--publish", help="Also publish the result in the Dagster UI, as a materialization of asset usage."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the requested and used resources of assets, a recommendation, and the cost.

    Memory excludes the page cache, which the kernel can reclaim. CPUs are the
    average number of busy cores. Time is split into the phases before the
    step's process starts (scheduling, pull, start) and the phases of the
    process (import, input, compute, output).

    The recommendation is peak memory plus 20 % (plus 50 % with fewer than ten
    measurements), and the p95 of CPUs.

    A step costs its pool's price_per_hour (settings.toml) from the moment it
    has a machine. The cost per month extrapolates the period shown to 30
    days. To plot it in the Dagster UI, run --publish every day, for example
    with cron.
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

"""``ml-assets metrics``."""

from typing import Annotated

import typer

from ml_assets.console import examples

__all__ = ["metrics_commands"]

_PORT = 9464

metrics_commands = typer.Typer()
_metrics = typer.Typer(no_args_is_help=True, help="Export metrics of runs, queue, pools and usage.")
metrics_commands.add_typer(_metrics, name="metrics")


@_metrics.command(
    "serve", epilog=examples("ml-assets metrics serve", "ml-assets metrics serve --host 0.0.0.0 --port 9464")
)
def _serve(
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to bind; 0 picks a free one.")] = _PORT,
) -> None:
    """Serve metrics in Prometheus format at /metrics until interrupted.

    Each scrape reads Dagster's database. deployments/monitoring contains alert
    rules and a Grafana dashboard for these metrics.
    """
    from ml_assets.monitoring.prometheus import DagsterCollector, serve
    from ml_assets.target import Target

    with Target.for_command() as target:
        serve(DagsterCollector(target.instance), host, port, lambda line: typer.echo(line, err=True))

"""``ml-assets metrics``."""

from typing import Annotated

import typer

from ml_assets.console import examples

__all__ = ["metrics_commands"]

_PORT = 9464

metrics_commands = typer.Typer()
_metrics = typer.Typer(no_args_is_help=True, help="Tell a monitoring system of runs, queue, pools and usage.")
metrics_commands.add_typer(_metrics, name="metrics")


@_metrics.command(
    "serve", epilog=examples("ml-assets metrics serve", "ml-assets metrics serve --host 0.0.0.0 --port 9464")
)
def _serve(
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = _PORT,
) -> None:
    """Serve metrics in Prometheus' form at /metrics, until interrupted.

    They are read from Dagster's database at each scrape. Alert rules and a
    Grafana dashboard for them are in deployments/monitoring.
    """
    from ml_assets.monitoring.prometheus import DagsterCollector, serve
    from ml_assets.target import Target

    with Target.for_command() as target:
        serve(DagsterCollector(target.instance), host, port, lambda line: typer.echo(line, err=True))

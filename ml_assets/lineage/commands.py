"""The commands of ``ml-assets`` for lineage."""

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_assets.console import Json, Module, examples, say, warn, write_file
from ml_assets.lineage.graph import NodeKind
from ml_assets.lineage.questions import NODE_LIMIT
from ml_assets.resources.provenance import ArtifactKind

if TYPE_CHECKING:
    from ml_assets.resources.settings import Settings

__all__ = ["lineage_commands"]

_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]

lineage_commands = typer.Typer()
_lineage = typer.Typer(no_args_is_help=True, help="Manage the lineage index, and serve trace pages.")
lineage_commands.add_typer(_lineage, name="lineage")

_Reference = Annotated[
    str,
    typer.Argument(
        metavar="REF",
        help="Asset key (optionally with @partition), data version, image digest, MLflow run id, "
        "models:/name/version, models:/name@alias, Dagster run id or commit.",
    ),
]
_Limit = Annotated[int, typer.Option(min=1, help="Maximum number of nodes in the answer.")]


@lineage_commands.command(
    "trace",
    epilog=examples(
        "ml-assets trace delay_model@2013-05-01",
        "ml-assets trace md5:5f2a66 --down --kind model",
        "ml-assets trace images/train --down --since 2013-05-01 --depth 2",
        "ml-assets trace models:/flight-delay@champion --up --json",
        "ml-assets trace delay_model@2013-05-01 --html lineage.html",
        "ml-assets trace departures@2013-05-01 --mermaid > lineage.mmd",
        "ml-assets trace delay_model --openlineage http://marquez.example:5000",
    ),
)
def _trace(
    reference: _Reference,
    up: Annotated[bool, typer.Option("--up", help="Show only the inputs of REF (upstream).")] = False,
    down: Annotated[bool, typer.Option("--down", help="Show only the uses of REF (downstream).")] = False,
    kinds: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="Show only nodes of this kind. Can be repeated.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(help="Show only nodes made since this time (UTC).", formats=_TIMES, metavar="DATE"),
    ] = None,
    depth: Annotated[int | None, typer.Option(min=0, help="Number of edges to follow. Default: all.")] = None,
    limit: _Limit = NODE_LIMIT,
    aliases: Annotated[bool, typer.Option(help="Query MLflow for model aliases and deployed models.")] = True,
    page: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write an HTML page that works offline.")
    ] = None,
    openlineage: Annotated[
        str | None,
        typer.Option(
            "--openlineage",
            metavar="FILE|URL",
            help="Write OpenLineage events to a file, or send them to a server at http(s)://…",
        ),
    ] = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print a Mermaid flowchart.")] = False,
    as_json: Json = False,
) -> None:
    """Show the inputs and the uses of REF, transitively.

    Each edge was recorded by a materialization when it ran. With --kind or
    --since, the nodes in between are left out. Model versions are shown with
    their current aliases.
    """
    from ml_assets.addresses import Addresses
    from ml_assets.lineage.html_page import render_page
    from ml_assets.lineage.mermaid import render_mermaid
    from ml_assets.lineage.openlineage import openlineage_events
    from ml_assets.lineage.rendering import render_trace, to_json
    from ml_assets.target import Target

    with Target.for_command(warn) as target:
        found = target.lineage.trace(
            reference,
            up=up or not down,
            down=down or not up,
            kinds=_kinds(kinds or []),
            since=since and since.replace(tzinfo=UTC),
            depth=depth,
            limit=limit,
            aliases=aliases,
        )
        records = target.lineage.records(found.graph) if page or openlineage else {}
    settings = target.settings
    if page:
        write_file(page, render_page(found, records, Addresses.of(settings)))
        warn(f"wrote {page}")
    if openlineage:
        warn(
            _told(
                openlineage, openlineage_events(found.graph, records, settings.lineage.openlineage_namespace), settings
            )
        )
    if mermaid:
        typer.echo(render_mermaid(found.graph, found.starts), nl=False)
    elif as_json or not (page or openlineage):
        say(as_json, render_trace(found), to_json(found.graph))


@lineage_commands.command(
    "impact",
    epilog=examples(
        "ml-assets impact flights@2013-01-01",
        "ml-assets impact sha256:5f2a66",
        "ml-assets impact images/train --json",
    ),
)
def _impact(
    reference: _Reference,
    limit: _Limit = NODE_LIMIT,
    as_json: Json = False,
) -> None:
    """List the artifacts to rebuild if REF is bad: deployed models first, then registered ones.

    A model is deployed if its version has the MLflow alias that the settings
    name (mlflow.deployed_alias). Artifacts that newer materializations have
    replaced are counted, but not listed.
    """
    from ml_assets.lineage.impact import impact_to_json, render_impact
    from ml_assets.target import Target

    with Target.for_command(warn) as target:
        found = target.lineage.impact(reference, limit=limit)
    say(as_json, render_impact(found), impact_to_json(found))


@lineage_commands.command(
    "diff",
    epilog=examples(
        "ml-assets diff delay_model@2013-04-01 delay_model@2013-05-01",
        "ml-assets diff models:/flight-delay/2 models:/flight-delay@champion --json",
    ),
)
def _diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A reference to one materialization.")],
    second: Annotated[str, typer.Argument(metavar="B", help="A reference to another materialization.")],
    limit: _Limit = NODE_LIMIT,
    as_json: Json = False,
) -> None:
    """Show the differences between the origins of A and B, the most likely cause first.

    The command compares the recorded data, parameters, code, environment,
    seeds, hardware and commit. It leaves out data that differs only because
    its inputs differ.
    """
    from ml_assets.lineage.difference import differences, differences_to_json, render_differences
    from ml_assets.target import Target

    with Target.for_command(warn) as target:
        origins = target.lineage.origin(first, limit=limit), target.lineage.origin(second, limit=limit)
    found = differences(*origins)
    say(as_json, render_differences(found, *origins), differences_to_json(found, *origins))


@lineage_commands.command(
    "why",
    epilog=examples(
        "ml-assets why delay_model@2013-05-01",
        "ml-assets why departures",
        "ml-assets why delay_model@2013-05-01 --module my_project.definitions --json",
    ),
)
def _why(
    asset: Annotated[str, typer.Argument(metavar="ASSET[@PARTITION]", help="Asset key, optionally with a partition.")],
    module: Module = None,
    as_json: Json = False,
) -> None:
    """Show why ASSET is stale, missing or failed, and why it last ran.

    The status is the same as in Dagster's UI. Each cause is shown with the
    recorded details: changed functions, and input versions before and now.
    For a partitioned asset without a partition, the command counts the
    partitions with each cause.
    """
    from rich.console import Console
    from rich.progress import track

    from ml_assets.lineage.code_location import CodeLocation
    from ml_assets.lineage.staleness import Staleness
    from ml_assets.lineage.why import explain, summarize
    from ml_assets.lineage.why_rendering import render_summary, render_why, summary_to_json, why_to_json
    from ml_assets.project import load_code_locations
    from ml_assets.target import Target

    with Target.for_command() as target:
        location = CodeLocation.defining(asset, load_code_locations(Path.cwd(), module))
        staleness = Staleness(target.instance, location)
        artifact = staleness.find(asset)
        partitions = staleness.partitions(artifact.asset) if artifact.partition is None else ()
        if not partitions:
            found = explain(staleness.facts(artifact))
            say(as_json, render_why(found), why_to_json(found))
            return
        every = track(
            staleness.every(artifact.asset),
            f"partitions of {artifact.asset}",
            total=len(partitions),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        summary = summarize(artifact.asset, every)
    say(as_json, render_summary(summary), summary_to_json(summary))


@lineage_commands.command(
    "provenance",
    epilog=examples(
        "ml-assets provenance models:/flight-delay/3",
        "ml-assets provenance delay_model@2013-05-01 --json > provenance.json",
    ),
)
def _provenance(
    reference: Annotated[str, typer.Argument(metavar="REF", help="A reference to one materialization.")],
    limit: _Limit = NODE_LIMIT,
    as_json: Json = False,
) -> None:
    """Show the provenance of REF; with --json, as an in-toto statement with a SLSA provenance predicate.

    The subject is the artifact with its digest. The resolved dependencies
    are its data, image and commit, and those of everything upstream. The
    statement is not signed. The MLflow run of a model has such a statement
    with the direct dependencies only, as the artifact provenance.json.
    """
    from ml_assets.lineage.statement import render_statement
    from ml_assets.target import Target

    with Target.for_command(warn) as target:
        statement = target.lineage.provenance(reference, limit=limit)
    say(as_json, render_statement(statement), statement)


@_lineage.command("rebuild", epilog=examples("ml-assets lineage rebuild", "ml-assets lineage rebuild --json"))
def _rebuild(as_json: Json = False) -> None:
    """Delete the lineage index and rebuild it from Dagster's event log.

    Every query updates the index, so rebuild it only if an answer seems
    wrong. The event log is not changed.
    """
    from ml_assets.lineage.index.index import open_index
    from ml_assets.target import Target

    with Target.for_command() as target, open_index(target.instance) as index:
        nodes, location = index.rebuild(), index.location
    say(as_json, f"{location}: {nodes} nodes", {"place": location, "nodes": nodes})


@_lineage.command(
    "serve",
    epilog=examples("ml-assets lineage serve", "ml-assets lineage serve --host 0.0.0.0 --port 3001"),
)
def _serve(
    host: Annotated[
        str, typer.Option(help="Address to bind; by default reachable from this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to bind; 0 picks a free one.")] = 3001,
) -> None:
    """Serve trace pages to browsers until interrupted.

    Each materialization in the Dagster UI links to its trace page if the
    settings have the address that browsers use (lineage.ui_url). Each request
    renders the page from the current event log. There are no accounts:
    everyone who can reach the address can read the pages. The server is
    read-only.
    """
    from ml_assets.lineage.server import serve
    from ml_assets.target import Target

    with Target.for_command(warn) as target:
        serve(target.lineage, target.settings, host, port, lambda line: typer.echo(line, err=True))


def _told(destination: str, events: Iterable[Any], settings: "Settings") -> str:
    from ml_assets.lineage.openlineage import send_events, write_events

    if destination.startswith(("http://", "https://")):
        count = send_events(events, destination, settings.lineage.openlineage_api_key)
        return f"sent {count} OpenLineage events"
    return f"wrote {write_events(events, Path(destination))} OpenLineage events to {destination}"


def _kinds(names: list[str]) -> frozenset[ArtifactKind | NodeKind]:
    kinds: dict[str, ArtifactKind | NodeKind] = {kind.value: kind for kind in (*ArtifactKind, *NodeKind)}
    unknown = [name for name in names if name not in kinds]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(kinds)}", param_hint="--kind")
    return frozenset(kinds[name] for name in names)

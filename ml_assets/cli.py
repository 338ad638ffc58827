"""``ml-assets``: data, images and lineage from a shell."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from resources.errors import LineageError, MlAssetsError, SettingsError

__all__ = ["main", "run_app"]

app = typer.Typer(
    name="ml-assets",
    help="Trace, fetch and export what Dagster materialized. The target is chosen by ML_ASSETS_TARGET (local).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data = typer.Typer(no_args_is_help=True, help="Fetch the content of artifacts by version.")
images = typer.Typer(no_args_is_help=True, help="Base images of the Dockerfiles.")
app.add_typer(data, name="data")
app.add_typer(images, name="images")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
DataReference = Annotated[
    str,
    typer.Argument(
        metavar="ASSET[@VERSION]", help="Asset key, with a partition or a data version (its first 6 digits will do)."
    ),
]


def main() -> None:
    """The entry point of ``ml-assets``."""
    run_app(app)


def run_app(application: typer.Typer) -> None:
    """Run a command line; an error of ours becomes one line and exit status 1, or 2 where the request was wrong."""
    try:
        application()
    except MlAssetsError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, LineageError | SettingsError) else 1)


@app.command()
def trace(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REF",
            help="Asset key (with @partition), data version, image digest, MLflow run id, models:/name/version, "
            "Dagster run id or commit.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show what REF came from and what came from it.

    Every edge is one that a materialization recorded when it ran.
    """
    from ml_assets.definitions import open_instance, settings
    from ml_assets.lineage.loader import load_graph
    from ml_assets.lineage.rendering import render_trace, to_json

    with open_instance(settings()) as instance:
        found = load_graph(instance).trace(reference)
    if as_json:
        typer.echo(json.dumps(to_json(found.graph), indent=2))
    else:
        Console().print(render_trace(found), soft_wrap=True)


@data.command("get")
def get(
    reference: DataReference,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty directory to write into.")],
    as_json: Json = False,
) -> None:
    """Fetch content by version into a directory, verified on arrival."""
    from ml_assets.data import find_record, stored_content
    from ml_assets.definitions import open_instance, resources_for, settings
    from resources.identity import AssetPartition, Digest

    chosen = settings()
    with open_instance(chosen) as instance:
        record = find_record(instance, reference)
    content = stored_content(record)
    store = resources_for(chosen)["artifacts"].store
    try:
        store.checkout(Digest.parse(content.version), directory / _file_name(record.asset, content.format))
    except MlAssetsError as error:
        raise error.for_asset(str(AssetPartition(record.asset, record.partition))) from error.__cause__
    _say(
        as_json,
        f"{record.asset} {content.version} → {directory}",
        {**content.model_dump(), "directory": str(directory)},
    )


@data.command("export")
def export(
    reference: DataReference,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write (ASSET.dvc when left out).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a .dvc file with which plain `dvc pull` restores the content.

    It works in any DVC repository that has the same remote.
    """
    from ml_assets.data import find_record, stored_content
    from ml_assets.definitions import open_instance, resources_for, settings

    chosen = settings()
    with open_instance(chosen) as instance:
        record = find_record(instance, reference)
    content = stored_content(record)
    name = _file_name(record.asset, content.format)
    file = output or Path(f"{name}.dvc")
    meta = {"asset": record.asset, "partition": record.partition or "", "dagster_run": record.dagster_run}
    remote = resources_for(chosen)["artifacts"].store
    file.write_text(remote.dvc_file(content, file.stem if output else name, {k: v for k, v in meta.items() if v}))
    _say(
        as_json,
        f"wrote {file}\nin a DVC repository: dvc remote add --default origin {remote.remote} && dvc pull {file.name}",
        {**content.model_dump(), "file": str(file), "remote": remote.remote},
    )


@images.command()
def update(
    registry: Annotated[str, typer.Option(help="Registry to ask, as host[:port].")],
    as_json: Json = False,
) -> None:
    """Resolve the base images' tags to digests and write them to images.lock.

    Only what the registry answers is written; an image that it does not answer for keeps its entry.
    """
    from ml_assets.definitions import settings
    from resources.base_images import LOCK_FILE, update_base_images

    chosen = settings()
    answers = update_base_images(chosen.root / LOCK_FILE, registry)
    _say(as_json, "\n".join(str(answer) for answer in answers), {"images": [str(answer) for answer in answers]})


def _file_name(asset: str, form: str) -> str:
    return asset.replace("/", "-") + (".parquet" if form == "parquet" else "")


def _say(as_json: bool, text: str, payload: dict[str, object]) -> None:
    typer.echo(json.dumps(payload, indent=2) if as_json else text)


if __name__ == "__main__":
    main()

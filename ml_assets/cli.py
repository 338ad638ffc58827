"""The command line ``ml-assets``, with the commands for data, images and leftover containers."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ml_assets.backup.commands import backup_commands
from ml_assets.console import Json, Module, examples, say, write_file
from ml_assets.doctor.commands import doctor_commands
from ml_assets.lineage.commands import lineage_commands
from ml_assets.monitoring.commands import metrics_commands
from ml_assets.reproduction.commands import reproduction_commands
from ml_assets.resources.errors import (
    AmbiguousReference,
    MlAssetsError,
    ReproductionRefused,
    SettingsError,
    UnknownReference,
)
from ml_assets.resources.full_disk import full_disk
from ml_assets.retention.commands import retention_commands
from ml_assets.usage.commands import usage_commands
from ml_assets.verification.commands import verification_commands

if TYPE_CHECKING:
    from ml_assets.executors.sweep import Leftover
    from ml_assets.fetch import StoredArtifact

__all__ = ["main", "run_app"]

_NO_ANSWER = (UnknownReference, AmbiguousReference, SettingsError, ReproductionRefused)

_app = typer.Typer(
    name="ml-assets",
    help="Trace, fetch and export the artifacts of Dagster materializations. The variable ML_ASSETS_TARGET names the "
    "target, whose settings apply (default: local).",
    epilog=examples(
        "ml-assets trace delay_model@2013-05-01",
        "ml-assets data get flights@2013-01-01 /tmp/flights",
        "ml-assets images update --registry mirror.example:5000",
        "ml-assets usage",
        "ml-assets doctor",
        "ml-assets sweep --dry-run",
        "ml-assets --install-completion",
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_data = typer.Typer(no_args_is_help=True, help="Fetch and verify the content of artifacts by version.")
_images = typer.Typer(no_args_is_help=True, help="Build images, and resolve their base images.")
_app.add_typer(_data, name="data")
_app.add_typer(_images, name="images")
_data.add_typer(verification_commands)
_app.add_typer(lineage_commands)
_app.add_typer(retention_commands)
_app.add_typer(reproduction_commands)
_app.add_typer(usage_commands)
_app.add_typer(doctor_commands)
_app.add_typer(metrics_commands)
_app.add_typer(backup_commands)

_DataReference = Annotated[
    str,
    typer.Argument(
        metavar="ASSET[@VERSION]",
        help="Asset key, optionally with a partition or a data version (at least its first 6 digits). Default: the "
        "latest version.",
    ),
]


def main() -> None:
    """Run the command line ``ml-assets``."""
    run_app(_app)


def run_app(application: typer.Typer) -> None:
    """Run a command line. Print an error of this project as one line, with exit status 1, or 2 for a wrong request."""
    try:
        application()
    except MlAssetsError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, _NO_ANSWER) else 1)
    except Exception as error:
        full = full_disk(error)
        if full is None:
            raise
        Console(stderr=True).print(
            f"[bold red]error:[/] {escape(full)}. Next: free space there, and run again.",
            highlight=False,
            soft_wrap=True,
        )
        sys.exit(1)


@_app.command("sweep", epilog=examples("ml-assets sweep --dry-run", "ML_ASSETS_TARGET=docker ml-assets sweep --json"))
def _sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Stop and remove the containers of runs that have ended.

    Such containers remain if a run worker was killed and not replaced. The
    sensor ml_assets_remove_leftover_containers does the same every 30
    seconds while Dagster's daemon runs.

    Containers of active runs stay, and so do containers of runs that this
    Dagster instance does not know. The engine may keep a stopped container
    of a failed run for a while, for inspection. The exit status is 1 if a
    container has not stopped yet: run the command again.
    """
    from ml_assets.executors.sweep import SweepOutcome, find_leftovers, sweep
    from ml_assets.target import Target

    with Target.for_command() as target:
        found = (find_leftovers if dry_run else sweep)(target.engine, target.instance)
    if as_json:
        rows = [
            {
                "name": each.name,
                "dagster_run": each.run_id,
                "run_status": each.run_status.value,
                "was_running": each.was_running,
                "outcome": _text(each.outcome),
            }
            for each in found
        ]
        typer.echo(json.dumps({"dry_run": dry_run, "containers": rows}, indent=2))
    else:
        typer.echo("\n".join(map(_swept, found)) or "no leftover containers")
    if any(each.outcome is SweepOutcome.ENDING for each in found):
        raise typer.Exit(1)


@_data.command(
    "get",
    epilog=examples(
        "ml-assets data get flights@2013-01-01 /tmp/flights",
        "ml-assets data get delay_model@5f2a66 /tmp/model",
    ),
)
def _get(
    reference: _DataReference,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Destination directory; created if it is missing.")],
    as_json: Json = False,
) -> None:
    """Fetch content by version into a directory, and verify it.

    The file or folder is named after its asset: flights.parquet, delay_model. Existing files are not overwritten.
    """
    from ml_assets.fetch import find_artifact
    from ml_assets.lineage import explain_missing
    from ml_assets.resources.identity import Digest
    from ml_assets.target import Target

    with Target.for_command() as target:
        found = find_artifact(target.instance, reference)
        content, path = found.stored(), directory / found.file_name
        try:
            found.store(target.store).checkout(Digest.parse(content.version), path)
        except MlAssetsError as error:
            explained = explain_missing(error, content.version, target.instance)
            raise explained.for_asset(str(found.artifact)) from error.__cause__
    say(as_json, f"{found.artifact} {content.version} → {path}", _payload(found, path))


@_data.command(
    "export",
    epilog=examples(
        "ml-assets data export flights@2013-01-01",
        "ml-assets data export delay_model@2013-05-01 --output models/delay.dvc",
        "dvc pull models/delay.dvc",
    ),
)
def _export(
    reference: _DataReference,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, NAME.dvc. Default: ASSET.dvc.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a .dvc file from which plain `dvc pull` restores the content.

    The file works in any DVC repository with the same remote. `dvc pull`
    names the content NAME. The field meta records the origin, in references
    that `ml-assets trace` accepts.
    """
    from ml_assets.fetch import find_artifact
    from ml_assets.target import Target

    with Target.for_command() as target:
        found = find_artifact(target.instance, reference)
    file = output or Path(f"{found.file_name}.dvc")
    if file.suffix != ".dvc":
        raise typer.BadParameter(f"{file} does not end in .dvc, as DVC requires", param_hint="--output")
    store = found.store(target.store)
    write_file(file, store.dvc_file(found.stored(), file.stem, found.origin))
    say(
        as_json,
        f"wrote {file}\nin a DVC repository: dvc remote add --default origin {store.remote} && dvc pull {file.name}",
        _payload(found, file) | {"remote": store.remote},
    )


@_images.command(
    "update",
    epilog=examples("ml-assets images update", "ml-assets images update --registry mirror.example:5000 --json"),
)
def _update(
    registry: Annotated[
        str | None,
        typer.Option(help="Registry to query, as host[:port]. Default: images.registry in the settings."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Resolve the base images' tags to digests and write them to images.lock.

    Only digests that the registry returns are written. If the registry does not return the digest of an image, the
    image keeps its entry, and the exit status is 1.
    """
    from ml_assets.resources.image_builders.base_images import LOCK_FILE, update_base_images
    from ml_assets.target import Target

    target = Target.for_command()
    host = registry or target.settings.images.registry
    if not host:
        raise SettingsError("no registry is set", next_step="use --registry HOST[:PORT], or set images.registry")
    updates = update_base_images(target.settings.root / LOCK_FILE, host, target.registry_client)
    if as_json:
        rows = [
            {"name": each.name, "before": _text(each.before), "after": _text(each.after), "error": _text(each.error)}
            for each in updates
        ]
        typer.echo(json.dumps({"registry": host, "images": rows}, indent=2))
    for each in updates:
        if each.error is not None:
            typer.echo(f"error: {each.name}: {each.error}", err=True)
        elif not as_json:
            typer.echo(f"{each.name}: {each.after}" + (" (unchanged)" if each.before == each.after else ""))
    if any(each.error for each in updates):
        raise typer.Exit(1)


@_images.command(
    "bootstrap", epilog=examples("ml-assets images bootstrap", "ml-assets images bootstrap builder train --json")
)
def _bootstrap(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Images to build, such as train. Default: all.")
    ] = None,
    module: Module = None,
    as_json: Json = False,
) -> None:
    """Build the images that steps run in, on this machine.

    The command materializes the image assets of the project in this process, and prints each image by digest. Images
    that the registry already has are not built again.
    """
    from ml_assets.artifacts.metadata import NOT_CONTAINERIZED
    from ml_assets.images import make_images
    from ml_assets.project import load_code_locations
    from ml_assets.target import Target

    with Target.for_command() as target:
        locations = load_code_locations(Path.cwd(), module)
        records = make_images(locations, target.instance, names or [], lambda line: typer.echo(line, err=True))
    if as_json:
        rows = [
            {
                "asset": each.asset,
                "image": each.made_image,
                "index_digest": each.made_index_digest,
                "environment_digest": each.data_version,
            }
            for each in records
        ]
        typer.echo(json.dumps({"images": rows}, indent=2))
        return
    for each in records:
        typer.echo(f"{each.asset}: {each.made_image or NOT_CONTAINERIZED}")


def _payload(found: "StoredArtifact", path: Path) -> dict[str, Any]:
    """Return the JSON output of `data` commands."""
    artifact = {"asset": found.artifact.asset, "partition": found.artifact.partition, "path": str(path)}
    return artifact | {"dagster_run": found.dagster_run, "content": found.stored().model_dump()}


def _swept(leftover: "Leftover") -> str:
    from ml_assets.executors.sweep import SweepOutcome

    said = {
        None: "would be stopped" if leftover.was_running else "already stopped, would be removed",
        SweepOutcome.ENDED: "stopped",
        SweepOutcome.ENDING: "stopping, not stopped yet",
        SweepOutcome.REMOVED: "already stopped, removed",
        SweepOutcome.KEPT: "already stopped, kept by its engine for a while",
    }
    return f"{leftover.name} (run {leftover.run_id}, {leftover.run_status.value.lower()}): {said[leftover.outcome]}"


def _text(value: object) -> str | None:
    return None if value is None else str(value)


if __name__ == "__main__":
    main()

"""``ml-assets backup`` and ``ml-assets restore``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ml_assets.console import Json, examples, say, warn
from ml_assets.resources.errors import BackupError

if TYPE_CHECKING:
    from ml_assets.backup.contents import Backup, Saved
    from ml_assets.target import Target

__all__ = ["backup_commands"]

_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the backup.", file_okay=False)]

backup_commands = typer.Typer()


@backup_commands.command(
    "backup",
    epilog=examples(
        "make backup BACKUP=/mnt/backup",
        "deployments/kubernetes/jobs/run save",
        "ml-assets backup /mnt/backup",
    ),
)
def _backup(folder: _Folder, as_json: Json = False) -> None:
    """Back up content, MLflow's artifacts, logs and images while Dagster runs.

    Backups run online: databases first, then the immutable content that they
    reference. So dump the databases before you run this command: first
    DIR/databases/dagster.dump, then DIR/databases/mlflow.dump (pg_dump
    --format=custom). The first two commands below, one for each target, also
    dump the databases.

    Files that DIR already has are not copied again. So you can repeat a backup
    into the same directory, and an interrupted backup continues.
    """
    from ml_assets.backup.recorded import recorded_images
    from ml_assets.target import Target

    with Target.for_command() as target, Console(stderr=True).status("reading the records") as status:
        backup = _opened(folder, target)
        _require_server(target)
        images = recorded_images(target.instance, target.settings)
        saved = backup.save(images, lambda line: status.update(escape(line)))
    for image in saved.gone:
        warn(f"{image} is recorded, but the registry no longer has it")
    for file in saved.damaged:
        warn(f"{file} is damaged in the deployment and was not copied; an earlier copy in the backup stays")
    say(as_json, _described(saved, "saved"), _payload(saved))


@backup_commands.command(
    "restore",
    epilog=examples(
        "make restore BACKUP=/mnt/backup",
        "deployments/kubernetes/jobs/run restore",
        "ml-assets restore /mnt/backup",
    ),
)
def _restore(
    folder: _Folder,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Restore the intact files even if others are damaged or missing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Restore content, MLflow's artifacts, logs and images.

    The command first reads the whole backup and compares every file with its
    checksum. It names each damaged or missing file, and restores nothing if
    there is one, unless --skip-damaged is given.

    Restore the databases afterwards, with pg_restore, so that they never
    reference missing content. The first two commands below, one for each
    target, also restore the databases. Existing files stay, so a repeated
    restore continues an interrupted one.
    """
    from ml_assets.target import Target

    backup = _opened(folder, Target.for_command())
    with Console(stderr=True).status("reading the backup") as status:
        saved = backup.restore(lambda line: status.update(escape(line)), skip_damaged=skip_damaged, report=warn)
    say(as_json, _described(saved, "restored"), _payload(saved))


def _require_server(target: "Target") -> None:
    """Refuse databases in files. They are backed up by copying the files while nothing writes to them."""
    if not hasattr(target.instance.event_log_storage, "postgres_url"):
        settings = target.settings
        raise BackupError(
            f"target {settings.target} stores its databases in files, which cannot be backed up online",
            next_step=f"stop Dagster, then copy {settings.path(settings.home)} and the folders of content and MLflow",
        )


def _opened(folder: Path, target: "Target") -> "Backup":
    from ml_assets.backup.contents import CONTENT, Backup
    from ml_assets.resources.dvc.trees import Tree

    settings = target.settings
    urls = {CONTENT: settings.dvc.remote, **settings.backup.trees}
    trees = {
        name: Tree(settings.location(url), settings.dvc.options, settings.dvc.retry_seconds)
        for name, url in urls.items()
    }
    return Backup(folder.resolve(), trees, target.registry_client)


def _described(saved: "Saved", done: str) -> str:
    lines = [f"{name}: {files:,} files, {size:,} bytes" for name, (files, size) in saved.trees.items()]
    lines += [f"{name}: {count:,} images" for name, count in saved.images.items()]
    return "\n".join([*lines, f"{done}: all of the above, as of {saved.made:%Y-%m-%d %H:%M} UTC"])


def _payload(saved: "Saved") -> dict[str, Any]:
    return {
        "made": saved.made.isoformat(),
        "trees": {name: {"files": files, "size": size} for name, (files, size) in saved.trees.items()},
        "images": saved.images,
        "gone": list(saved.gone),
        "damaged": list(saved.damaged),
    }

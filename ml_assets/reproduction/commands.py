"""``ml-assets reproduce``."""

import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ml_assets.console import Json, examples, say, warn
from ml_assets.reproduction.request import DEFAULT_TOLERANCE
from ml_assets.resources.errors import MlAssetsError, ReproductionRefused

if TYPE_CHECKING:
    from ml_assets.reproduction.request import ReproductionRequest
    from ml_assets.reproduction.verdict import Verdict
    from ml_assets.resources.provenance import ProvenanceRecord
    from ml_assets.target import Target

__all__ = ["reproduction_commands"]

_TERMINATED = 128 + signal.SIGTERM

reproduction_commands = typer.Typer()


@reproduction_commands.command(
    "reproduce",
    epilog=examples(
        "ml-assets reproduce delay_model@2013-05-01",
        "ml-assets reproduce models:/flight-delay/3 --tolerance 0.001",
        "ML_ASSETS_TARGET=docker ml-assets reproduce sha256:5f2a66 --pool cpu --json",
    ),
)
def _reproduce(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REF",
            help="One materialization: asset key (with @partition; the latest), data version, MLflow run id, "
            "models:/name/version or models:/name@alias, or as `ml-assets trace` shows it (asset@partition#17).",
        ),
    ],
    tolerance: Annotated[
        float,
        typer.Option(min=0, help="How far numbers may be apart: relative, or absolute where they are below 1."),
    ] = DEFAULT_TOLERANCE,
    pool: Annotated[
        str | None, typer.Option(help="Pool to run on, where it is not to be the recorded one; not on local.")
    ] = None,
    allow_unpinned: Annotated[
        bool,
        typer.Option(
            "--allow-unpinned",
            help="Go on where the code (uncommitted changes) or the environment are not those of the record.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Run REF again as it was, publish nothing, and say whether it gives the same.

    The recorded image (on local: the recorded commit, in a process of its
    own) runs the asset as it was defined there, with the input versions,
    parameters, partition and seeds of the record. Whatever exists by now
    under newer versions plays no part.

    The verdict is "bit-identical"; "within tolerance" (numbers of a table; of
    a model its metrics, and its predictions on the input example that was
    logged with it); or "different", with the first thing that differs. It is
    logged as an observation of the asset and as tags of the MLflow run.

    The exit status is 0 for the same, 1 for different, and 2 where there is
    no verdict because something is gone or cannot be pinned.
    """
    from ml_assets.reproduction.verdict import render_verdict
    from ml_assets.target import Target

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))  # as an interrupt: clean up, then end
    with Target.for_command(warn) as target:
        record, request = _asked(target, reference, tolerance, allow_unpinned)
        try:
            verdict = _verdict(request, record, target, pool)
        except MlAssetsError as error:
            # Whatever it is, there is no verdict; exit status 1 would mean "different".
            refused = ReproductionRefused(error.what, next_step=error.next_step, asset=error.asset)
            raise refused.for_asset(str(request.artifact)) from error
    say(as_json, render_verdict(verdict), verdict.model_dump(mode="json"))
    if not verdict.is_reproduced:
        raise typer.Exit(1)


def _asked(
    target: "Target", reference: str, tolerance: float, allow_unpinned: bool
) -> tuple["ProvenanceRecord", "ReproductionRequest"]:
    from ml_assets.reproduction.reproduce import past_record
    from ml_assets.reproduction.request import ReproductionRequest

    origin = target.lineage.origin(reference)
    if origin.record is None or origin.node.storage_id is None:
        raise ReproductionRefused(
            f"{origin.node.id} carries no provenance record: it is {origin.node.kind}, made by no factory of ml_assets",
            next_step="name something that a factory made; ml-assets trace shows it",
        )
    request = ReproductionRequest(
        asset=origin.record.asset,
        partition=origin.record.partition,
        storage_id=origin.node.storage_id,
        data_version=origin.record.data_version,
        tolerance=tolerance,
        allow_unpinned=allow_unpinned,
    )
    return past_record(target.instance, request), request


def _verdict(
    request: "ReproductionRequest", record: "ProvenanceRecord", target: "Target", pool: str | None
) -> "Verdict":
    instance, settings = target.instance, target.settings
    has_containers = settings.containers.executor != "processes"
    if (record.environment.image is None) == has_containers and not (request.allow_unpinned and not has_containers):
        ran = f"in image {record.environment.image}" if record.environment.image else "without a container"
        raise ReproductionRefused(
            f"it ran {ran}, on target {record.environment.target}, and this is target {settings.target}",
            next_step=f"set ML_ASSETS_TARGET to {record.environment.target}",
            asset=str(request.artifact),
        )
    if has_containers:
        from ml_assets.reproduction.launching import reproduce_in_image, require_image

        require_image(record.environment.image or "", request, target.registry_client, warn)
        return reproduce_in_image(request, record, instance, settings.pools, pool, _progress)
    from ml_assets.reproduction.local import reproduce_at_commit

    return reproduce_at_commit(request, record, instance, settings, (target.store, target.tracking), _progress)


def _progress(line: str) -> None:
    typer.echo(line, err=True)

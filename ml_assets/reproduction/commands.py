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
            help="One materialization: asset key (optionally with @partition) for the latest one, data version, MLflow "
            "run id, models:/name/version, models:/name@alias, or the id that `ml-assets trace` shows "
            "(asset@partition#17).",
        ),
    ],
    tolerance: Annotated[
        float,
        typer.Option(min=0, help="Largest accepted difference of numbers: relative, or absolute below 1."),
    ] = DEFAULT_TOLERANCE,
    pool: Annotated[str | None, typer.Option(help="Pool to run on. Default: the recorded pool. Not on local.")] = None,
    allow_unpinned: Annotated[
        bool,
        typer.Option(
            "--allow-unpinned",
            help="Continue if the code (uncommitted changes) or the environment differs from the record.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Run REF again as recorded, publish nothing, and compare the results.

    The asset runs in the recorded image (on local: at the recorded commit, in
    a separate process) as it was defined there, with the recorded input
    versions, parameters, partition and seeds. Newer versions have no effect.

    The verdict is "bit-identical", "within tolerance" or "different". Within
    tolerance compares the numbers of a table, or the metrics of a model and
    its predictions on the logged input example. The verdict different comes
    with the first difference. The verdict is logged as an observation of the
    asset and as tags of the MLflow run.

    The exit status is 0 for bit-identical and within tolerance, 1 for
    different, and 2 if there is no verdict, because something is missing or
    cannot be pinned.
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
            f"{origin.node.id} ({origin.node.kind}) has no provenance record, because no factory of ml_assets made it",
            next_step="name an artifact that a factory made; ml-assets trace shows them",
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
            f"it ran {ran}, on target {record.environment.target}, but this is target {settings.target}",
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

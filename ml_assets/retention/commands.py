"""``ml-assets gc``."""

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_assets.console import Json, examples, say, warn
from ml_assets.resources.errors import RetentionError

if TYPE_CHECKING:
    from ml_assets.retention.plan import Plan

__all__ = ["retention_commands"]

_SHOWN = 12

retention_commands = typer.Typer()


@retention_commands.command(
    "gc",
    epilog=examples(
        "ml-assets gc",
        "ml-assets gc --keep-last 5 --keep-since 2013-05-01 --json",
        "ml-assets gc --only data --only cache --apply",
        "ml-assets gc --apply --yes",
    ),
)
def _gc(
    keep_last: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of latest materializations to keep per asset or partition.")
    ] = 3,
    keep_since: Annotated[
        datetime | None,
        typer.Option(help="Keep everything made since this date (UTC).", formats=["%Y-%m-%d"], metavar="DATE"),
    ] = None,
    keep_registered: Annotated[bool, typer.Option(help="Keep the models in MLflow's registry.")] = True,
    keep_deployed: Annotated[bool, typer.Option(help="Keep the models with the alias mlflow.deployed_alias.")] = True,
    grace: Annotated[float, typer.Option(min=0, metavar="HOURS", help="Keep everything younger than this.")] = 24,
    only: Annotated[
        list[str] | None, typer.Option(metavar="PLACE", help="Limit to data, images, mlflow or cache. Can be repeated.")
    ] = None,
    orphans: Annotated[
        bool,
        typer.Option("--orphans", help="Also delete content that this instance never recorded. Others may need it!"),
    ] = False,
    service_images: Annotated[
        bool,
        typer.Option(
            "--service-images",
            help="Also delete old images in which no step ever ran, such as the model server's. One of them may be "
            "serving!",
        ),
    ] = False,
    break_reproducibility: Annotated[
        bool, typer.Option("--break-reproducibility", help="Do not keep the inputs and images of kept artifacts.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Delete what is listed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    as_json: Json = False,
) -> None:
    """List unreferenced content and its size; with --apply, delete it.

    The command keeps the latest materializations, the registered and deployed
    models, and everything upstream of these: data, images, environments. It
    also keeps all images of image assets in which no step ever ran, because
    no record tells which one is serving (--service-images deletes old ones).

    All other content that this Dagster instance recorded is deleted: content
    in the DVC remote and in the local cache, images in their registry, and
    artifacts of MLflow runs (the runs stay). Records stay, so trace gives the
    same answers and marks deleted content.
    """
    from ml_assets.retention.garbage_collector import GarbageCollector, Scope
    from ml_assets.retention.policy import Policy
    from ml_assets.target import Target

    unknown = [name for name in only or [] if name not in set(Scope)]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(Scope)}", param_hint="--only")
    scopes = frozenset(map(Scope, only or Scope))
    policy = Policy(
        last=keep_last,
        since=keep_since and keep_since.replace(tzinfo=UTC),
        registered=keep_registered,
        deployed=keep_deployed,
        whole_origin=not break_reproducibility,
        service_images=not service_images,
        grace=timedelta(hours=grace),
    )
    with Target.for_command(warn) as target:
        collector = GarbageCollector(
            target.instance, target.store, target.model_registry, target.registry_client, target.note
        )
        plan = collector.plan(policy, scopes, orphans=orphans)
        _warn_of(plan)
        say(as_json, _described(plan), _payload(plan, applied=apply))
        if not apply or not plan.size:
            return
        _confirm(plan, yes)
        for line in collector.collect(policy, plan, scopes):
            typer.echo(f"deleted {line}", err=True)


def _confirm(plan: "Plan", yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise RetentionError("nobody can confirm the deletion without a terminal", next_step="run again with --yes")
    typer.confirm(f"Delete {_bytes(plan.size)} permanently?", abort=True, err=True)


def _warn_of(plan: "Plan") -> None:
    for version in plan.data.incomplete[:_SHOWN]:
        warn(f"{version} is kept, but a part of it is missing from the remote")
    for value, reason in list(plan.data.damaged.items())[:_SHOWN]:
        warn(f"the listing {value} is skipped, and everything that it names stays: {reason}")
    if plan.data.unknown:
        warn(
            f"nothing is deleted from the DVC remote, because the files of {min(plan.data.unknown)} are unknown: store"
            " the directory again, or delete this object if nobody needs it"
        )
    if plan.data.orphans and not plan.orphans_go:
        size = _bytes(sum(plan.data.orphans.values()))
        warn(
            f"{len(plan.data.orphans)} objects ({size}) stay because this instance never recorded them: they belong to"
            " others who share the remote, failed steps or wiped assets (--orphans deletes them)"
        )


def _described(plan: "Plan") -> str:
    lines = [f"kept: {plan.kept} of {plan.materializations} materializations"]
    groups: list[tuple[str, list[tuple[str, int]]]] = [
        ("content", [(f"{each.version}  {each.of[-1]}", each.size) for each in plan.data.collect]),
        ("images", [(f"{each.reference}  {each.of[-1]}", each.size) for each in plan.images]),
        ("artifacts of MLflow runs", [(f"{each.run_id}  {each.of[-1]}", each.size) for each in plan.runs]),
    ]
    for title, entries in groups:
        if entries:
            lines.append(f"{title}: {len(entries)}, {_bytes(sum(size for _, size in entries))}")
            lines += [f"  {name}  {_bytes(size)}" for name, size in entries[:_SHOWN]]
            lines += [f"  … and {len(entries) - _SHOWN} more (--json lists all)"] if len(entries) > _SHOWN else []
    if plan.orphans_go and plan.data.orphans:
        lines.append(f"orphans: {len(plan.data.orphans)} objects, {_bytes(sum(plan.data.orphans.values()))}")
    if plan.cached:
        lines.append(f"local cache: {len(plan.cached)} objects, {_bytes(sum(plan.cached.values()))}")
    lines.append(f"to delete: {_bytes(plan.size)}" if plan.size else "nothing to delete")
    return "\n".join(lines)


def _payload(plan: "Plan", *, applied: bool) -> dict[str, Any]:
    data = [
        {"version": each.version, "size": each.size, "objects": len(each.objects), "of": list(each.of)}
        for each in plan.data.collect
    ]
    images = [{"reference": each.reference, "size": each.size, "of": list(each.of)} for each in plan.images]
    runs = [{"mlflow_run": each.run_id, "size": each.size, "of": list(each.of)} for each in plan.runs]
    return {
        "dry_run": not applied,
        "materializations": plan.materializations,
        "kept": plan.kept,
        "size": plan.size,
        "data": data,
        "images": images,
        "mlflow": runs,
        "cache": {"objects": len(plan.cached), "size": sum(plan.cached.values())},
        "orphans": {
            "objects": len(plan.data.orphans),
            "size": sum(plan.data.orphans.values()),
            "collected": plan.orphans_go,
        },
        "incomplete": list(plan.data.incomplete),
        "damaged": dict(plan.data.damaged),
    }


def _bytes(size: int) -> str:
    return f"{size:,} bytes"

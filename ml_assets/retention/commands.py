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
    keep_last: Annotated[int, typer.Option(min=1, metavar="N", help="Latest ones of each asset or partition.")] = 3,
    keep_since: Annotated[
        datetime | None, typer.Option(help="What was made since then (UTC).", formats=["%Y-%m-%d"], metavar="DATE")
    ] = None,
    keep_registered: Annotated[bool, typer.Option(help="Models that MLflow's registry has.")] = True,
    keep_deployed: Annotated[bool, typer.Option(help="Those with the alias that settings name.")] = True,
    grace: Annotated[float, typer.Option(min=0, metavar="HOURS", help="What is younger stays in any case.")] = 24,
    only: Annotated[
        list[str] | None, typer.Option(metavar="PLACE", help="data, images, mlflow or cache; may be repeated.")
    ] = None,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Also content that nothing here ever referred to. Others may need it!")
    ] = False,
    service_images: Annotated[
        bool,
        typer.Option(
            "--service-images",
            help="Also old images in which no step ever ran, such as the model server's. One of them may be serving!",
        ),
    ] = False,
    break_reproducibility: Annotated[
        bool, typer.Option("--break-reproducibility", help="Keep models without what they were made of.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Delete it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before.")] = False,
    as_json: Json = False,
) -> None:
    """Say what no kept materialization refers to, and with --apply delete it.

    Kept are the latest materializations, registered and deployed models, and
    all that these came from: data, images, environments. So are all images of
    assets in which no step ever ran: nothing recorded says which of them
    serves (--service-images lets the old ones go). Everything else that this
    Dagster instance once recorded goes: content from the DVC remote and the
    local cache, images from their registry, artifacts of MLflow runs (not the
    runs). Records stay, so that trace answers as before, and says what was
    collected.
    """
    from ml_assets.retention.garbage_collector import GarbageCollector, Scope
    from ml_assets.retention.policy import Policy
    from ml_assets.target import Target

    unknown = [name for name in only or [] if name not in set(Scope)]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(Scope)}", param_hint="--only")
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
        raise RetentionError("nobody is there to confirm that this is to be deleted", next_step="give --yes")
    typer.confirm(f"Delete {_bytes(plan.size)} for ever?", abort=True, err=True)


def _warn_of(plan: "Plan") -> None:
    for version in plan.data.incomplete[:_SHOWN]:
        warn(f"{version} is to be kept, and the remote has lost some of it")
    if plan.data.orphans and not plan.orphans_go:
        size = _bytes(sum(plan.data.orphans.values()))
        warn(
            f"{len(plan.data.orphans)} objects ({size}) were never recorded here and stay: of others who share the"
            " remote, of failed steps, or of wiped assets (--orphans deletes them)"
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
    lines.append(f"to collect: {_bytes(plan.size)}" if plan.size else "there is nothing to collect")
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
    }


def _bytes(size: int) -> str:
    return f"{size:,} bytes"

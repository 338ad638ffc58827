"""``ml-assets data verify``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ml_assets.console import Json, examples, say, warn
from ml_assets.resources.errors import RemoteUnreachable

if TYPE_CHECKING:
    from ml_assets.resources.dvc.store import DvcStore
    from ml_assets.verification.content import Place, Problem, Verified

__all__ = ["verification_commands"]

_SHOWN = 50

verification_commands = typer.Typer()


@verification_commands.command(
    "verify",
    epilog=examples(
        "ml-assets data verify",
        "ml-assets data verify flights@2013-01-01 --remote --cache",
        "ml-assets data verify --backup /mnt/backup --json",
    ),
)
def _verify(
    reference: Annotated[
        str | None,
        typer.Argument(metavar="[ASSET[@VERSION]]", help="Content to verify. Default: all recorded content."),
    ] = None,
    remote: Annotated[bool, typer.Option("--remote", help="Verify the DVC remote. This is the default.")] = False,
    cache: Annotated[bool, typer.Option("--cache", help="Verify this machine's cache.")] = False,
    backup: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Verify the content of a backup.", file_okay=False, exists=True)
    ] = None,
    as_json: Json = False,
) -> None:
    """Read all recorded content and compare it with its hashes.

    The command names each damaged or missing object, the artifacts that need
    it, and the places that hold an intact copy: the remote, the cache, and
    the backup if its directory is given. The cache may lack objects.

    The exit status is 1 if an object is damaged or missing.
    """
    from ml_assets.fetch import find_artifact
    from ml_assets.resources.identity import Digest
    from ml_assets.target import Target
    from ml_assets.verification.content import recorded_contents, verify

    chosen = {"remote": remote or not (cache or backup), "cache": cache, "backup": backup is not None}
    with Target.for_command() as target, Console(stderr=True).status("reading the records") as status:
        store = target.store
        if reference is None:
            contents = recorded_contents(target.instance)
        else:
            found = find_artifact(target.instance, reference)
            contents = {Digest.parse(found.stored().version).value: [str(found.artifact)]}
            store = found.store(store)
        places = _places(store, backup, needs_remote=chosen["remote"])
        results = []
        for name in [name for name in places if chosen[name]]:
            others = [place for other, place in places.items() if other != name]

            def progress(done: int, whole: int, place: str = places[name].name) -> None:
                status.update(escape(f"{place}: {done:,} of {whole:,} objects"))

            results.append(verify(contents, places[name], others, is_partial=name == "cache", progress=progress))
    say(as_json, "\n".join(map(_described, results)), {"places": list(map(_payload, results))})
    if any(each.problems or each.unlisted for each in results):
        raise typer.Exit(1)


def _places(store: "DvcStore", backup: Path | None, *, needs_remote: bool) -> dict[str, "Place"]:
    from ml_assets.verification.content import FolderPlace

    places: dict[str, Place] = {}
    try:
        places["remote"] = store.opened()
    except RemoteUnreachable as error:
        if needs_remote:
            raise
        warn(f"the remote is not searched for intact copies. {error}")
    places["cache"] = FolderPlace(f"cache {store.cache}", Path(store.cache))
    if backup is not None:
        places["backup"] = FolderPlace(f"backup {backup}", backup / "content")
    return places


def _described(found: "Verified") -> str:
    head = f"{found.place}: {found.objects:,} objects of {found.contents:,} contents verified"
    lines = [f"{head}, {len(found.problems):,} damaged or missing" if found.problems else f"{head}, all intact"]
    lines += [_line(problem) for problem in found.problems[:_SHOWN]]
    if len(found.problems) > _SHOWN:
        lines.append(f"  … and {len(found.problems) - _SHOWN} more (--json lists all)")
    lines += [f"  the files of {value} are unknown, because no intact listing was found" for value in found.unlisted]
    return "\n".join(lines)


def _line(problem: "Problem") -> str:
    sources = ", ".join(problem.repairable_from)
    remedy = f"intact in the {sources}" if sources else "no intact copy was found: materialize the asset again"
    return f"  {problem.condition.value} {problem.value} of {problem.of[-1]}: {remedy}"


def _payload(found: "Verified") -> dict[str, Any]:
    problems = [
        {
            "object": each.value,
            "condition": each.condition.value,
            "of": list(each.of),
            "repairable_from": list(each.repairable_from),
        }
        for each in found.problems
    ]
    return {
        "place": found.place,
        "contents": found.contents,
        "objects": found.objects,
        "problems": problems,
        "unlisted": list(found.unlisted),
    }

"""``ml-assets doctor``."""

import sys
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.markup import escape
from rich.text import Text

from ml_assets.console import Json, examples, say
from ml_assets.doctor.runner import Finding, Severity

__all__ = ["doctor_commands"]

_SECONDS = 10.0
_STYLES = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.FAULT: "bold red"}

doctor_commands = typer.Typer()


@doctor_commands.command(
    "doctor",
    epilog=examples(
        "ml-assets doctor",
        "ML_ASSETS_TARGET=kubernetes ml-assets doctor --seconds 30",
        "ml-assets doctor --json",
    ),
)
def _doctor(
    seconds: Annotated[float, typer.Option(min=0.1, metavar="S", help="Seconds to wait for each server.")] = _SECONDS,
    as_json: Json = False,
) -> None:
    """Check the target that ML_ASSETS_TARGET names, and show how to fix each fault.

    The command checks the settings, packages, Dagster's database, the content
    store (it writes, reads and deletes a small file), MLflow, the registry
    (it starts an upload and cancels it), and where steps run: GPUs and their
    driver, the Docker engine, or the cluster with your rights, the nodes for
    each pool, and its clock.

    The exit status is 1 if there is a fault.
    """
    from ml_assets.doctor.checks import checks_of
    from ml_assets.doctor.runner import run_checks
    from ml_assets.resources.errors import SettingsError
    from ml_assets.target import Target

    name = "?"
    try:
        target = Target.for_command()
        name = target.settings.target
        with Console(stderr=True).status("checking") as status:
            findings = run_checks(checks_of(target), seconds, lambda check: status.update(escape(f"checked: {check}")))
    except SettingsError as error:
        findings = [Finding(Severity.FAULT, error.what, error.next_step, "settings")]
    else:
        findings.insert(
            0, Finding(Severity.OK, f"settings of target {name} ({target.settings.root})", check="settings")
        )
    say(as_json, Group(*map(_line, findings)), {"target": name, "findings": list(map(_plain, findings))})
    if any(each.severity is Severity.FAULT for each in findings):
        # A check that hangs may hold a lock that the interpreter's end would wait for.
        sys.stdout.flush()
        raise typer.Exit(1)


def _line(finding: Finding) -> Text:
    text = Text(f"{finding.severity:<8}", style=_STYLES[finding.severity])
    text.append(f"{finding.check}: {finding.what}", style="not bold default")
    if finding.next_step:
        text.append(f". Next: {finding.next_step}", style="not bold default")
    return text


def _plain(finding: Finding) -> dict[str, str | None]:
    return {
        "check": finding.check,
        "verdict": finding.severity.value,
        "what": finding.what,
        "next_step": finding.next_step,
    }

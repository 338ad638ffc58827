"""Run the checks and tests of ``slices.toml`` within a fixed time, on any machine."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from slices.plan import Limits, faults
from slices.report import lines
from slices.running import Clock, Runner
from slices.table import Table, load_table
from slices.times import rewrite

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "ci"
COMMITS = 50
"""Number of commits whose changes decide which slices run first, because it is unknown here which commits are new."""


def main(arguments: Sequence[str]) -> int:
    """Run everything and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--started", type=float, help="start of the run, in seconds since the epoch")
    parser.add_argument("--times", nargs="*", metavar="REPORT", type=Path, help="only update slices.toml")
    given = parser.parse_args(arguments)
    if given.times is not None:
        print(f"Updated: {', '.join(rewrite(given.times)) or 'nothing, because no report names a test'}.")
        return 0
    clock = Clock(given.started)
    limits = Limits.of(float(os.environ.get("ML_ASSETS_CI_DEADLINE") or Limits.deadline))
    heed_signals()
    os.chdir(ROOT)
    table = _possible(load_table())
    outcomes = Runner(table, FOLDER, limits, clock).run(changed_paths(), turn())
    for line in lines(outcomes, clock(), table.goal):
        print(line, flush=True)
    return 1 if faults(outcomes) else 0


def heed_signals() -> None:
    """Make signals that end this program also end the running part.

    A shell starts background jobs with SIGINT ignored. Parts would inherit that and could not be interrupted.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def _possible(table: Table) -> Table:
    """Return the table, without the cluster part if KUBECONFIG names a cluster."""
    if os.environ.get("KUBECONFIG"):
        return replace(table, mandatory=tuple(each for each in table.mandatory if each.name != "cluster"))
    return table


def changed_paths() -> list[list[str]]:
    """Return the changed paths of each of the last commits, the newest first; nothing without a repository."""
    logged = _git("log", f"-{COMMITS}", "--name-only", "--no-renames", "--format=%x00")
    return [commit.split("\n") for commit in logged.split("\0")[1:]]


def turn() -> int:
    """Return the number of commits; in a shallow repository, a number derived from the commit's hash."""
    if _git("rev-parse", "--is-shallow-repository").strip() == "false":
        return int(_git("rev-list", "--count", "HEAD") or 0)
    return int(_git("rev-parse", "HEAD") or "0", 16)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

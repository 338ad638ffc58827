"""Compare loading the code location with the minimal imports of a code location: ``python -m tests.bench.loading``."""

import json
import os
import statistics
import subprocess
import sys

from tests.bench.report import Measurement, write

ROUNDS = 9
_REPORT = """
import json, resource
print(json.dumps([time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
_START = "import time; started = time.perf_counter()\n"
OURS = _START + "from ml_assets.definitions import defs; defs().get_repository_def()" + _REPORT
THEIRS = _START + "import dagster, pandas" + _REPORT


def main() -> None:
    """Load both in turn, each time in a new process, and report the medians."""
    runs: dict[str, list[list[float]]] = {OURS: [], THEIRS: []}
    for _ in range(ROUNDS + 1):
        for script, figures in runs.items():
            figures.append(_run(script))
    ours, theirs = ([statistics.median(column) for column in zip(*runs[name][1:], strict=True)] for name in runs)
    write(
        "loading",
        [
            Measurement("load the code location, beside import dagster, pandas", ours[0], theirs[0], "s"),
            Measurement("its memory", ours[1], theirs[1], "MB"),
        ],
    )


def _run(script: str) -> list[float]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ML_ASSETS")}
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], check=True, capture_output=True, text=True, env=environment
    )
    figures: list[float] = json.loads(answer.stdout)
    return figures


if __name__ == "__main__":
    main()

"""Measure ``make demo``, after installation, against its promised time: ``python -m tests.bench.demo``."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.report import Measurement, write

MONTHS = 3
PROMISED_SECONDS = 90.0


def main() -> None:
    """Run the demo for three months into an empty directory."""
    with tempfile.TemporaryDirectory() as folder:
        place = {
            "ML_ASSETS__HOME": f"{folder}/dagster",
            "ML_ASSETS__DVC__REMOTE": f"{folder}/remote",
            "ML_ASSETS__DVC__CACHE": f"{folder}/cache",
            "ML_ASSETS__MLFLOW__TRACKING_URI": f"sqlite:///{folder}/mlflow/mlflow.db",
            "ML_ASSETS__MLFLOW__ARTIFACT_LOCATION": f"{folder}/mlflow/artifacts",
            "DAGSTER_HOME": f"{folder}/dagster",
        }
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "ml_assets.flight_delays.demo", "--months", str(MONTHS)],
            check=True,
            env={**os.environ, **place},
            cwd=Path(__file__).resolve().parents[2],
            stdout=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - started
    write("demo", [Measurement(f"make demo, {MONTHS} months; theirs is the promise", seconds, PROMISED_SECONDS, "s")])


if __name__ == "__main__":
    main()

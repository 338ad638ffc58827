"""Compare the installed wheel with ``dagster mlflow dvc`` installed by hand: ``python -m tests.bench.install``.

Both use plain pip, without a lock, into new environments, and take turns. The first round fills pip's cache.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.report import Measurement, write

ROOT = Path(__file__).parents[2]
ROUNDS = 1
MOST = 1.2
BY_HAND = ("dagster", "mlflow", "dvc")


def main() -> None:
    """Install both sides in turn and report the medians of packages, size and time."""
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
        subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        rounds = [
            (_install(Path(folder) / "ours", str(wheel)), _install(Path(folder) / "theirs", *BY_HAND))
            for _ in range(ROUNDS + 1)
        ][1:]
    names = (("packages", ""), ("size", "MB"), ("time", "s"))
    measured = [
        Measurement.of_medians(name, [(ours[place], theirs[place]) for ours, theirs in rounds], unit)
        for place, (name, unit) in enumerate(names)
    ]
    write(
        "install",
        [
            Measurement(each.name, each.ours, each.theirs, each.unit, at_most=round(MOST * each.theirs, 1))
            for each in measured
        ],
    )


def _install(environment: Path, *requirements: str) -> tuple[int, float, float]:
    """Return the number of packages, their size in MB, and the seconds of ``pip install``."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "--quiet", "--quiet", "--disable-pip-version-check"]
    started = time.perf_counter()
    subprocess.run([*pip, "install", *requirements], check=True)
    seconds = time.perf_counter() - started
    subprocess.run([*pip, "check"], check=True)
    packages = sum(1 for _ in environment.glob("lib/python*/site-packages/*.dist-info"))
    size = sum(file.lstat().st_blocks for file in environment.rglob("*")) * 512 / 1e6
    return packages, size, seconds


if __name__ == "__main__":
    main()

"""Data versions depend on the data alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROCESSES = [
    {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"},
    {"PYTHONHASHSEED": "1", "TZ": "Asia/Kolkata", "LC_ALL": "C", "OMP_NUM_THREADS": "2"},
    {"PYTHONHASHSEED": "2", "TZ": "Asia/Kolkata", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"},
    {"PYTHONHASHSEED": "3", "TZ": "UTC", "LC_ALL": "C", "OMP_NUM_THREADS": "2"},
]


def test_versions_are_the_same_for_every_hash_seed_time_zone_locale_and_number_of_threads(tmp_path: Path) -> None:
    versions = []
    for number, variables in enumerate(PROCESSES):
        place = tmp_path / str(number)
        place.mkdir()
        environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.deterministic", str(place), *(["models"] if number < 2 else [])]
        done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        versions.append(json.loads(done.stdout.splitlines()[-1]))
    assert versions[1] == versions[0]
    for other in versions[2:]:
        assert len(other) == 19
        assert other.items() <= versions[0].items()

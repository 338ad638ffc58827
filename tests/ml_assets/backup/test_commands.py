"""``ml-assets backup`` on a target with databases in files."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[3]


def test_target_without_a_database_server_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "ml_assets.cli", "backup", str(tmp_path / "backup")],
        env={"PATH": "/usr/bin:/bin", "DAGSTER_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "target local stores its databases in files" in done.stderr
    assert f"Next: stop Dagster, then copy {tmp_path / 'home'}" in " ".join(done.stderr.split())
    assert not (tmp_path / "backup").exists()

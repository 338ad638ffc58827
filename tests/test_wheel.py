"""The contents of the wheel. `tests/projects` installs it in the environments of other projects."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.projects.environment import ROOT, built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


def test_wheel_holds_one_package_with_what_the_link_leads_to(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"ml_assets"}
    assert {"ml_assets/py.typed", "ml_assets/resources/settings.py", "ml_assets/lineage/page/page.js"} <= set(names)
    tracked = subprocess.run(
        ["git", "ls-files", "ml_assets", "resources"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in set(tracked.stdout.split()) - {"ml_assets/resources"}:
        assert (f"ml_assets/{name}" if name.startswith("resources/") else name) in names


def test_wheel_is_the_same_by_way_of_the_source_distribution(wheel: Path, tmp_path: Path) -> None:
    for folder in ("sdist", "unpacked", "wheel"):
        (tmp_path / folder).mkdir()
    with tarfile.open(built(ROOT, "sdist", tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    again = built(source, "wheel", tmp_path / "wheel")
    assert _contents(again) == _contents(wheel)


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_other_name_is_banned() -> None:
    for line in ("import resources", "from resources.errors import InputError"):
        command = [
            Path(sys.prefix) / "bin" / "ruff",
            "check",
            "--stdin-filename",
            "ml_assets/x.py",
            "--select",
            "TID251",
            "-",
        ]
        done = subprocess.run(command, cwd=ROOT, input=f"{line}\n", capture_output=True, text=True, check=False)
        assert "Import ml_assets.resources, because" in done.stdout

"""Run the tests that depend most on Dagster with its newest release, even if ``pyproject.toml`` excludes it.

The program reports failures and succeeds, because a release that breaks something is not a fault of the commit. With
``--strict`` it fails. The environment is ``build/newest``: the locked one, with Dagster's packages replaced.
"""

import argparse
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "newest"
PYTHON = FOLDER / "bin" / "python"
REPORT = ROOT / "build" / "newest.xml"
PACKAGES = (
    "dagster",
    "dagster-aws",
    "dagster-docker",
    "dagster-k8s",
    "dagster-postgres",
    "dagster-webserver",
)
TESTS = (
    "tests/ml_assets/test_dagster_internals.py",
    "tests/ml_assets/lineage/index/test_dagster_contract.py",
    "tests/ml_assets/artifacts",
    "tests/ml_assets/executors",
)


def main() -> int:
    """Install, test, print what failed, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strict", action="store_true", help="fail if a test fails")
    parser.add_argument("--uv", default="uv", help="path of uv")
    parser.add_argument("requirements", type=Path, help="the locked requirements, without hashes")
    given = parser.parse_args()
    locked = given.requirements.read_text().splitlines()
    install(given.uv, [line for line in locked if not line.startswith("dagster")])
    versions = {name: version_of(name) for name in PACKAGES}
    REPORT.unlink(missing_ok=True)
    command = [str(PYTHON), "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", f"--junit-xml={REPORT}", *TESTS]
    # Warnings of a newer release are not errors.
    status = subprocess.run([*command, "-W", "default", *_chosen()], cwd=ROOT, check=False).returncode
    print()
    for name, version in versions.items():
        print(name, version, "(locked)" if f"{name}=={version}" in locked else "(newer)")
    if not REPORT.exists():
        print(f"pytest exited with {status} and wrote no report")
        return status
    failed = print_table(REPORT)
    return int(given.strict and (failed > 0 or status != 0))


def install(uv: str, locked: list[str]) -> None:
    """Create the environment: the locked packages, then Dagster's newest ones with their newer dependencies."""
    FOLDER.parent.mkdir(exist_ok=True)
    requirements = FOLDER.parent / "newest.txt"
    requirements.write_text("\n".join(locked) + "\n")
    # Each of Dagster's other packages requires the Dagster of its own release, and some indexes get them days later.
    overrides = FOLDER.parent / "newest-overrides.txt"
    overrides.write_text("dagster\n")
    newest = ("--overrides", str(overrides), *(f"--upgrade-package={name}" for name in PACKAGES))
    environment = {**os.environ, "VIRTUAL_ENV": str(FOLDER)}
    for arguments in (
        ("venv", "--quiet", "--clear", "--python", sys.executable, str(FOLDER)),
        ("pip", "install", "--quiet", "--no-deps", "--requirements", str(requirements)),
        ("pip", "install", "--quiet", *newest, *PACKAGES),
        ("pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", "."),
    ):
        subprocess.run([uv, *arguments], cwd=ROOT, env=environment, check=True)


def version_of(name: str) -> str:
    """Return the version of a package in the environment."""
    code = f"import importlib.metadata as found; print(found.version({name!r}))"
    return subprocess.run([PYTHON, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def print_table(report: Path) -> int:
    """Print passed and failed tests by file, then each failure in one line; return the number of failures."""
    cases = ElementTree.parse(report).findall(".//testcase")  # noqa: S314 - pytest wrote it
    failures = {}
    for case in cases:
        fault = case.find("failure") if case.find("failure") is not None else case.find("error")
        if fault is not None:
            failures[case] = (fault.get("message") or "").strip().partition("\n")[0]
    every = Counter(case.get("classname") or "(collection)" for case in cases)
    bad = Counter(case.get("classname") or "(collection)" for case in failures)
    width = max(map(len, every), default=0)
    print(f"\n{'tests'.ljust(width)}  passed  failed")
    for name, count in sorted(every.items()):
        print(f"{name.ljust(width)}  {count - bad[name]:6}  {bad[name]:6}")
    for case, message in failures.items():
        print(f"failed: {case.get('classname')}::{case.get('name')}: {message[:160]}")
    print(f"{len(cases) - len(failures)} of {len(cases)} passed")
    return len(failures)


def _chosen() -> list[str]:
    return os.environ.get("PYTEST_OPTIONS", "").split()


if __name__ == "__main__":
    sys.exit(main())

"""The server of `ProcessEngine`, which forks its processes from itself, because importing Dagster takes seconds."""

import json
import os
import runpy
import sys
import time
from pathlib import Path

import dagster._cli.api  # noqa: F401  # imported for the forked processes, like the next one

import tests.ml_assets.executors.run_worker  # noqa: F401

_POLL_SECONDS = 0.02


def serve(folder: Path) -> Path | None:
    """Start the requested processes and record how they end; in each process, return the folder of its request."""
    running: dict[int, Path] = {}
    while True:
        for request in folder.glob("[!.]*/request.json"):
            place = request.parent
            if not (place / "pid").exists() and json.loads(request.read_text())["fits"]:
                (place / "pid").touch()
                pid = os.fork()
                if pid == 0:
                    return place
                running[pid] = place
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                _note(running.pop(pid), os.waitstatus_to_exitcode(status))
        time.sleep(_POLL_SECONDS)


def _note(place: Path, code: int) -> None:
    try:
        (place / "status.new").write_text(str(code if code >= 0 else 128 - code))
        (place / "status.new").rename(place / "status")
    except FileNotFoundError:  # it was removed
        pass


def _become(place: Path) -> None:
    """Turn this process into ``python -m module arguments…``."""
    os.setsid()
    log = os.open(place / "log", os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    (place / "pid.new").write_text(str(os.getpid()))
    (place / "pid.new").rename(place / "pid")
    request = json.loads((place / "request.json").read_text())
    os.environ.update(request["variables"])
    program, flag, module, *arguments = request["command"]
    assert (program, flag) == ("python", "-m")
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _become(serve(Path(sys.argv[1])))  # type: ignore[arg-type]

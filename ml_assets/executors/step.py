"""The entry of a step's container: ``python -m ml_assets.executors.step ARGUMENTS PLACEMENT``.

The step runs in a child process. This process only waits. If the child is killed, crashes or runs out of memory, this
process prints and uploads the last lines of the child's log. It forks before any other import, so it costs a few
megabytes and no time.
"""

import gc
import os
import signal
import sys
import time
from collections.abc import Sequence

__all__ = ["main"]

_SUBREAPER = 36
"""``PR_SET_CHILD_SUBREAPER`` of prctl(2): orphans of the child become children of this process, as for process 1."""
_LAST_LINES_SECONDS = 3.0


def main(arguments: Sequence[str]) -> None:
    """Run the step that the arguments describe, and exit with its status; 128 + N if signal N ended it."""
    orderly, said = os.pipe()
    _adopt_orphans()
    child = os.fork()
    if child == 0:
        os.close(orderly)
        _run(arguments, said)
        return
    os.close(said)
    status = _wait(child)
    if not _was_orderly(orderly):
        _rescue_log(arguments)
    sys.exit(status)


def _run(arguments: Sequence[str], said: int) -> None:
    gc.disable()  # Imports leave no garbage, but the collector would take a tenth of their time.
    from ml_assets.executors.step_process import run

    try:
        run(arguments)
    finally:
        os.write(said, b".")


def _wait(child: int) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: os.kill(child, received))
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _was_orderly(end: int) -> bool:
    """Return True if the child reported an orderly end. Do not wait: forks of the child may keep the pipe open."""
    os.set_blocking(end, False)
    try:
        return bool(os.read(end, 1))
    except BlockingIOError:
        return False


def _rescue_log(arguments: Sequence[str]) -> None:
    """Let the child's helper processes end, then print and upload the end of its log."""
    patience = time.monotonic() + _LAST_LINES_SECONDS
    while time.monotonic() < patience:
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        time.sleep(0.05)
    try:
        from ml_assets.executors.step_process import rescue_log

        rescue_log(arguments)
    except Exception as error:  # Ignore any error: only the exit status of the step matters.
        print(f"cannot recover the last lines of the log: {error}", file=sys.stderr, flush=True)


def _adopt_orphans() -> None:
    if os.getpid() != 1 and sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1:])

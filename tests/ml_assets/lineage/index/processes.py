"""Processes that share an index."""

import os
import traceback
from collections.abc import Callable

__all__ = ["in_processes"]


def in_processes(*tasks: Callable[[], object]) -> list[int]:
    """Run tasks concurrently, each in a process, and return the exit status of each process."""
    return [os.waitpid(pid, 0)[1] for pid in [_in_process(task) for task in tasks]]


def _in_process(task: Callable[[], object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        task()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)

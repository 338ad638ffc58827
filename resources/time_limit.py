"""A time limit for calls into libraries that have none of their own."""

import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["within"]

_Result = TypeVar("_Result")


def within(seconds: float, ask: Callable[[], _Result]) -> _Result:
    """Return what a call returns, or give up waiting for it.

    The call runs in a thread of its own, which is left behind when the time is over: libraries that retry a dead
    address for minutes cannot be stopped from outside.

    Args:
        seconds: how long to wait.
        ask: the call.

    Raises:
        TimeoutError: the call takes longer.
        Exception: whatever the call raises.
    """
    results: list[_Result] = []
    failures: list[Exception] = []

    def call() -> None:
        try:
            results.append(ask())
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:.0f} seconds")
    return results[0]

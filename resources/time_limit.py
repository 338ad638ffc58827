"""A time limit for calls into libraries that have none."""

import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["within"]

_Result = TypeVar("_Result")


def within(seconds: float, ask: Callable[[], _Result]) -> _Result:
    """Return a call's result, or raise `TimeoutError` after the time limit.

    The call runs in a thread of its own, which is abandoned after the time limit: libraries that retry an
    unreachable address for minutes cannot be stopped from outside.

    Args:
        seconds: the time limit.
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

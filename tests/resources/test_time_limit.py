import threading

import pytest

from ml_assets.resources.time_limit import within


def test_result_in_time_is_returned() -> None:
    assert within(60, lambda: "answer") == "answer"


def test_error_of_the_call_is_raised() -> None:
    def fail() -> None:
        raise KeyError("name")

    with pytest.raises(KeyError, match="name"):
        within(60, fail)


def test_call_that_takes_longer_is_given_up() -> None:
    ended = threading.Event()
    try:
        with pytest.raises(TimeoutError, match="no answer within 0 seconds"):
            within(0.01, ended.wait)
    finally:
        ended.set()

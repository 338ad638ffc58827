"""Measure what the observation of a step's code and files costs, on three workloads.

Each round runs a workload observed and unobserved, in turn, in forked processes. So every observed run pays all of the
observation, as the only step of a process does, and an unobserved run pays nothing of it. CPU time counts, and the best
round of each side.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor

import ml_assets.definitions  # noqa: F401 - a step has its code location loaded
from ml_assets.code_version.observed import ObservedCall
from ml_assets.code_version.version import code_of
from tests.bench.report import Measurement, write

_ROUNDS = 3
_UNOBSERVED_SHARE = 0.98
"""The promise: observation takes less than 2 % of the compute."""
_LONGEST_START = 0.05
"""The promise for a step that computes nothing, in seconds."""


def in_pandas() -> float:
    """Group, join and sort three million rows."""
    numbers = np.random.default_rng(1)
    frame = pd.DataFrame({"key": numbers.integers(0, 5_000, 3_000_000), "value": numbers.normal(size=3_000_000)})
    means = frame.groupby("key", as_index=False)["value"].agg(["mean", "std"])
    joined = frame.merge(means, on="key").sort_values(["key", "value"])
    return float(joined["value"].rolling(100).mean().sum())


def in_scikit_learn() -> float:
    """Train a forest."""
    numbers = np.random.default_rng(1)
    features = numbers.normal(size=(8_000, 20))
    forest = RandomForestRegressor(n_estimators=20, random_state=1, n_jobs=1).fit(features, features[:, 0] ** 2)
    return float(forest.predict(features).sum())


def in_python() -> int:
    """Call 32 million small functions of the project."""
    total = 0
    for number in range(8_000_000):
        total += _Counter(number).step()
    return total


def in_nothing() -> None:
    """Return at once."""


class _Counter:
    def __init__(self, value: int) -> None:
        self.value = value

    def step(self) -> int:
        return _even(self.value) + _odd(self.value)


def _even(value: int) -> int:
    return value & 1


def _odd(value: int) -> int:
    return ~value & 1


def main(rounds: int = _ROUNDS) -> None:
    """Measure, print and write ``build/bench/truth.json``."""
    measurements = []
    for workload in (in_pandas, in_scikit_learn, in_python, in_nothing):
        pairs = [(_seconds(workload, True), _seconds(workload, False)) for _ in range(rounds)]
        ours, theirs = (min(side) for side in zip(*pairs, strict=True))
        name = f"compute {workload.__name__.replace('_', ' ')}, observed (not observed)"
        if workload is in_nothing:
            measurements.append(Measurement(name, ours, theirs, "s", at_most=_LONGEST_START))
        else:
            measurements.append(Measurement(name, ours, theirs, "s", times=_UNOBSERVED_SHARE))
    write("truth", measurements)


def _seconds(workload: Callable[[], object], is_observed: bool) -> float:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_run, args=(workload, is_observed, sender))
    process.start()
    seconds: float = receiver.recv()
    process.join()
    return seconds


def _run(workload: Callable[[], object], is_observed: bool, sender: Connection) -> None:
    code = code_of(workload)
    begun = time.process_time()
    if is_observed:
        call = ObservedCall(workload, code)
        with call.running():
            workload()
        call.observed()
    else:
        workload()
    sender.send(time.process_time() - begun)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main(*(int(each) for each in sys.argv[1:]))

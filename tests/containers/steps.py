"""A code location whose steps cover the outcomes of containers: success, and every kind of failure."""

import ctypes
import os
import signal
import sys
import time
import urllib.error
import urllib.request

import dagster as dg
import pandas as pd

from ml_assets.containers import runs_in
from ml_assets.datasets import dataset
from ml_assets.features import feature_set
from ml_assets.target import on_target

days = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_date="2026-07-20")
MEBIBYTES = 2**20


def released_key(run_id: str) -> str:
    """Return the key of the object that ends the counting steps of a run."""
    return f"released/{run_id}"


@dataset(pool="cpu", partitions_def=days)
def numbers(context: dg.AssetExecutionContext) -> pd.DataFrame:
    """Return the day's number."""
    print(f"numbers of {context.partition_key} are made")
    print("and something goes wrong a little", file=sys.stderr)
    return pd.DataFrame({"number": [int(context.partition_key[-2:])]})


@feature_set(pool="gpu", partitions_def=days)
def doubled(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return twice the day's number."""
    return numbers * 2


@dg.asset_check(asset=numbers)
def is_positive() -> dg.AssetCheckResult:
    """Pass: a check that runs in its own step."""
    return dg.AssetCheckResult(passed=True)


@runs_in(pool="cpu")
@dg.asset(partitions_def=days)
def daily(context: dg.AssetExecutionContext) -> None:
    """Do nothing but print: a minimal step."""
    print(f"{context.partition_key} is done")


class SleepConfig(dg.Config):
    """The sleeping time, which ends early if the run is released."""

    seconds: float = 30


@runs_in(pool="cpu")
@dg.asset
def sleeper(config: SleepConfig) -> None:
    """Count the seconds; the step can be ended."""
    _count(config.seconds)


@runs_in(pool="gpu-spot")
@dg.asset(retry_policy=dg.RetryPolicy(max_retries=0))
def on_spot(config: SleepConfig) -> None:
    """Count the seconds on nodes that may be preempted."""
    _count(config.seconds)


@runs_in(pool="small")
@dg.asset
def hungry() -> None:
    """Use more memory than the pool's limit, but less than its cap."""
    _eat(350)


@runs_in(pool="small")
@dg.asset(retry_policy=dg.RetryPolicy(max_retries=0))
def insatiable() -> None:
    """Use more memory than the pool's cap."""
    _eat(5000)


@runs_in(pool="cpu")
@dg.asset(retry_policy=dg.RetryPolicy(max_retries=1, delay=1))
def raises_once(context: dg.AssetExecutionContext) -> None:
    """Fail once; the asset's own policy retries it."""
    if context.retry_number == 0:
        raise ValueError("the first attempt fails")


@runs_in(pool="cpu")
@dg.asset(retry_policy=dg.RetryPolicy(max_retries=1, delay=1))
def in_no_image() -> None:
    """Do nothing; the asset's own policy would retry it if it ever ran."""


@runs_in(pool="cpu")
@dg.asset(retry_policy=dg.RetryPolicy(max_retries=1, delay=5))
def slow_after_retry(context: dg.AssetExecutionContext) -> None:
    """Fail, and count the seconds in the retry."""
    if context.retry_number == 0:
        raise ValueError("the first attempt fails")
    _count(900)


@runs_in(pool="cpu")
@dg.asset
def segfaults() -> None:
    """Read address zero."""
    print("about to read address zero", flush=True)
    ctypes.string_at(0)


@runs_in(pool="cpu")
@dg.asset
def exits_silently() -> None:
    """End the process with status 0, without Dagster's final events."""
    print("nobody will hear of me", flush=True)
    os._exit(0)


@runs_in(pool="cpu")
@dg.asset
def exits_with_three() -> None:
    """End the process with status 3."""
    os._exit(3)


@runs_in(pool="brief")
@dg.asset
def too_slow() -> None:
    """Run longer than the pool allows."""
    _count(120)


@runs_in(pool="cpu")
@dg.asset
def deaf() -> None:
    """Ignore requests to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _count(600)


@runs_in(pool="cpu")
@dg.asset
def talkative(config: SleepConfig) -> None:
    """Write more events than a page of the event log holds, then count the seconds."""
    log = dg.get_dagster_logger()
    for number in range(1200):
        log.info(f"line {number}")
    _count(config.seconds)


@runs_in(pool="cpu")
@dg.asset(deps=[sleeper])
def after_sleeper() -> None:
    """Run after the sleeper."""


def _count(seconds: float) -> None:
    for second in range(int(seconds)):
        print(f"second {second} in {os.uname().nodename}", flush=True)
        time.sleep(1)
        if _is_released():
            return


def _is_released() -> bool:
    """Return True if the test has stored `released_key` of this step's run in the bucket to end the step early."""
    key = released_key(dg.AssetExecutionContext.get().run_id)
    address = f"{os.environ['AWS_ENDPOINT_URL']}/{os.environ['DAGSTER_LOGS_BUCKET']}/{key}"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=10):
            return True
    except urllib.error.HTTPError:
        return False


def _eat(mebibytes: int) -> None:
    blocks = []
    for count in range(0, mebibytes, 10):
        blocks.append(b"x" * (10 * MEBIBYTES))
        print(f"{count} MiB", flush=True)


@dg.definitions
def defs() -> dg.Definitions:
    own = dg.Definitions(
        assets=[value for value in globals().values() if isinstance(value, dg.AssetsDefinition)],
        jobs=[dg.define_asset_job("partitions", selection=["numbers"])],
    )
    return on_target(own)

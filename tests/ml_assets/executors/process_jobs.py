"""A code location whose steps cover every event of a step's life. It does not use Docker or Kubernetes."""

import atexit
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import dagster as dg

from ml_assets.containers import runs_in
from ml_assets.executors.definition import container_executor
from ml_assets.executors.failures import FailureCause
from ml_assets.executors.launches import container_name
from ml_assets.executors.placement import PlacementRules
from ml_assets.placement import Placement, current_placement
from ml_assets.resources.pools import Override, Pool
from ml_assets.resources.sections import ContainerSettings
from tests.ml_assets.executors.process_engine import SEEN, delete_container, end_container

IMAGE = "registry.example/train@sha256:" + "a" * 64
MOVED, FORBIDDEN = IMAGE.replace("train", "moved"), IMAGE.replace("train", "forbidden")
ENGINE = "engine"
"""Name of the engine's folder in the Dagster instance's folder."""
TAG = "queue"
_DEADLINE_SECONDS = 480

POOLS = {
    "cpu": Pool(),
    "big": Pool(cpus=2, memory="4Gi"),
    "growing": Pool(memory="1Gi", memory_cap="1536Mi"),
    "spot": Pool(interruptions=1, fallback="cpu"),
    "crowded": Pool(node_selector={"none": "has"}, pending_seconds=1, fallback="cpu"),
    "hopeless": Pool(node_selector={"none": "has"}, pending_seconds=1),
    "hurried": Pool(run_seconds=1),
    "narrow": Pool(concurrency=1),
    "gpu": Pool(accelerators=1),
    "unchecked": Pool(accelerators=1, check_accelerators=False),
}
EXECUTOR = container_executor(
    PlacementRules(
        ContainerSettings(executor="docker", image=IMAGE, pool="cpu"),
        POOLS,
        {
            "wrong_image": Override(image=MOVED),
            "short_in_wrong_image": Override(image=MOVED),
            "refused": Override(image=FORBIDDEN),
        },
    ),
    target="local",
    pass_variables={},
    registry=lambda: None,  # type: ignore[arg-type, return-value]  # the engine's own image check is used
)


# --- what happens to steps ---


@dg.op
def succeeds(context: dg.OpExecutionContext) -> None:
    context.log.info(f"placed: {here().model_dump_json()}")


@dg.op(config_schema={"password": dg.StringSource})
def connects() -> None: ...


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1), tags={TAG: "one"})
def fails_once(context: dg.OpExecutionContext) -> None:
    # An attempt that ends between two polls of the executor has no launch times.
    wait_for(engine_folder(context) / own_name(context) / SEEN)
    if context.retry_number == 0:
        raise ValueError("the first attempt always fails")


@dg.op(tags={TAG: "one"})
def delays_itself(context: dg.OpExecutionContext) -> None:
    if context.retry_number == 0:
        raise dg.RetryRequested(max_retries=1, seconds_to_wait=0.5)


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def crashes() -> None:
    print("about to crash", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


@dg.op(ins={"upstream": dg.In(dg.Nothing)})
def after_crash() -> None: ...


@dg.op
def says_nothing() -> None:
    os._exit(0)


@runs_in(pool="growing")
@dg.op
def eats_all_memory() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@runs_in(pool="spot")
@dg.op
def preempted(context: dg.OpExecutionContext) -> int:
    if here().pool == "spot":
        end_container(engine_folder(context), own_name(context), FailureCause.PREEMPTED)
        wait_for_ever()
    return context.retry_number


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def asked_to_end(context: dg.OpExecutionContext) -> None:
    if here().number == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for_ever()


@runs_in(pool="crowded")
@dg.op
def unschedulable() -> None: ...


@runs_in(pool="hopeless")
@dg.op
def never_scheduled() -> None: ...


@dg.op
def wrong_image() -> None:
    wait_for_ever()


@dg.op
def short_in_wrong_image() -> int:
    return 1


@dg.op
def after_wrong_image(number: int) -> None: ...


@dg.op
def refused() -> None: ...


@runs_in(pool="nowhere")
@dg.op
def misplaced() -> None: ...


@runs_in(pool="hurried")
@dg.op
def takes_too_long() -> None:
    wait_for_ever()


@runs_in(pool="gpu")
@dg.op
def without_accelerator() -> None:
    raise AssertionError("user code must not run")


@runs_in(pool="unchecked")
@dg.op
def unchecked_accelerator() -> None: ...


@runs_in(pool="narrow")
@dg.op
def narrow_one() -> None: ...


@runs_in(pool="narrow")
@dg.op
def narrow_two() -> None: ...


@dg.op(out={"never": dg.Out(int, is_required=False)})
def yields_nothing() -> Iterator[dg.Output[int]]:
    yield from ()


@dg.op
def skipped(never: int) -> int:
    return never


@dg.op
def skipped_too(never: int) -> int:
    return never


@dg.op(out=dg.DynamicOut(int))
def splits(context: dg.OpExecutionContext) -> Iterator[dg.DynamicOutput[int]]:
    yield dg.DynamicOutput(1, "a")
    if here().number == 0:
        delete_container(engine_folder(context), own_name(context))
    yield dg.DynamicOutput(2, "b")


@dg.op
def doubles(number: int) -> int:
    return 2 * number


@dg.op
def adds(context: dg.OpExecutionContext, numbers: list[int]) -> None:
    context.log.info(f"sum: {sum(numbers)}")


@dg.op
def logs_much(context: dg.OpExecutionContext) -> None:
    for number in range(1000):
        context.log.debug(f"line {number}")


@runs_in(pool="narrow")
@dg.op
def holds_a_slot(context: dg.OpExecutionContext) -> None:
    wait_for(home(context) / "go")


@runs_in(pool="narrow")
@dg.op
def wants_that_slot() -> None: ...


@dg.op
def waits_in_its_second_attempt(context: dg.OpExecutionContext) -> None:
    if context.retry_number == 0:
        raise dg.RetryRequested(max_retries=1, seconds_to_wait=0.5)
    wait_for(home(context) / "go")


@runs_in(pool="narrow")
@dg.op(tags={"dagster/priority": "1"})
def lingers(context: dg.OpExecutionContext) -> None:
    atexit.register(wait_for, home(context) / "leave")


@dg.op
def waits(context: dg.OpExecutionContext) -> None:
    (home(context) / "waits").touch()
    wait_for_ever()


@dg.resource
def broken(context: dg.InitResourceContext) -> NoReturn:
    raise ValueError("this resource is broken")


@dg.op(required_resource_keys={"broken"})
def needs_what_is_broken() -> None: ...


# --- jobs ---


@dg.job(executor_def=EXECUTOR, resource_defs={"broken": broken})
def everything() -> None:
    succeeds()
    fails_once()
    delays_itself()
    after_crash(crashes())
    says_nothing()
    eats_all_memory()
    preempted()
    asked_to_end()
    unschedulable()
    never_scheduled()
    wrong_image()
    after_wrong_image(short_in_wrong_image())
    refused()
    misplaced()
    takes_too_long()
    without_accelerator()
    unchecked_accelerator()
    narrow_one()
    narrow_two()
    never = yields_nothing()
    skipped(never)
    skipped_too(never)
    needs_what_is_broken()


@dg.job(executor_def=EXECUTOR)
def with_password() -> None:
    connects()


@dg.job(executor_def=EXECUTOR)
def split() -> None:
    adds(splits().map(doubles).collect())


@dg.job(executor_def=EXECUTOR)
def resumed() -> None:
    logs_much()
    holds_a_slot()
    wants_that_slot()
    waits_in_its_second_attempt()
    never = yields_nothing()
    skipped(never)
    skipped_too(never)


@dg.job(executor_def=EXECUTOR)
def lingering() -> None:
    lingers()
    wants_that_slot()


@dg.job(executor_def=EXECUTOR)
def waiting() -> None:
    waits()


@dg.asset(key_prefix="reports", code_version="7")
def model() -> None: ...


def once() -> dg.JobDefinition:
    """Return a job with one asset."""
    job = dg.define_asset_job("once", executor_def=EXECUTOR)
    return dg.Definitions(assets=[model], jobs=[job]).resolve_job_def("once")


@runs_in(pool="narrow")
@dg.asset
def outliving(context: dg.AssetExecutionContext) -> None:
    op = context.op_execution_context
    wait_for(home(op) / f"go-{context.run_id}")
    context.log.info("going on")


@runs_in(pool="narrow")
@dg.asset(deps=[outliving])
def afterwards() -> None: ...


def outage() -> dg.JobDefinition:
    """Return a job with two consecutive assets, of which the first runs until a test ends it."""
    job = dg.define_asset_job("outage", executor_def=EXECUTOR)
    return dg.Definitions(assets=[outliving, afterwards], jobs=[job]).resolve_job_def("outage")


# --- in steps ---


def here() -> Placement:
    """Return the placement of this step."""
    placement = current_placement()
    assert placement is not None
    return placement


def own_name(context: dg.OpExecutionContext) -> str:
    placement = here()
    return container_name(context.run_id, placement.step, placement.number)


def engine_folder(context: dg.OpExecutionContext) -> Path:
    return home(context) / ENGINE


def home(context: dg.OpExecutionContext) -> Path:
    """Return the folder of the Dagster instance."""
    return Path(context.instance.root_directory)


def wait_for(file: Path) -> None:
    """Wait until a test has created a file."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not file.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody made {file}")
        time.sleep(0.02)


def wait_for_ever() -> NoReturn:
    time.sleep(_DEADLINE_SECONDS)
    raise TimeoutError("nobody ended this step")

"""Resource usage of steps, measured in real steps. Container steps are tested in tests/containers."""

import time
from typing import Any

import dagster as dg
import pandas as pd

from ml_assets.datasets import dataset
from ml_assets.features import feature_set
from ml_assets.placement import Placement, placed
from ml_assets.resources.provenance import RECORD_METADATA, ProvenanceRecord, record_of
from ml_assets.resources.usage import Asked, Usage

PLACEMENT = Placement(
    step="fed",
    number=2,
    image="registry.example/train@sha256:" + "a" * 64,
    pool="gpu",
    cpus=2,
    memory="4Gi",
    accelerators=1,
    price_per_hour=36.0,
)
COMPUTE_SECONDS = 0.25


@dataset()
def source() -> pd.DataFrame:
    return pd.DataFrame({"x": [1.0]})


@feature_set()
def fed(source: pd.DataFrame) -> pd.DataFrame:
    time.sleep(COMPUTE_SECONDS)
    return source


def usage_of(result: dg.ExecuteInProcessResult, name: str) -> Usage:
    (event,) = result.asset_materializations_for_node(name)
    found = record_of(event.metadata).usage
    assert found is not None
    return found


def test_time_is_split_and_the_function_has_its_own(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    seconds = usage_of(dg.materialize([source, fed], instance=instance, resources=resources), "fed").seconds
    assert seconds.compute >= COMPUTE_SECONDS
    assert seconds.input > 0
    assert seconds.output > 0


def test_a_process_that_was_there_before_counts_only_what_the_step_added(
    resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    usage = usage_of(dg.materialize([source, fed], instance=instance, resources=resources), "fed")
    assert usage.seconds.importing is None
    assert usage.process_started_at is None
    assert usage.cpu_seconds < time.process_time()
    assert (usage.asked, usage.price_per_hour, usage.cost, usage.launch_number) == (None, None, None, None)


def test_a_process_of_the_steps_own_counts_from_its_start(
    resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    with placed(PLACEMENT):
        result = dg.materialize([source, fed], instance=instance, resources=resources)
    usage = usage_of(result, "fed")
    assert usage.process_started_at is not None
    assert usage.seconds.importing is not None
    assert usage.asked == Asked(cpus=2, memory_bytes=4 * 2**30, accelerators=1)
    assert usage.launch_number == 2
    whole = usage.seconds.importing + usage.seconds.input + usage.seconds.compute + usage.seconds.output
    assert usage.cost == 36.0 * whole / 3600


def test_a_record_from_before_usage_was_measured_is_still_read(
    resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    (event,) = dg.materialize([source], instance=instance, resources=resources).asset_materializations_for_node(
        "source"
    )
    old = dict(event.metadata[RECORD_METADATA].value)
    del old["usage"]
    assert ProvenanceRecord.model_validate(old).usage is None

"""The placement of one launch: its effects, and its use in the step's code."""

import json

from ml_assets.placement import Placement, current_placement, placed
from ml_assets.resources.pools import Pool

GPU = Pool(cpus=4, memory="16Gi", memory_cap="40Gi", accelerators=1, fallback="cpu")
CPU = Pool(memory="2Gi", run_seconds=7200)
FIRST = Placement(
    step="s",
    image="registry.example/ml/old@sha256:" + "c" * 64,
    pool="gpu",
    cpus=4,
    memory="16Gi",
    accelerators=1,
    interruptions=2,
)


def test_memory_doubles_up_to_the_cap() -> None:
    second = FIRST.with_more_memory(GPU)
    assert second is not None
    assert (second.number, second.memory) == (1, "32Gi")
    third = second.with_more_memory(GPU)
    assert third is not None
    assert (third.number, third.memory) == (2, "40Gi")
    assert third.with_more_memory(GPU) is None
    assert FIRST.with_more_memory(CPU) is None


def test_other_pool_gives_its_own_resources_and_forgets_interruptions() -> None:
    other = FIRST.on("cpu", CPU)
    assert (other.number, other.pool, other.memory, other.accelerators, other.interruptions) == (1, "cpu", "2Gi", 0, 0)


def test_placement_survives_json_and_fields_of_later_versions() -> None:
    assert Placement.model_validate(json.loads(FIRST.model_dump_json()) | {"later": 1}) == FIRST


def test_steps_code_knows_its_placement() -> None:
    assert current_placement() is None
    with placed(FIRST):
        assert current_placement() == FIRST
    assert current_placement() is None

"""All steps of a run use the image that was the newest when the run began."""

from collections.abc import Iterator

import dagster as dg
import pytest

from ml_assets.executors.run_images import image_record
from ml_assets.resources.provenance import RECORD_METADATA, ArtifactKind
from tests.resources.test_provenance import RECORD

TRAIN = "images/train"


@dg.op(config_schema=str)
def makes(context: dg.OpExecutionContext) -> None:
    made = {"kind": ArtifactKind.IMAGE, "asset": TRAIN, "made_image": context.op_config}
    record = RECORD.model_copy(update=made).model_dump(mode="json")
    metadata = {RECORD_METADATA: dg.MetadataValue.json(record)}
    context.log_event(dg.AssetMaterialization(TRAIN.split("/"), metadata=metadata))


@dg.job
def making() -> None:
    makes()


@dg.job
def using() -> None: ...


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def make(instance: dg.DagsterInstance, image: str) -> dg.DagsterRun:
    run_config = {"ops": {"makes": {"config": image}}}
    return making.execute_in_process(run_config, instance=instance).dagster_run


def use(instance: dg.DagsterInstance) -> dg.DagsterRun:
    return using.execute_in_process(instance=instance).dagster_run


def image(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    record = image_record(instance, run, TRAIN)
    return record.made_image if record else None


def test_run_keeps_to_what_was_newest_as_it_began(instance: dg.DagsterInstance) -> None:
    make(instance, "oldest")
    make(instance, "old")
    run = use(instance)
    assert image(instance, run) == "old"
    make(instance, "new")
    assert image(instance, run) == "old"
    assert image(instance, use(instance)) == "new"


def test_run_that_makes_the_image_itself_uses_what_it_made(instance: dg.DagsterInstance) -> None:
    make(instance, "old")
    run = make(instance, "own")
    make(instance, "new")
    assert image(instance, run) == "own"


def test_image_that_is_made_for_the_first_time_counts_for_runs_before_it(instance: dg.DagsterInstance) -> None:
    run = use(instance)
    assert image(instance, run) is None
    make(instance, "first")
    assert image(instance, run) == "first"


def test_run_that_nobody_has_begun_gets_the_newest(instance: dg.DagsterInstance) -> None:
    make(instance, "old")
    make(instance, "new")
    assert image(instance, dg.DagsterRun("using")) == "new"

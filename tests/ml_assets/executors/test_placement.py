"""Placement of the steps of real jobs by definitions, settings and the run."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.api import create_execution_plan
from dagster._core.execution.plan.step import UnresolvedMappedExecutionStep

from ml_assets.artifacts.io_manager import STORAGE_KEY
from ml_assets.containers import runs_in
from ml_assets.executors.placement import EVERY_STEP, PlacementRules, RunPlacements, parse_overrides
from ml_assets.images import container_image
from ml_assets.placement import Placement
from ml_assets.resources.errors import PlacementError
from ml_assets.resources.pools import Override, Pool
from ml_assets.resources.provenance import OVERRIDES_TAG, RECORD_METADATA, ArtifactKind
from ml_assets.resources.sections import ContainerSettings
from tests.resources.test_provenance import RECORD

TRAIN = "registry.example/ml/train@sha256:" + "a" * 64
BUILDER = "registry.example/ml/builder@sha256:" + "b" * 64
PINNED = "registry.example/ml/old@sha256:" + "c" * 64
FOREIGN = "evil.example:443/ml/train@sha256:" + "c" * 64
INDEX = "sha256:" + "d" * 64
POOLS = {
    "cpu": Pool(memory="2Gi", run_seconds=7200),
    "gpu": Pool(cpus=4, memory="16Gi", memory_cap="40Gi", accelerators=1, fallback="cpu"),
}
CONTAINERS = ContainerSettings(executor="docker", image="images/train", builder_image=BUILDER, pool="cpu")

train_image = container_image("train", dockerfile="Dockerfile.train", sources=["ml_assets"])
other_image = container_image("other", dockerfile="Dockerfile.train", sources=["ml_assets"])


@runs_in(other_image, pool="gpu")
@dg.asset(key_prefix="reports", code_version="7")
def model() -> None: ...


@runs_in(other_image)
@dg.multi_asset(specs=[dg.AssetSpec("left", code_version="1"), dg.AssetSpec("right")])
def both() -> tuple[None, None]:
    return None, None


@dg.asset
def plain() -> None: ...


@dg.asset_check(asset=model)
def is_good() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset_check(asset="elsewhere")
def of_another_location() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@runs_in(train_image, pool="gpu")
@dg.asset_check(asset=model)
def is_fast() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


DEFINITIONS = dg.Definitions(
    assets=[train_image, other_image, model, both, plain],
    asset_checks=[is_good, is_fast, of_another_location],
    resources={STORAGE_KEY: dg.fs_io_manager},  # nothing is materialized in these tests
)


@runs_in(train_image, pool="gpu")
@dg.op
def works() -> None: ...


@dg.job
def of_ops() -> None:
    works()


@dg.op(out=dg.DynamicOut(int))
def splits() -> Iterator[dg.DynamicOutput[int]]:
    yield dg.DynamicOutput(1, "a")


@dg.op
def doubles(number: int) -> None: ...


@dg.graph
def inner() -> None:
    splits().map(doubles)


@dg.job
def of_graphs() -> None:
    inner()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance that knows both images: ``train`` belongs to an index."""
    with dg.DagsterInstance.ephemeral() as found:
        make_image(found, "images/train", TRAIN, made_index_digest=INDEX)
        make_image(found, "images/other", TRAIN.replace("train", "other"))
        yield found


def make_image(instance: dg.DagsterInstance, name: str, image: str | None, **more: str) -> None:
    facts = {
        "kind": ArtifactKind.IMAGE,
        "asset": name,
        "made_image": image,
        "data_version": f"sha256:of-{name}",
        **more,
    }
    record = RECORD.model_copy(update=facts)
    metadata = {RECORD_METADATA: dg.MetadataValue.json(record.model_dump(mode="json"))}
    key = dg.AssetKey.from_user_string(name)
    instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=metadata))


def place(
    instance: dg.DagsterInstance,
    step: str,
    *,
    settings: ContainerSettings = CONTAINERS,
    rules: Mapping[str, Override] | None = None,
    tag: str | None = None,
    launch: Mapping[str, Override] | None = None,
    job: dg.JobDefinition | None = None,
) -> Placement:
    job = job or DEFINITIONS.resolve_implicit_global_asset_job_def()
    run = dg.DagsterRun(job.name, tags={OVERRIDES_TAG: tag} if tag else {})
    every = PlacementRules(settings, POOLS, rules or {}, {"registry.example"})
    placements = RunPlacements(every, job, instance, run, launch or {})
    return placements.place(create_execution_plan(job).get_step_by_key(step))  # type: ignore[arg-type]


def test_asset_runs_in_its_image_by_digest_on_its_pool(instance: dg.DagsterInstance) -> None:
    assert place(instance, "reports__model") == Placement(
        step="reports__model",
        image=TRAIN.replace("train", "other"),
        image_asset="images/other",
        environment_digest="sha256:of-images/other",
        pool="gpu",
        cpus=4,
        memory="16Gi",
        accelerators=1,
        code_versions={"reports/model": "7"},
    )


def test_what_an_asset_does_not_say_settings_say(instance: dg.DagsterInstance) -> None:
    placement = place(instance, "plain")
    assert (placement.image, placement.index_digest, placement.pool) == (TRAIN, INDEX, "cpu")
    assert placement.run_seconds == 7200
    assert place(instance, "both").code_versions == {"left": "1"}


def test_image_of_an_image_asset_is_the_builder(instance: dg.DagsterInstance) -> None:
    placement = place(instance, "images__train")
    assert (placement.image, placement.image_asset, placement.pool) == (BUILDER, None, "cpu")
    assert placement.code_versions == {}


def test_check_runs_in_its_assets_image_on_the_usual_pool_with_a_limit(instance: dg.DagsterInstance) -> None:
    placement = place(instance, "reports__model_is_good")
    assert (placement.image_asset, placement.pool, placement.run_seconds) == ("images/other", "cpu", 1800)


def test_check_may_say_where_it_runs(instance: dg.DagsterInstance) -> None:
    placement = place(instance, "reports__model_is_fast")
    assert (placement.image_asset, placement.pool) == ("images/train", "gpu")


def test_check_of_an_asset_of_another_code_location_runs_in_the_usual_image(instance: dg.DagsterInstance) -> None:
    assert place(instance, "elsewhere_of_another_location").image_asset == "images/train"


def test_op_is_placed_as_an_asset_is(instance: dg.DagsterInstance) -> None:
    placement = place(instance, "works", job=of_ops)
    assert (placement.image_asset, placement.pool, placement.code_versions) == ("images/train", "gpu", {})


def test_settings_the_runs_tag_and_its_config_go_one_over_the_other(instance: dg.DagsterInstance) -> None:
    placement = place(
        instance,
        "reports__model",
        rules={"reports/model": Override(pool="cpu", memory="3Gi", cpus=3)},
        tag=json.dumps({"reports/model": {"memory": "4Gi", "cpus": 2}}),
        launch={"reports/model": Override(memory="5Gi")},
    )
    assert (placement.pool, placement.cpus, placement.memory, placement.accelerators) == ("cpu", 2, "5Gi", 0)


def test_one_asset_goes_before_all_and_its_key_before_its_step(instance: dg.DagsterInstance) -> None:
    launch = {
        "reports/model": Override(memory="5Gi"),
        "reports__model": Override(memory="6Gi", cpus=6),
        EVERY_STEP: Override(memory="7Gi", cpus=7, accelerators=0),
    }
    placement = place(instance, "reports__model", launch=launch)
    assert (placement.memory, placement.cpus, placement.accelerators) == ("5Gi", 6, 0)
    assert place(instance, "plain", launch=launch).memory == "7Gi"


def test_check_is_named_by_its_asset_and_itself(instance: dg.DagsterInstance) -> None:
    launch = {"reports/model:is_good": Override(pool="gpu")}
    assert place(instance, "reports__model_is_good", launch=launch).pool == "gpu"
    assert (
        place(instance, "reports__model_is_fast", launch={"reports/model:is_fast": Override(pool="cpu")}).pool == "cpu"
    )


def test_image_that_is_pinned_expects_no_code(instance: dg.DagsterInstance) -> None:
    placement = place(instance, "reports__model", launch={"reports/model": Override(image=PINNED)})
    assert (placement.image, placement.image_asset, placement.code_versions) == (PINNED, None, {})


@pytest.mark.parametrize(
    "overrides",
    [
        {"tag": json.dumps({"reports/model": {"image": FOREIGN}})},
        {"launch": {"reports/model": Override(image=FOREIGN)}},
        {"launch": {EVERY_STEP: Override(image=FOREIGN), "reports/model": Override(cpus=2)}},
    ],
)
def test_run_takes_no_image_from_a_registry_that_the_settings_do_not_allow(
    instance: dg.DagsterInstance, overrides: dict[str, Any]
) -> None:
    expected = (
        r"reports/model: the run takes its image from the registry evil\.example:443, which the settings do not allow "
        r"\(registry\.example\)\. Next: name an image of an allowed registry, or add the registry to override_reg"
    )
    with pytest.raises(PlacementError, match=expected):
        place(instance, "reports__model", **overrides)


def test_settings_may_take_an_image_from_any_registry(instance: dg.DagsterInstance) -> None:
    assert place(instance, "reports__model", rules={"reports/model": Override(image=FOREIGN)}).image == FOREIGN


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (Override(pool="moon"), "reports/model: pool 'moon' does not exist. Next: name a pool of settings.toml: cpu"),
        (Override(image="images/new"), "reports/model: the image images/new has never been materialized. Next: "),
        (Override(image="images/empty"), "the image images/empty was materialized without a container engine"),
        (
            Override(image="train@latest"),
            "reports/model: the image reference is malformed: an image reference is written",
        ),
        (Override(image="registry.example/train@sha256:0"), "reports/model: the image reference is malformed"),
    ],
)
def test_step_without_a_place_is_told_why(instance: dg.DagsterInstance, said: Override, expected: str) -> None:
    make_image(instance, "images/empty", None)
    with pytest.raises(PlacementError) as caught:
        place(instance, "reports__model", launch={"reports/model": said})
    assert expected in str(caught.value)


def test_nothing_said_anywhere_is_told(instance: dg.DagsterInstance) -> None:
    with pytest.raises(PlacementError, match=r"plain: the step has no image\. Next: pass image="):
        place(instance, "plain", settings=ContainerSettings(executor="docker", pool="cpu"))
    with pytest.raises(PlacementError, match=r"plain: the step has no pool\. Next: pass pool="):
        place(instance, "plain", settings=ContainerSettings(executor="docker", image="images/train"))


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("{", "tag ml_assets/overrides is not JSON"),
        ("[1]", "overrides are malformed"),
        ('"text"', "overrides are malformed"),
        ('{"model": {"speed": 1}}', "overrides are malformed: speed: Extra inputs"),
        ('{"model": {"memory": "lots"}}', "overrides are malformed: memory: Value error, 'lots' is not a memory size"),
    ],
)
def test_overrides_that_cannot_be_read_are_told(instance: dg.DagsterInstance, tag: str, expected: str) -> None:
    with pytest.raises(PlacementError) as caught:
        place(instance, "plain", tag=tag)
    assert expected in str(caught.value)
    assert "Next: write" in str(caught.value)


def test_overrides_of_a_run_are_read() -> None:
    assert parse_overrides({}) == {}
    assert parse_overrides({"a": {"pool": "gpu"}}) == {"a": Override(pool="gpu")}


def test_op_is_named_within_its_graph_and_its_mapped_steps_have_its_placement(instance: dg.DagsterInstance) -> None:
    rules = {"inner.splits": Override(cpus=2), "inner.doubles": Override(cpus=3), "inner.doubles[b]": Override(cpus=4)}
    placements = RunPlacements(
        PlacementRules(CONTAINERS, POOLS, rules), of_graphs, instance, dg.DagsterRun("of_graphs"), {}
    )
    plan = create_execution_plan(of_graphs)
    assert placements.place(plan.get_step_by_key("inner.splits")).cpus == 2  # type: ignore[arg-type]
    mapped = plan.get_step_by_key("inner.doubles[?]")
    assert isinstance(mapped, UnresolvedMappedExecutionStep)
    steps = {step.key: step for step in mapped.resolve({"inner.splits": {"result": ["a", "b"]}})}
    assert placements.place(steps["inner.doubles[a]"]).cpus == 3
    assert placements.place(steps["inner.doubles[b]"]).cpus == 4


def test_override_of_a_run_that_no_step_matches_is_found_with_what_may_be_meant(instance: dg.DagsterInstance) -> None:
    said = dict.fromkeys(("inner.double", "inner.doubles[a]", "inner.splits", EVERY_STEP, "zzz"), Override(cpus=2))
    rules = PlacementRules(CONTAINERS, POOLS, {"of_another_job": Override(cpus=2)})
    run = dg.DagsterRun("of_graphs", tags={OVERRIDES_TAG: '{"inner.split": {}}'})
    placements = RunPlacements(rules, of_graphs, instance, run, said)
    assert placements.unmatched(create_execution_plan(of_graphs)) == {
        "inner.split": " (did you mean inner.splits?)",
        "inner.double": " (did you mean inner.doubles?)",
        "zzz": "",
    }

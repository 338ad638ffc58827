import dagster as dg
import pandas as pd
import pytest

from ml_assets.containers import IMAGES_GROUP, ContainerSpec, image_key, runs_in
from ml_assets.datasets import dataset
from ml_assets.images import container_image
from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.provenance import CONTAINER_TAG

train_image = container_image("train", dockerfile="Dockerfile.train", sources=["ml_assets"])


@pytest.mark.parametrize(
    "spec",
    [ContainerSpec(), ContainerSpec("images/train"), ContainerSpec(pool="gpu"), ContainerSpec("images/train", "gpu")],
)
def test_spec_comes_back_from_its_tags(spec: ContainerSpec) -> None:
    assert ContainerSpec.from_tags(spec.to_tags()) == spec


def test_empty_spec_leaves_no_tag() -> None:
    assert ContainerSpec().to_tags() == {}


def test_spec_is_an_op_tag_of_the_asset_beside_its_own() -> None:
    @dataset(image=train_image, pool="gpu", op_tags={"queue": "slow"})
    def flights() -> pd.DataFrame:
        return pd.DataFrame()

    assert ContainerSpec.from_tags(flights.op.tags) == ContainerSpec("images/train", "gpu")
    assert flights.op.tags["queue"] == "slow"
    assert CONTAINER_TAG in flights.op.tags
    assert flights.op.pool == "gpu"


def test_image_is_named_by_asset_key_or_text() -> None:
    key = dg.AssetKey(["images", "train"])
    assert image_key(train_image) == image_key(key) == image_key("images/train") == key
    assert train_image.group_names_by_key[key] == IMAGES_GROUP


def test_asset_that_makes_no_image_is_refused() -> None:
    @dg.asset
    def plain() -> None: ...

    with pytest.raises(DefinitionError, match=r"image=plain is not an image asset\. Next: pass the return value"):
        dataset(image=plain)(lambda: pd.DataFrame())


@runs_in(train_image, pool="gpu")
@dg.asset
def plain(context: dg.AssetExecutionContext) -> int:
    return 1


@runs_in(train_image, pool="gpu")
@dg.multi_asset(specs=[dg.AssetSpec("left", deps=["plain"]), dg.AssetSpec("right")])
def both() -> tuple[None, None]:
    return None, None


@runs_in(train_image, pool="gpu")
@dg.asset(deps=["right"])
def reader(plain: int) -> int:
    return plain + 1


@runs_in(train_image, pool="cpu")
@dg.asset_check(asset="plain")
def is_one() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@runs_in("images/train", pool="gpu")
@dg.op
def work() -> int:
    return 2


@dg.job
def working() -> None:
    work()


@pytest.mark.parametrize("definition", [plain, both, reader, is_one, work])
def test_plain_definition_is_placed_by_runs_in(definition: dg.AssetsDefinition | dg.OpDefinition) -> None:
    op = definition if isinstance(definition, dg.OpDefinition) else definition.node_def
    assert isinstance(op, dg.OpDefinition)
    pool = "cpu" if definition is is_one else "gpu"
    assert ContainerSpec.from_tags(op.tags) == ContainerSpec("images/train", pool)
    assert op.pool == pool


def test_placed_assets_depend_on_their_image_and_on_what_they_depended_on() -> None:
    deps = {spec.key.to_user_string(): {dep.asset_key.to_user_string() for dep in spec.deps} for spec in both.specs}
    assert deps == {"left": {"plain", "images/train"}, "right": {"images/train"}}
    assert [dep.asset_key for dep in next(iter(plain.specs)).deps] == [train_image.key]
    assert {dep.asset_key.to_user_string() for dep in next(iter(reader.specs)).deps} == {
        "plain",
        "right",
        "images/train",
    }


def test_placed_definitions_still_run() -> None:
    result = dg.materialize([plain, both, reader, is_one], raise_on_error=True)
    assert result.success
    assert result.output_for_node("plain") == 1
    assert result.output_for_node("reader") == 2
    assert working.execute_in_process().output_for_node("work") == 2


def test_what_is_decorated_stays_as_it_was() -> None:
    @dg.op
    def bare() -> None: ...

    runs_in(pool="gpu")(bare)
    assert bare.tags == {}
    assert bare.pool is None


def test_definition_without_a_step_of_its_own_is_refused() -> None:
    @dg.graph_asset
    def graph() -> int:
        return work()

    with pytest.raises(DefinitionError, match="no step of its own"):
        runs_in(train_image)(graph)
